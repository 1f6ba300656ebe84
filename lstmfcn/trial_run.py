"""A trial of a sweep at work: it trains, reports, and writes what must not be lost."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from lstmfcn import storage
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.errors import ResourceError, TrainingError
from lstmfcn.history import write_metrics
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.metrics import Objective
from lstmfcn.storage import Location
from lstmfcn.tensorboard import remove_events, write_events
from lstmfcn.training import Trainer, TrainingData, TrainingSettings
from lstmfcn.training_state import STATE, TrainingState
from lstmfcn.versions import common_versions, difference

_SECONDS_BETWEEN_REPORTS = 2.0
_SECONDS_BETWEEN_STATES = 5.0
_SECONDS_BETWEEN_EVENTS = 30.0
_BEST = "best"
_WHOSE = "trial"


@dataclass(frozen=True, slots=True)
class TrialSettings:
    """What all trials of a sweep have in common."""

    objective: Objective | None
    """How epochs are compared; None leaves it to the recipe."""
    training: TrainingSettings
    judged_every: int | None
    """Epochs between two judgements of a scheduler, the same for all trials; None without judgements."""
    versions: dict[str, str] = field(default_factory=common_versions)
    """Versions on the driver."""


class TrialRun:
    """One trial, as it runs in a process."""

    def __init__(
        self,
        data: TrainingData,
        hyperparameters: Hyperparameters,
        folder: Location,
        settings: TrialSettings,
        devices: Sequence[torch.device],
    ) -> None:
        """Resume from the state that the folder holds, if there is one.

        Raises ResourceError if the versions on this node differ from the driver's.
        """
        if sentence := difference(settings.versions):
            raise ResourceError(sentence)
        self._folder, self._settings = folder, settings
        self._started = time.time()
        self._trainer = Trainer(
            data,
            hyperparameters,
            settings.training,
            objective=settings.objective,
            devices=devices,
        )
        self._error = ""
        self._is_between_epochs = True
        self._unsaved: Checkpoint | None = None
        self._state_at = self._events_at = time.monotonic()
        self._num_events = 0
        if (state := TrainingState.load(folder)) is not None:
            self._trainer.restore(state)
            remove_events(folder)  # they lag behind the state: all are written again

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to train."""
        return bool(self._error) or self._trainer.is_done

    def advance(self) -> dict[str, Any]:
        """Train until a scheduler is to judge or a sign of life is due; return a report for Tune."""
        until = time.monotonic() + _SECONDS_BETWEEN_REPORTS
        every = self._settings.judged_every
        while not self.is_done:
            self._step()
            if time.monotonic() >= until or (every and self._trainer.epoch % every == 0):
                break
        self._keep_best()
        now = time.monotonic()
        if self.is_done or now >= self._events_at + _SECONDS_BETWEEN_EVENTS:
            self._events_at = now
            self._write_events()
        if self.is_done:
            self._write_metrics()
        elif now >= self._state_at + _SECONDS_BETWEEN_STATES:
            self._state_at = now
            self._write_state()
        return self._report()

    def _step(self) -> None:
        self._is_between_epochs = False
        try:
            epoch = self._trainer.step()
        except TrainingError as error:
            self._error = str(error)
        else:
            self._unsaved = epoch.checkpoint or self._unsaved
            self._is_between_epochs = True

    def leave(self, *, for_good: bool = False) -> None:
        """End this run; keep what the trial would resume from, unless it ends `for_good`."""
        if self._is_between_epochs and not self.is_done:
            self._keep_best()
            self._write_events()
            if for_good:
                self._write_metrics()
            else:
                self._write_state()
        if for_good:
            with suppress(OSError):  # the sweep's end removes it, too
                storage.remove(self._folder, STATE)

    def save(self, folder: Location) -> None:
        """Save what this trial, or a copy of it, would resume from, its best epoch included."""
        storage.write_text(folder / _WHOSE, self._folder.name)
        self._trainer.state().save(folder)
        if self._trainer.best_epoch:
            Checkpoint.load(self._folder).save(folder / _BEST)

    def restore(self, folder: Location) -> None:
        """Resume from what `save` wrote, also for another trial: then as its copy, with its best epoch.
        A trial that has a later state of its own, since its process was lost, resumes from that.
        """
        state = TrainingState.load(folder)
        assert state is not None
        is_own = storage.read_bytes(folder / _WHOSE).decode().strip() == self._folder.name
        if is_own and self._trainer.epoch > len(state.history):
            return
        self._trainer.restore(state)
        if state.best_epoch:
            Checkpoint.load(folder / _BEST).save(self._folder)
        self._write_state()

    def _keep_best(self) -> None:
        if self._unsaved is not None:
            self._unsaved.save(self._folder)
            self._unsaved = None

    def _write_metrics(self) -> None:
        if self._trainer.history:
            write_metrics(self._folder, self._trainer.history)

    def _write_state(self) -> None:
        self._write_metrics()
        self._trainer.state().save(self._folder)

    def _write_events(self) -> None:
        if len(self._trainer.history) > self._num_events:
            write_events(self._folder, self._trainer.history, self._num_events)
            self._num_events = len(self._trainer.history)

    def _report(self) -> dict[str, Any]:
        trainer = self._trainer
        return {
            **(trainer.history[-1] if trainer.history else {}),
            "epoch": trainer.epoch,
            "best_epoch": trainer.best_epoch,
            "best_metrics": trainer.best_metrics,
            "seconds": sum(row["seconds"] for row in trainer.history),
            "started": self._started,
            "ended": time.time(),
            "worker": f"{platform.node()}:{os.getpid()}",
            "error": self._error,
            "done": self.is_done,
        }
