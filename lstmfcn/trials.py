"""The trials of a sweep: the files that are written of each, so that nothing is lost, and their ranking.

A trial has a folder, trials/<number>: trial.json, its best epoch as a checkpoint, metrics.csv with a row for
each epoch, event files for TensorBoard and, until it has ended, the state that it would resume from.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from lstmfcn import storage
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.errors import CheckpointError, DataError, counted
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.metrics import MetricName, Objective
from lstmfcn.ownership import Ownership
from lstmfcn.storage import Location
from lstmfcn.training_state import STATE

Status: TypeAlias = Literal["running", "interrupted", "completed", "stopped early", "failed"]

TRIALS = "trials"
LEADERBOARD = "leaderboard.csv"
_DOCUMENT = "trial.json"
METRIC_NAMES: tuple[str, ...] = get_args(MetricName)


class Trial(BaseModel):
    """A trial, as far as it is known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int
    """Number of the trial in the order of drawing, from 1."""
    hyperparameters: Hyperparameters
    status: Status = "running"
    epoch: int = 0
    """Number of its last epoch; 0 before the first."""
    metrics: dict[str, float] = {}
    """Metrics of its last epoch."""
    best_epoch: int = 0
    """Number of the epoch whose weights are kept; 0 if no epoch was finished."""
    best_metrics: dict[str, float] = {}
    seconds: float = 0.0
    """Seconds that its epochs took together."""
    started: float = 0.0
    """Start of its last run, in seconds since 1970, as is `ended`."""
    ended: float = 0.0
    worker: str = ""
    """The process that ran it last: `<node>:<process id>`."""
    failures: int = 0
    """How often it was retried."""
    error: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing left to do for it."""
        return self.status not in ("running", "interrupted")

    @property
    def is_usable(self) -> bool:
        """Whether it has weights that it may be judged by."""
        return self.status != "failed" and self.best_epoch > 0

    @property
    def fingerprint(self) -> tuple[object, ...]:
        """A key that is equal for trials with the same network: the best epoch and its metrics."""
        return self.best_epoch, *self.best_metrics.items()

    def rank(self, objective: Objective) -> tuple[bool, float, float, int]:
        """Return a sort key, lesser is better: usable trials by their best epoch, then the others."""
        if not self.is_usable:
            return True, math.inf, math.inf, self.number
        value, tie = objective.score(self.best_metrics)
        return False, -value, -tie, self.number


class TrialFolders:
    """The folders of a sweep's trials, in the folder `root` of its output."""

    def __init__(self, output: Location) -> None:
        self.output, self.root = output, output / TRIALS
        self.ownership = Ownership(output, self.root)

    def folder(self, number: int) -> Location:
        """Return the folder of a trial."""
        return self.root / str(number)

    def write(self, trial: Trial) -> None:
        """Write what is known of a trial into its trial.json."""
        storage.write_text(self.folder(trial.number) / _DOCUMENT, trial.model_dump_json(indent=2))

    def has_ended(self, number: int) -> bool:
        """Return whether trial.json says that a trial has ended; False if it can't be read."""
        try:
            content = storage.read_bytes(self.folder(number) / _DOCUMENT)
            return Trial.model_validate_json(content).has_ended
        except (DataError, OSError, ValidationError):
            return False

    def remove_states(self, numbers: Iterable[int]) -> None:
        """Remove the states that these trials would resume from."""
        list(storage.in_parallel(lambda number: storage.remove(self.folder(number), STATE), numbers))

    def remove(self, number: int) -> None:
        """Remove a trial's folder with all that it holds."""
        storage.remove(self.root, str(number))

    def saved(self, trial: Trial) -> dict[str, Any]:
        """Return what the checkpoint in a trial's folder tells of it, as fields of `Trial`; nothing without
        one. A process saves its best epoch before it reports it.
        """
        try:
            best = Checkpoint.load(self.folder(trial.number))
        except CheckpointError:
            return {}
        told: dict[str, Any] = {"best_epoch": best.epoch, "best_metrics": dict(best.metrics)}
        if best.epoch > trial.epoch:
            told |= {"epoch": best.epoch, "metrics": dict(best.metrics)}
        return told

    def read(self) -> list[Trial]:
        """Read all trials that were drawn, by number. Raises CheckpointError for a damaged document."""
        numbers = sorted(int(name) for name in storage.names(self.root) if name.isdecimal())
        paths = [self.folder(number) / _DOCUMENT for number in numbers]
        trials = []
        for path, content in zip(paths, storage.read_all(paths, missing=b""), strict=True):
            if not content:
                continue
            try:
                trial = Trial.model_validate_json(content)
            except ValidationError as error:
                raise CheckpointError(f"{path} is damaged: {error.errors()[0]['msg']}") from None
            if trial.status == "running":  # what it reported was not written down
                trial = trial.model_copy(update=self.saved(trial))
            trials.append(trial)
        return trials


def ranked(trials: Iterable[Trial], objective: Objective) -> list[Trial]:
    """Return the trials sorted, the best first."""
    return sorted(trials, key=lambda trial: trial.rank(objective))


def write_leaderboard(output: Location, trials: Sequence[Trial]) -> None:
    """Write leaderboard.csv: a row for each trial, in the given order."""
    storage.write_table(output / LEADERBOARD, [_row(trial) for trial in trials])


def _row(trial: Trial) -> dict[str, Any]:
    last = {name: trial.metrics.get(name) for name in METRIC_NAMES}
    best = {f"best_{name}": trial.best_metrics.get(name) for name in METRIC_NAMES}
    return {
        "trial": trial.number,
        "status": trial.status,
        **trial.hyperparameters.model_dump(),
        "epoch": trial.epoch,
        **last,
        "best_epoch": trial.best_epoch or None,
        **best,
        "seconds": round(trial.seconds, 3),
        "failures": trial.failures,
        "error": trial.error,
    }


def read_leaderboard(folder: Location) -> list[tuple[Hyperparameters, dict[str, float]]]:
    """Read the hyperparameters and the best epoch's metrics of an earlier sweep's usable trials.

    A hyperparameter that an older version's leaderboard lacks gets its default. Raises DataError when there
    is no leaderboard, or a damaged one, and HyperparameterError for values that no hyperparameter can have.
    """
    path = folder / LEADERBOARD
    names, *rows = [*storage.read_rows(path)] or [[]]
    needed = ("status", "best_epoch", *(f"best_{name}" for name in METRIC_NAMES))
    if missing := [name for name in needed if name not in names]:
        raise DataError(f"{path} is no sweep's leaderboard: it has no column {missing[0]}")
    known = []
    for number, row in enumerate(rows, 2):
        if len(row) != len(names):
            raise DataError(
                f"{path}: row {number} has {counted(len(row), 'column')} where row 1 has {len(names)}"
            )
        named = dict(zip(names, row, strict=True))
        if named["status"] != "failed" and named["best_epoch"]:
            given = {name: named[name] for name in Hyperparameters.model_fields if name in named}
            best = {name: named[f"best_{name}"] for name in METRIC_NAMES}
            try:
                metrics = {name: float(value) for name, value in best.items() if value}
            except ValueError as error:
                raise DataError(f"{path}: row {number}: {error}") from None
            known.append((Hyperparameters(**given), metrics))
    return known
