"""Running a training in a folder: what it leaves there, and what it would resume from.

In the folder: the checkpoint of the best epoch, metrics.csv, learning-curve.png, training.json (what was
trained from what) and the state of the last epoch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from lstmfcn import history, plots, storage
from lstmfcn.calibration import calibrated
from lstmfcn.checkpoint import CHECKPOINT, Checkpoint
from lstmfcn.dataset import Dataset, digest
from lstmfcn.errors import MissingDataError, OutputError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.recipe import RecipeName
from lstmfcn.record import differing, refuse_changed
from lstmfcn.scaling import ScalingMethod
from lstmfcn.storage import Location
from lstmfcn.tasks import TaskName
from lstmfcn.training import ClassWeight, Epoch, Trainer, TrainingPrecision
from lstmfcn.training_state import STATE, TrainingState
from lstmfcn.treatment import LengthTreatment, MissingTreatment
from lstmfcn.versions import installed

RECORD = "training.json"
RESULT_NAMES = (CHECKPOINT, RECORD)

_SECONDS_BETWEEN_WRITES = 5.0


class TrainingRecord(BaseModel):
    """The settings of a training, its data, checkpoint and versions, as training.json holds them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hyperparameters: Hyperparameters
    task: TaskName
    recipe: RecipeName
    class_weight: ClassWeight
    scaling: ScalingMethod
    missing: MissingTreatment
    length: LengthTreatment
    seed: int
    precision: TrainingPrecision
    data: str
    """Digest of the scaled training and validation set."""
    checkpoint: str
    """Digest of the checkpoint that it started from; empty for random weights."""
    versions: dict[str, str]

    @classmethod
    def of(cls, trainer: Trainer) -> Self:
        """Return the record of a trainer."""
        data, settings = trainer.data, trainer.settings
        return cls(
            hyperparameters=trainer.hyperparameters,
            task=data.train.task,
            recipe=settings.recipe,
            class_weight=settings.class_weight,
            scaling=data.scaling.method,
            missing=data.train.treatment.missing,
            length=data.train.treatment.length,
            seed=settings.seed,
            precision=settings.precision,
            data=digest(data.train, *([] if data.valid is None else [data.valid])),
            checkpoint="" if data.start is None else data.start.checkpoint.digest(),
            versions=installed("torch"),
        )

    @classmethod
    def read(cls, output: Location) -> Self:
        """Read training.json. Raises OutputError if the folder holds none of a training."""
        try:
            return cls.model_validate_json(storage.read_bytes(output / RECORD))
        except (MissingDataError, ValidationError):
            raise OutputError(f"--resume: {output} holds no {RECORD} of a training") from None

    def write(self, output: Location) -> None:
        """Write training.json."""
        storage.write_text(output / RECORD, self.model_dump_json(indent=2))

    def refuse_other(self, other: TrainingRecord) -> None:
        """Raise OutputError if `other`, which is to resume this training, differs in more than its epochs."""
        refuse_changed(self._settings, other._settings)
        if self.data != other.data:
            raise differing("the training or validation data has changed")
        if self.checkpoint != other.checkpoint:
            raise differing("the checkpoint that the training started from has changed")
        # Hyperparameters come last, for recipe and data choose some of them.
        before, now = (one.hyperparameters.model_dump(exclude={"epochs"}) for one in (self, other))
        refuse_changed(before, now)

    @property
    def _settings(self) -> dict[str, object]:
        return self.model_dump(exclude={"hyperparameters", "data", "checkpoint", "versions"})


class TrainingRun:
    """Runs a trainer's epochs, and keeps in a folder what comes of them."""

    def __init__(self, trainer: Trainer, output: Location) -> None:
        self._trainer, self._record, self._output = trainer, TrainingRecord.of(trainer), output
        self._best: Checkpoint | None = None
        self._is_recorded = False
        self._is_between_epochs = True
        self._written = time.monotonic()

    def resume(self) -> None:
        """Resume from what the folder holds.

        Raises OutputError if that is no training, another one, or one that has done more epochs.
        """
        TrainingRecord.read(self._output).refuse_other(self._record)
        state = TrainingState.load(self._output)
        if state is not None and len(state.history) > self._record.hyperparameters.epochs:
            raise OutputError(
                f"--resume: {len(state.history)} epochs are done; epochs is"
                f" {self._record.hyperparameters.epochs}, and must be at least as many"
            )
        if state is not None:
            self._best = replace(Checkpoint.load(self._output), temperature=1.0)
            self._trainer.restore(state)
        self._record.write(self._output)
        self._is_recorded = True

    def epochs(self) -> Iterator[Epoch]:
        """Train the epochs that are left, one for each item that is taken, and write every five seconds
        what a killed training would resume from.
        """
        while not self._trainer.is_done:
            self._is_between_epochs = False
            epoch = self._trainer.step()
            self._keep(epoch)
            self._is_between_epochs = True
            if time.monotonic() >= self._written + _SECONDS_BETWEEN_WRITES:
                self._write(self._best)
                self._written = time.monotonic()
            yield epoch

    def _keep(self, epoch: Epoch) -> None:
        # An interrupted run may have kept an epoch after its last state. This run comes to the same epoch or,
        # where the learning rate depends on how many epochs there are to be, to a different one.
        if epoch.checkpoint and (
            self._best is None or self._trainer.is_better(epoch.checkpoint.metrics, self._best.metrics)
        ):
            self._best = epoch.checkpoint

    def _write(self, best: Checkpoint | None) -> None:
        if not self._is_recorded:
            storage.remove(self._output, STATE)  # left by another training, which is overwritten
            self._record.write(self._output)
            self._is_recorded = True
        if best is not None:
            best.save(self._output)
        history.write_metrics(self._output, self._trainer.history)
        if self._is_between_epochs:
            self._trainer.state().save(self._output)

    def finish(self, calibrate_on: Dataset | None = None) -> Checkpoint | None:
        """Write the results so far, after interruptions too; return the best epoch's checkpoint, if any."""
        if self._best is None:
            return None
        best = replace(self._best, hyperparameters=self._record.hyperparameters)
        if calibrate_on is not None:
            best = calibrated(best, calibrate_on)
        self._write(best)
        picture = plots.learning_curve(self._trainer.history, best.epoch)
        storage.write_bytes(self._output / "learning-curve.png", picture)
        return best
