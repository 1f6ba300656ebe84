"""Train one network: `python -m jobs.train --help`."""

from __future__ import annotations

from dataclasses import replace

from lstmfcn import history, storage
from lstmfcn.calibration import calibrated
from lstmfcn.checkpoint import FILE_NAME, Checkpoint
from lstmfcn.command import Count, HyperparameterFlags, LocationFlag, Seed, run
from lstmfcn.dataset import read_labelled, read_training
from lstmfcn.devices import visible_devices
from lstmfcn.errors import DataError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.identifiers import Identifiers
from lstmfcn.progress import Progress
from lstmfcn.recipe import Recipe, RecipeName
from lstmfcn.scaling import ScalingMethod
from lstmfcn.tasks import TaskName
from lstmfcn.training import ClassWeight, Epoch, TrainingPrecision, fit


def train(
    *,
    training: LocationFlag,
    validation: LocationFlag | None = None,
    output: LocationFlag,
    task: TaskName | None = None,
    id_columns: str = "",
    hyperparameters: HyperparameterFlags = Hyperparameters(),  # noqa: B008 (frozen)
    recipe: RecipeName = "reference",
    class_weight: ClassWeight = "none",
    calibrate: bool = False,
    scaling: ScalingMethod = "series",
    patience: Count | None = None,
    seed: Seed = 0,
    num_gpus: int | None = None,
    precision: TrainingPrecision = "fp32",
    overwrite: bool = False,
) -> None:
    """Train one LSTM-FCN network and keep its best epoch.

    Writes to the output folder: checkpoint.json and the weights, metrics.csv, learning-curve.png.
    The best epoch has the highest valid_accuracy; without validation data, the lowest train_loss.
    Ctrl-C ends training early and keeps the best epoch so far.

    ```
    python -m jobs.train --training train.csv --validation valid.csv --output model --epochs 200
    ```

    Args:
        training: CSV file, or folder of CSV files: the label first, then the series; or
            with a header, columns y_1, y_2, ... of labels and x_1, x_2, ... of series.
        validation: The same, for choosing the best epoch.
        output: Folder for the results.
        task: multiclass: one class of several. binary: one of two, from a single y column of 0 and 1 or two
            labels in the first column. multilabel: any of several y columns of 0 and 1. By default binary
            for a single y column, multiclass for all else.
        id_columns: Positions, from 1, of columns that are neither label nor series, such as 1,2, or their
            names in a header, such as patient,visit; they are left out.
        hyperparameters: The network and how it is trained.
        recipe: How it is trained: reference, with a fixed learning rate; paper, as the paper's code, which
            keeps the epoch of the lowest train_loss; fast, in a tenth of the epochs. What a recipe chooses of
            lr, batch_size and epochs gives way to what is given here.
        class_weight: balanced lets every class weigh alike in the training loss, however rare it is.
        calibrate: Scale the probabilities to fit the validation data; labels stay the same.
        scaling: Normalise each series by itself, or all by the mean and deviation of the training set.
        patience: Stop after so many epochs without a better one.
        seed: The same seed gives the same network on the same machine.
        num_gpus: GPUs to train on, with DataParallel when more than one. All visible ones by default.
        precision: fp32, or bf16: 16 bits for the training step, faster where the hardware has bf16.
        overwrite: Replace the result that the output folder holds.
    """
    storage.check_output(output, FILE_NAME, overwrite=overwrite)
    if calibrate and validation is None:
        raise DataError("--calibrate needs validation data; add --validation")
    devices = visible_devices(num_gpus)
    identifiers = Identifiers.parse(id_columns)
    train_set = read_training(training, task, identifiers)
    valid_set = None
    if validation is not None:
        valid_set = read_labelled(
            validation, train_set.classes, train_set.length, train_set.task, identifiers
        )
    hyperparameters = Recipe(recipe).completed(hyperparameters, len(train_set))
    print(f"training: {train_set}", flush=True)
    epochs: list[Epoch] = []
    best: Checkpoint | None = None
    try:
        with Progress("training", hyperparameters.epochs, "epochs") as progress:
            for epoch in fit(
                train_set,
                valid_set,
                hyperparameters,
                recipe=recipe,
                class_weight=class_weight,
                scaling=scaling,
                seed=seed,
                patience=patience,
                devices=devices,
                precision=precision,
            ):
                progress.advance(history.epoch_line(epoch))
                best = epoch.checkpoint or best
                epochs.append(replace(epoch, checkpoint=None))
    finally:
        if best is not None:
            if calibrate and valid_set is not None:
                best = calibrated(best, valid_set)
            best.save(output)
            history.write_history(output, epochs, best.epoch)
            print(f"best epoch: {best.epoch} of {len(epochs)}, checkpoint in {output}")


if __name__ == "__main__":
    run(train, "python -m jobs.train")
