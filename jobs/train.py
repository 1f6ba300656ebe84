"""Train one network: `python -m jobs.train --help`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Group, Parameter

from jobs.channels import read_channels
from jobs.place import run_in_place
from lstmfcn import history, output_folder
from lstmfcn.command import (
    Count,
    HyperparameterFlags,
    LocationFlag,
    NotNegativeCount,
)
from lstmfcn.devices import use_threads, visible_devices
from lstmfcn.errors import DataError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.plan import TrainingPlan
from lstmfcn.progress import Progress
from lstmfcn.recipe import RECIPES
from lstmfcn.start import Start
from lstmfcn.training import Trainer, TrainingData
from lstmfcn.training_run import RESULT_NAMES, TrainingRun

PlanFlags = Annotated[TrainingPlan, Parameter(name="*", group=Group("Training", sort_key=2))]


def train(
    *,
    training: LocationFlag,
    validation: LocationFlag | None = None,
    output: LocationFlag,
    id_columns: str = "",
    checkpoint: LocationFlag | None = None,
    new_classes: bool = False,
    resume: bool = False,
    hyperparameters: HyperparameterFlags = Hyperparameters(),
    plan: PlanFlags = TrainingPlan(),
    patience: Count | None = None,
    num_cpus: Count | None = None,
    num_gpus: NotNegativeCount | None = None,
    overwrite: bool = False,
) -> None:
    """Train one LSTM-FCN network and keep its best epoch.

    Writes to the output folder: checkpoint.json and the weights, metrics.csv, learning-curve.png, and what
    --resume needs. The best epoch has the highest valid_accuracy; without validation data, or with
    --recipe paper, the lowest train_loss. With --recipe fast and no validation data it is the last one.
    Ctrl-C ends training early and keeps the best epoch so far; the same command with --resume goes on.

    ```
    python -m jobs.train --training train.csv --validation valid.csv --output model --recipe fast
    ```

    Args:
        training: CSV file, or folder of CSV files: the label first, then the series; or
            with a header, columns y_1, y_2, ... of labels and x_1, x_2, ... of series (of several channels
            x1_1, x1_2, ..., x2_1, ...).
        validation: The same, for choosing the best epoch.
        output: Folder for the results.
        id_columns: Positions, from 1, of columns that are neither label nor series, such as 1,2, or their
            names in a header, such as patient,visit; they are left out.
        checkpoint: Start from the weights of this checkpoint, with its network and scaling and a fresh
            optimiser, on the same or other data; only lr, batch_size and epochs can be chosen.
        new_classes: Add classes that the training data has and the checkpoint doesn't know.
        resume: Go on with the training in the output folder, after a crash or an interruption, or for more
            epochs.
        hyperparameters: The network and how it is trained.
        plan: What the data are and how they are learnt.
        patience: Stop after so many epochs without a better one.
        num_cpus: CPUs to compute with; by default all of this machine's or, on a cluster, one.
        num_gpus: GPUs to train on, with DataParallel when more than one: each then gets its share of every
            batch, so small batches, as of --recipe fast, train best on one. All visible ones by default;
            on a cluster, none.
        overwrite: Replace the result that the output folder holds.
    """
    use_threads(num_cpus)
    output_folder.refuse_resume_and_overwrite(resume=resume, overwrite=overwrite)
    if patience is not None and RECIPES[plan.recipe].objective(validation is not None) is None:
        raise DataError(f"--patience needs validation data with --recipe {plan.recipe}; add --validation")
    if not resume:
        output_folder.check(output, *RESULT_NAMES, overwrite=overwrite)
    output_folder.refuse_within(output, training, validation)
    if plan.calibrate and validation is None:
        raise DataError("--calibrate needs validation data; add --validation")
    devices = visible_devices(num_gpus)
    start = None if checkpoint is None else Start.load(checkpoint)
    train_set, valid_set = read_channels(
        training, validation, id_columns, plan, start, new_classes=new_classes
    )
    data = TrainingData.scaled(train_set, valid_set, plan.scaling, start)
    trainer = Trainer(data, hyperparameters, plan.training, patience=patience, devices=devices)
    training_run = TrainingRun(trainer, output)
    if resume:
        training_run.resume()
    print(f"training: {train_set}", flush=True)
    try:
        with Progress("training", trainer.hyperparameters.epochs, "epochs") as progress:
            progress.skip(trainer.epoch)
            for epoch in training_run.epochs():
                progress.advance(history.epoch_line(epoch))
    finally:
        best = training_run.finish(calibrate_on=valid_set if plan.calibrate else None)
        if best is not None:
            print(f"best epoch: {best.epoch} of {trainer.epoch}, checkpoint in {output}")
            print(history.closing_lines(best.metrics), flush=True)


if __name__ == "__main__":
    run_in_place(train, "python -m jobs.train")
