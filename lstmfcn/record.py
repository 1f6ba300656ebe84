"""sweep.json: what a sweep is computed from, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from lstmfcn import storage
from lstmfcn.errors import MissingDataError, OutputError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.plan import Plan
from lstmfcn.storage import Location

RECORD = "sweep.json"
_WHOSE = "the sweep's "

_MAY_CHANGE = {
    "num_trials",
    "target",
    "time_budget",
    "max_concurrent_trials",
    "cpus_per_trial",
    "gpus_per_trial",
    "max_failures",
    "ensemble",
    "calibrate",
}
"""Settings of a plan that may change when its sweep is resumed."""


class Record(BaseModel):
    """What a sweep is, and what came of it."""

    model_config = ConfigDict(extra="forbid")

    plan: Plan
    search_space: dict[str, Any]
    points: list[Hyperparameters] = []
    """Hyperparameters that are tried first."""
    data: str
    """Digest of the training and the validation set."""
    checkpoint: str = ""
    """Digest of the checkpoint that trials start from; empty for random weights."""
    description: str
    """Description of the training set, in words."""
    versions: dict[str, str]
    seconds: float = 0.0
    """Seconds from the call to the results, of all runs of the sweep together."""
    best_trial: int | None = None

    @classmethod
    def read(cls, output: Location) -> Self:
        """Read sweep.json. Raises OutputError where there is no sweep."""
        try:
            return cls.model_validate_json(storage.read_bytes(output / RECORD))
        except (MissingDataError, ValidationError):
            raise OutputError(f"{output} holds no {RECORD} of a sweep") from None

    def write(self, output: Location) -> None:
        """Write sweep.json."""
        storage.write_text(output / RECORD, self.model_dump_json(indent=2))

    def refuse_other(self, other: Record) -> None:
        """Raise OutputError if `other`, which is to resume this sweep, differs in what must not change."""
        before, now = (record.plan.model_dump(exclude=_MAY_CHANGE) for record in (self, other))
        refuse_changed(before, now, _WHOSE)
        if self.data != other.data:
            raise differing("the sweep's training or validation data has changed")
        # Compared after the data, by whose number a recipe chooses a part of the space.
        refuse_changed({"search_space": self.search_space}, {"search_space": other.search_space}, _WHOSE)
        if self.points != other.points:
            raise differing("the points that the sweep tries first have changed")
        if self.checkpoint != other.checkpoint:
            raise differing("the checkpoint that the sweep's trials start from has changed")


def refuse_changed(before: Mapping[str, object], now: Mapping[str, object], whose: str = "") -> None:
    """Raise OutputError if a setting of what is to be resumed has changed; `whose` comes before its name."""
    for name, value in before.items():
        if now[name] != value:
            raise differing(f"{whose}{name} has changed: it was {value}, now it is {now[name]}")


def differing(how: str) -> OutputError:
    """Return the error about what is to be resumed by a command that differs in something."""
    return OutputError(f"--resume: {how}; --overwrite starts over")
