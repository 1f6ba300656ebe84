"""A trained network as one directory: weights as safetensors, everything else as JSON.

`checkpoint.json` names the weights file by its digest and is renamed into place last, so a directory
that has one is whole. Nothing is ever unpickled.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import TypeVar

import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from lstmfcn import storage
from lstmfcn.classes import ClassLabels
from lstmfcn.errors import CheckpointError, DataError, MissingCheckpointError, MissingDataError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.model import LSTMFCN
from lstmfcn.scaling import Scaling
from lstmfcn.series import Matrix
from lstmfcn.storage import Location, location
from lstmfcn.tasks import TaskName, num_outputs
from lstmfcn.treatment import UNTREATED, Treatment
from lstmfcn.versions import installed

_Whole = TypeVar("_Whole")

CHECKPOINT = "checkpoint.json"
FORMAT_VERSION = 1


class _Document(BaseModel):
    """The content of checkpoint.json."""

    model_config = ConfigDict(extra="forbid")

    format_version: int
    versions: dict[str, str]
    """Versions of the packages that wrote it."""
    weights: str
    """Name of the weights file beside this one."""
    sha256: str
    """Digest of the weights file."""
    hyperparameters: Hyperparameters
    classes: list[str] = Field(min_length=2)
    length: int = Field(ge=2)
    scaling: Scaling
    epoch: int
    metrics: dict[str, float]
    temperature: float = Field(1.0, gt=0)
    task: TaskName = "multiclass"
    treatment: Treatment = UNTREATED

    @model_validator(mode="after")
    def _fits_its_channels(self) -> _Document:
        channels = self.treatment.channels
        if channels is None:
            raise ValueError("treatment.channels is no number")
        if not self.scaling.fits(channels):
            raise ValueError(f"scaling has no mean and deviation for each of the {channels} channels")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A network after one epoch, with all that is needed to use it."""

    hyperparameters: Hyperparameters
    classes: ClassLabels
    length: int
    """Values in each channel of a series."""
    scaling: Scaling
    epoch: int
    metrics: Mapping[str, float]
    """Metrics of that epoch: train_loss, train_accuracy, and with validation valid_loss, valid_accuracy."""
    weights: Mapping[str, Tensor]
    """Weights on the CPU, by the names of LSTMFCN's parameters and buffers."""
    temperature: float = 1.0
    """Divisor of the logits before they become probabilities."""
    task: TaskName = "multiclass"
    treatment: Treatment = UNTREATED
    """How the values in a row are treated, in training and so in prediction."""

    @property
    def channels(self) -> int:
        """Channels of a series."""
        return self.treatment.num_channels

    @property
    def num_values(self) -> int:
        """Values in a row, of all channels of a series together."""
        return self.channels * self.length

    def scaled(self, series: Matrix) -> Matrix:
        """Return series as the network takes them, from series as read; (cases, num_values) both."""
        return self.scaling(series, self.channels)

    def build_model(self) -> LSTMFCN:
        """Return the network with these weights, on the CPU, in evaluation mode."""
        model = self._empty_model()
        model.load_state_dict(self.weights, assign=True)
        return model.eval()

    def digest(self) -> str:
        """Return a digest that is the same for checkpoints that predict the same."""
        described = [
            self.hyperparameters.model_dump_json(exclude={"lr", "batch_size", "epochs"}),
            *self.classes.names,
            self.scaling.model_dump_json(),
            str(self.temperature),
            self.task,
            self.treatment.model_dump_json(),
        ]
        content = hashlib.sha256(safetensors.torch.save(dict(self.weights)))
        content.update("\n".join(described).encode())
        return content.hexdigest()

    def _empty_model(self) -> LSTMFCN:
        """Return the network without storage: nothing is initialised and no random number is drawn."""
        with torch.device("meta"):
            return LSTMFCN(
                num_outputs(self.task, len(self.classes)), self.length, self.hyperparameters, self.channels
            )

    def save(self, directory: Location | str) -> None:
        """Write the directory; what it held before stays whole until the new checkpoint is."""
        directory = location(directory)
        content = safetensors.torch.save(dict(self.weights))
        digest = hashlib.sha256(content).hexdigest()
        name = f"weights-{digest[:16]}.safetensors"
        document = _Document(
            format_version=FORMAT_VERSION,
            versions=installed("torch"),
            weights=name,
            sha256=digest,
            hyperparameters=self.hyperparameters,
            classes=list(self.classes.names),
            length=self.length,
            scaling=self.scaling,
            epoch=self.epoch,
            metrics=dict(self.metrics),
            temperature=self.temperature,
            task=self.task,
            treatment=self.treatment,
        )
        storage.write_bytes(directory / name, content)
        storage.write_text(directory / CHECKPOINT, document.model_dump_json(indent=2))
        weights = fnmatch.filter(storage.names(directory), "weights-*.safetensors")
        storage.remove(directory, *(stale for stale in weights if stale != name))

    @classmethod
    def load(cls, directory: Location | str) -> Checkpoint:
        """Read a directory written by `save`. Raises CheckpointError."""
        place = location(directory)
        return read_whole(place, lambda raw: cls.named_by(raw, place))

    @classmethod
    def named_by(cls, raw: bytes, directory: Location) -> Checkpoint:
        """Return the checkpoint that a checkpoint.json of the directory describes. Raises CheckpointError."""
        document = _read_document(raw, directory / CHECKPOINT)
        weights = _read_weights(directory / PurePath(document.weights).name, document.sha256)
        checkpoint = cls(
            hyperparameters=document.hyperparameters,
            classes=ClassLabels(document.classes),
            length=document.length,
            scaling=document.scaling,
            epoch=document.epoch,
            metrics=document.metrics,
            weights=weights,
            temperature=document.temperature,
            task=document.task,
            treatment=document.treatment,
        )
        _refuse_other_shapes(checkpoint, directory)
        return checkpoint


