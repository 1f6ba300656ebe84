"""Several networks as one checkpoint directory: the mean of their probabilities is the prediction.

A directory with a checkpoint for each member and a checkpoint.json that names them, written last.
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lstmfcn import storage
from lstmfcn.checkpoint import CHECKPOINT, FORMAT_VERSION, Checkpoint, read_whole, refuse_other_version
from lstmfcn.classes import ClassLabels
from lstmfcn.errors import CheckpointError
from lstmfcn.storage import Location, location
from lstmfcn.tasks import TaskName
from lstmfcn.treatment import Treatment


class _Document(BaseModel):
    """The content of an ensemble's checkpoint.json."""

    model_config = ConfigDict(extra="forbid")

    format_version: int = FORMAT_VERSION
    members: list[str] = Field(min_length=1)
    """Names of the networks' folders beside it, the best first."""


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Networks that were trained for the same classes, length and channels, the best first."""

    members: tuple[Checkpoint, ...]

    @property
    def classes(self) -> ClassLabels:
        """Classes, the same for all members."""
        return self.members[0].classes

    @property
    def length(self) -> int:
        """Values in each channel of a series."""
        return self.members[0].length

    @property
    def channels(self) -> int:
        """Channels of a series."""
        return self.members[0].channels

    @property
    def num_values(self) -> int:
        """Values in a row, of all channels of a series together."""
        return self.members[0].num_values

    @property
    def task(self) -> TaskName:
        """Task, the same for all members."""
        return self.members[0].task

    @property
    def treatment(self) -> Treatment:
        """Treatment of missing values and lengths, the same for all members."""
        return self.members[0].treatment

    def digest(self) -> str:
        """Return a digest that is the same for ensembles that predict the same."""
        digests = "\n".join(member.digest() for member in self.members)
        return hashlib.sha256(digests.encode()).hexdigest()

    def save(self, directory: Location | str) -> None:
        """Write the directory; what it held before stays whole until the new checkpoint is."""
        directory = location(directory)
        names = [f"{place}-{member.digest()[:8]}" for place, member in enumerate(self.members, 1)]
        for name, member in zip(names, self.members, strict=True):
            member.save(directory / name)
        document = _Document(members=names)
        storage.write_text(directory / CHECKPOINT, document.model_dump_json(indent=2))
        found = storage.names(directory)
        before = [*_members(found), *fnmatch.filter(found, "weights-*")]
        storage.remove(directory, *(stale for stale in before if stale not in names))


def save_best(best_first: Sequence[Checkpoint], directory: Location) -> None:
    """Write one network, or an ensemble of several. The checkpoint that the directory held stays whole until
    the new one is.
    """
    if len(best_first) > 1:
        Ensemble(tuple(best_first)).save(directory)
    else:
        best_first[0].save(directory)
        storage.remove(directory, *_members(storage.names(directory)))


def _members(names: Sequence[str]) -> list[str]:
    """Return those names that are folders of ensembles' networks."""
    return [name for name in names if re.fullmatch("[0-9]+-[0-9a-f]{8}", name)]


AnyCheckpoint: TypeAlias = Checkpoint | Ensemble


def networks(checkpoint: AnyCheckpoint) -> tuple[Checkpoint, ...]:
    """Return the one network, or all members of an ensemble."""
    return checkpoint.members if isinstance(checkpoint, Ensemble) else (checkpoint,)


def load_checkpoint(directory: Location | str) -> AnyCheckpoint:
    """Read the network or the ensemble that a directory holds. Raises CheckpointError."""
    place = location(directory)
    return read_whole(place, lambda raw: _named_by(raw, place))


def _named_by(raw: bytes, directory: Location) -> AnyCheckpoint:
    try:
        document = _Document.model_validate_json(raw)
    except ValidationError:
        return Checkpoint.named_by(raw, directory)
    refuse_other_version(document.format_version, directory / CHECKPOINT)
    members = tuple(Checkpoint.load(directory / PurePath(name).name) for name in document.members)
    if any(member.treatment != members[0].treatment for member in members):
        raise CheckpointError(f"{directory} holds networks that treat the values of a row differently")
    return Ensemble(members)
