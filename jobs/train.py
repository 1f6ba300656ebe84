"""Train one network: `python -m jobs.train --help`."""

from __future__ import annotations

from jobs.place import run_in_place
from lstmfcn import history, output_folder
from lstmfcn.command import (
    Count,
    HyperparameterFlags,
    LocationFlag,
    NotNegativeCount,
    Seed,
    refuse_both,
)
from lstmfcn.dataset import read_training, read_validation
from lstmfcn.devices import use_threads, visible_devices
from lstmfcn.errors import DataError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.identifiers import Identifiers
from lstmfcn.progress import Progress
from lstmfcn.recipe import Recipe, RecipeName
from lstmfcn.scaling import ScalingMethod
from lstmfcn.start import Start
from lstmfcn.tasks import TaskName
from lstmfcn.training import ClassWeight, Trainer, TrainingData, TrainingPrecision, TrainingSettings
from lstmfcn.training_run import RESULT_NAMES, TrainingRun
from lstmfcn.treatment import LengthTreatment, MissingTreatment, Treatment


def train(
    *,
    training: LocationFlag,
    validation: LocationFlag | None = None,
    output: LocationFlag,
    task: TaskName | None = None,
    channels: Count | None = None,
    id_columns: str = "",
    checkpoint: LocationFlag | None = None,
    new_classes: bool = False,
    resume: bool = False,
    hyperparameters: HyperparameterFlags = Hyperparameters(),  # noqa: B008 (frozen)
    recipe: RecipeName = "reference",
    class_weight: ClassWeight = "none",
    calibrate: bool = False,
    scaling: ScalingMethod | None = None,
    missing: MissingTreatment | None = None,
    length: LengthTreatment | None = None,
    patience: Count | None = None,
    seed: Seed = 0,
    num_cpus: Count | None = None,
    num_gpus: NotNegativeCount | None = None,
    precision: TrainingPrecision = "fp32",
    overwrite: bool = False,
) -> None:
    """Train one LSTM-FCN network and keep its best epoch.

    Writes to the output folder: checkpoint.json and the weights, metrics.csv, learning-curve.png, and what
    the training would go on from.
    The best epoch has the highest valid_accuracy; without validation data, the lowest train_loss, or as the
    recipe has it.
    Ctrl-C ends training early and keeps the best epoch so far; the same command with --resume goes on.

    ```
    python -m jobs.train --training train.csv --validation valid.csv --output model --epochs 200
    ```

    Args:
        training: CSV file, or folder of CSV files: the label first, then the series; or
            with a header, columns y_1, y_2, ... of labels and x_1, x_2, ... of series (of several channels
            x1_1, x1_2, ..., x2_1, ...).
        validation: The same, for choosing the best epoch.
        output: Folder for the results.
        task: multiclass: one class of several. binary: one of two, from a single y column of 0 and 1 or two
            labels in the first column. multilabel: any of several y columns of 0 and 1. By default binary
            for a single y column, multiclass for all else.
        channels: Channels of a series, which follow each other in a row. By default those that a header
            names, and 1 without one.
        id_columns: Positions, from 1, of columns that are neither label nor series, such as 1,2, or their
            names in a header, such as patient,visit; they are left out.
        checkpoint: Start from the weights of this checkpoint, with its network and scaling and a fresh
            optimiser, on the same or other data; only lr, batch_size and epochs can be chosen.
        new_classes: Add classes that the training data has and the checkpoint doesn't know.
        resume: Go on with the training in the output folder, after a crash or an interruption, or for more
            epochs.
        hyperparameters: The network and how it is trained.
        recipe: How it is trained: reference, with a fixed learning rate; paper, as the paper's code, which
            keeps the epoch of the lowest train_loss; fast, in a fraction of the time. What a recipe chooses
            of lr, batch_size and epochs gives way to what is given here.
        class_weight: balanced lets every class weigh alike in the training loss, however rare it is.
        calibrate: Scale the probabilities to fit the validation data; labels stay the same.
        scaling: Normalise each series by itself (series, the default), or all by the mean and deviation of
            the training set.
        missing: Refuse missing values (refuse, the default), or interpolate them linearly. Predictions then
            treat them alike.
        length: Series have one length (equal, the default); or shorter ones than the longest are padded with
            zeros once they are normalised (pad), or all are interpolated onto its length (resample).
            Predictions then treat them alike.
        patience: Stop after so many epochs without a better one.
        seed: The same seed gives the same network on the same machine with as many threads.
        num_cpus: CPUs to compute with: all of this machine or, on a cluster, one, by default.
        num_gpus: GPUs to train on, with DataParallel when more than one. All visible ones by default; on a
            cluster, none.
        precision: fp32, or bf16: 16 bits for the training step, faster where the hardware has bf16.
        overwrite: Replace the result that the output folder holds.
    """
    if num_cpus is not None:
        use_threads(num_cpus)
    refuse_both(resume=resume, overwrite=overwrite)
    if new_classes and checkpoint is None:
        raise DataError("--new-classes adds to a checkpoint's classes; add --checkpoint")
    if patience is not None and Recipe(recipe).objective(validation is not None) is None:
        raise DataError(f"--patience needs validation data with --recipe {recipe}; add --validation")
    if not resume:
        output_folder.check(output, *RESULT_NAMES, overwrite=overwrite)
    output_folder.refuse_within(output, training, validation)
    if calibrate and validation is None:
        raise DataError("--calibrate needs validation data; add --validation")
    devices = visible_devices(num_gpus)
    identifiers = Identifiers.parse(id_columns)
    start = None if checkpoint is None else Start.load(checkpoint)
    if start is None:
        treatment = Treatment(missing=missing or "refuse", length=length or "equal", channels=channels)
        train_set = read_training(training, task, identifiers, treatment)
    else:
        start.refuse_other(scaling=scaling, task=task, channels=channels, missing=missing, length=length)
        train_set = start.read_training(training, identifiers, new_classes=new_classes)
    valid_set = None
    if validation is not None:
        valid_set = read_validation(validation, train_set, identifiers)
    data = TrainingData.scaled(train_set, valid_set, scaling or "series", start)
    settings = TrainingSettings(recipe, class_weight, seed, precision)
    trainer = Trainer(data, hyperparameters, settings, patience=patience, devices=devices)
    training_run = TrainingRun(trainer, output)
    if resume:
        training_run.resume()
    print(f"training: {train_set}", flush=True)
    try:
        with Progress("training", trainer.hyperparameters.epochs, "epochs") as progress:
            progress.skip(trainer.number)
            for epoch in training_run.epochs():
                progress.advance(history.epoch_line(epoch))
    finally:
        best = training_run.finish(calibrate_on=valid_set if calibrate else None)
        if best is not None:
            print(f"best epoch: {best.epoch} of {trainer.number}, checkpoint in {output}")
            print(history.closing_lines(best.metrics), flush=True)


if __name__ == "__main__":
    run_in_place(train, "python -m jobs.train")
