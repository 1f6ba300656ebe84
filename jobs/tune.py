"""Tune hyperparameters: `python -m jobs.tune --help`."""

from __future__ import annotations

from lstmfcn import storage, tuning
from lstmfcn.cluster import connection
from lstmfcn.command import Count, LocationFlag, NotNegative, Positive, Seed, run
from lstmfcn.dataset import read_labelled, read_training
from lstmfcn.progress import Progress
from lstmfcn.scaling import ScalingMethod
from lstmfcn.search_space import DEFAULT_RANGES, SearchSpace
from lstmfcn.training import TrainingPrecision


def tune(
    *,
    training: LocationFlag,
    validation: LocationFlag | None = None,
    output: LocationFlag,
    num_trials: Count = 8,
    search_space: LocationFlag | None = None,
    cpus_per_trial: Positive = 1,
    gpus_per_trial: NotNegative = 0,
    scaling: ScalingMethod = "series",
    precision: TrainingPrecision = "fp32",
    seed: Seed = 0,
    overwrite: bool = False,
) -> None:
    """Tune hyperparameters: train many networks in parallel on Ray and keep the best.

    Draws trials at random from the search space and stops those that fall behind (ASHA).
    Writes to the output folder: best/ (the checkpoint of the best epoch of the best trial),
    leaderboard.csv (a row for each trial) and trials/. Without validation data, a fifth of
    every class of the training data is held out.

    ```
    python -m jobs.tune --training train.csv --validation valid.csv --output sweep --num-trials 8
    ```

    Args:
        training: CSV file, or folder of CSV files: the label first, then the series. No header.
        validation: The same, for comparing epochs and trials.
        output: Folder for the results; on a cluster, one that all its nodes share.
        num_trials: Networks to train.
        search_space: YAML file of what to try; README.md describes it.
        cpus_per_trial: CPUs for each trial, which are also its threads.
        gpus_per_trial: GPUs for each trial: a fraction shares one, several train with DataParallel.
            Without this flag trials run on CPUs, also where there are GPUs.
        scaling: Normalise each series by itself, or all by the mean and deviation of the training set.
        precision: fp32, or bf16: 16 bits for the training step, faster where the hardware has bf16.
        seed: The same seed draws the same trials.
        overwrite: Replace the result that the output folder holds.
    """
    storage.check_output(output, *tuning.RESULT_NAMES, overwrite=overwrite)
    space = (
        SearchSpace.from_mapping(DEFAULT_RANGES) if search_space is None else SearchSpace.read(search_space)
    )
    train_set = read_training(training)
    if validation is None:
        train_set, valid_set = train_set.split(share=0.2, seed=seed)
    else:
        valid_set = read_labelled(validation, train_set.classes, train_set.length)
    print(f"training: {train_set}; {num_trials} trials of at most {space.most_epochs} epochs", flush=True)
    storage.remove(output, *tuning.RESULT_NAMES)
    with connection(), Progress("sweep", num_trials, "trials") as progress:
        ranked = tuning.sweep(
            train_set,
            valid_set,
            space,
            output,
            num_trials=num_trials,
            cpus_per_trial=cpus_per_trial,
            gpus_per_trial=gpus_per_trial,
            scaling=scaling,
            precision=precision,
            seed=seed,
            on_end=lambda trial: progress.advance(_line(trial)),
        )
    print(
        f"best trial: {ranked[0].number}, checkpoint in {output / 'best'}, all in leaderboard.csv beside it"
    )


def _line(trial: tuning.Trial) -> str:
    if trial.error:
        return f"trial {trial.number} failed: {trial.error}"
    metrics = trial.metrics
    return (
        f"trial {trial.number} {trial.status} after {metrics['epoch']} epochs, {trial.seconds:.1f} s;"
        f" best epoch: {metrics['best_epoch']} valid_accuracy: {metrics['best_valid_accuracy']:.8f}"
        f" valid_loss: {metrics['best_valid_loss']:.8f}"
    )


if __name__ == "__main__":
    run(tune, "python -m jobs.tune")