def read_whole(directory: Location, read: Callable[[bytes], _Whole]) -> _Whole:
    """Return what `read` makes of a directory's checkpoint.json. If it fails because the file was replaced
    meanwhile, read again.
    """
    raw = _raw_document(directory)
    try:
        return read(raw)
    except CheckpointError:
        if _raw_document(directory) == raw:
            raise
        return read_whole(directory, read)


def _raw_document(directory: Location) -> bytes:
    try:
        return storage.read_bytes(directory / CHECKPOINT)
    except MissingDataError:
        raise MissingCheckpointError(f"{directory} is not a checkpoint: it has no {CHECKPOINT}") from None
    except DataError as error:
        raise CheckpointError(str(error)) from None


def refuse_other_version(found: int, path: Location) -> None:
    """Raise CheckpointError for a document of another format version than FORMAT_VERSION."""
    if found != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {found}; this version of lstmfcn reads {FORMAT_VERSION}"
        )


def _read_document(raw: bytes, path: Location) -> _Document:
    class Version(BaseModel):
        format_version: int

    try:
        refuse_other_version(Version.model_validate_json(raw).format_version, path)
        return _Document.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the document"
        raise CheckpointError(f"{path} is damaged: {place}: {first['msg']}") from None


def _read_weights(path: Location, sha256: str) -> dict[str, Tensor]:
    try:
        content = storage.read_bytes(path)
    except MissingDataError:
        raise CheckpointError(f"{path} is missing; the checkpoint names it as its weights") from None
    except DataError as error:
        raise CheckpointError(str(error)) from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise CheckpointError(f"{path} is damaged: its SHA-256 is not the one that {CHECKPOINT} names")
    try:
        return safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from None


def _refuse_other_shapes(checkpoint: Checkpoint, directory: Location) -> None:
    expected = {name: tensor.shape for name, tensor in checkpoint._empty_model().state_dict().items()}
    found = {name: tensor.shape for name, tensor in checkpoint.weights.items()}
    if expected != found:
        wrong = sorted(
            name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
        )
        raise CheckpointError(f"{directory}: the weights {', '.join(wrong)} do not fit the hyperparameters")
