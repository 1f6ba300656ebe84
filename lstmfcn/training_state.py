"""What an interrupted training resumes from: one safetensors file, whose header holds the rest as JSON.

Nothing is ever unpickled.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Self

import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from lstmfcn import storage
from lstmfcn.errors import CheckpointError, DataError, MissingDataError
from lstmfcn.storage import Location

STATE = "state.safetensors"
_WEIGHTS, _MOMENTS, _GENERATORS, _HISTORY = "weights", "moments", "generators", "history"


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid")

    columns: list[str]
    """What the history has of each epoch, in the order of its tensor."""
    best_epoch: int


@dataclass(frozen=True, slots=True)
class TrainingState:
    """A training between two epochs."""

    history: list[dict[str, float]]
    """Metrics and seconds of every epoch that is done."""
    best_epoch: int
    weights: dict[str, Tensor]
    moments: list[dict[str, Tensor]]
    """Moments of the optimiser, in its order of parameters."""
    generators: dict[str, Tensor]
    """States of PyTorch's random generators: cpu, and for each GPU that trains cuda:0 and so on."""

    def save(self, directory: Location) -> None:
        """Write the state; the one that the directory held stays whole until then."""
        moments = {str(number): named for number, named in enumerate(self.moments)}
        # The history of very many epochs would be too long for the header.
        history = torch.tensor([list(epoch.values()) for epoch in self.history], dtype=torch.float64)
        groups = {
            _WEIGHTS: {"": self.weights},
            _MOMENTS: moments,
            _GENERATORS: {"": self.generators},
            _HISTORY: {"": {_HISTORY: history}},
        }
        tensors = {
            f"{group}/{part}/{name}": tensor
            for group, parts in groups.items()
            for part, named in parts.items()
            for name, tensor in named.items()
        }
        header = _Header(columns=list(self.history[0]) if self.history else [], best_epoch=self.best_epoch)
        content = safetensors.torch.save(tensors, {"training": header.model_dump_json()})
        storage.write_bytes(directory / STATE, content)

    @classmethod
    def load(cls, directory: Location) -> Self | None:
        """Read what `save` wrote; None where it wrote nothing. Raises CheckpointError for a damaged file."""
        path = directory / STATE
        try:
            content = storage.read_bytes(path)
        except MissingDataError:
            return None
        except DataError as error:
            raise CheckpointError(str(error)) from None
        try:
            tensors = safetensors.torch.load(content)
            # A safetensors file begins with its header's length in eight bytes, then the header as JSON.
            described = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
            header = _Header.model_validate_json(described["training"])
            groups: dict[str, dict[str, dict[str, Tensor]]] = defaultdict(lambda: defaultdict(dict))
            for key, tensor in tensors.items():
                group, part, name = key.split("/")
                groups[group][part][name] = tensor
            epochs = groups[_HISTORY][""][_HISTORY].tolist()
            history = [dict(zip(header.columns, row, strict=True)) for row in epochs]
        except (safetensors.SafetensorError, KeyError, ValueError) as error:
            raise CheckpointError(f"{path} is damaged: {error}") from None
        return cls(
            history,
            header.best_epoch,
            groups[_WEIGHTS][""],
            [groups[_MOMENTS][str(number)] for number in range(len(groups[_MOMENTS]))],
            groups[_GENERATORS][""],
        )
