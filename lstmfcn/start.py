"""A checkpoint that training starts from: its best weights, its network and its scaling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn, Self

import torch
from torch import Tensor

from lstmfcn.checkpoint import Checkpoint
from lstmfcn.classes import ClassLabels
from lstmfcn.ensemble import Ensemble, load_checkpoint
from lstmfcn.errors import CheckpointError, DataError, HyperparameterError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.search_space import Choice, SearchSpace
from lstmfcn.storage import Location

CHOSEN = ("lr", "batch_size", "epochs")
"""Hyperparameters that a training chooses for itself, as in the reference product; the others are the
checkpoint's."""

_BY_CLASS = ("linear.weight", "linear.bias")


@dataclass(frozen=True, slots=True)
class Start:
    """A checkpoint whose weights a training starts from, with a fresh optimiser."""

    checkpoint: Checkpoint

    @classmethod
    def load(cls, directory: Location | str) -> Self:
        """Read a checkpoint of one network. Raises CheckpointError."""
        checkpoint = load_checkpoint(directory)
        if isinstance(checkpoint, Ensemble):
            raise CheckpointError(
                f"{directory} is an ensemble of {len(checkpoint.members)} networks; training starts from one"
                " of the folders in it"
            )
        return cls(checkpoint)

    def hyperparameters(self, given: Hyperparameters) -> Hyperparameters:
        """Return the given lr, batch_size and epochs with the checkpoint's network.

        Raises HyperparameterError when another network is given.
        """
        for name, own in self._network_hyperparameters.items():
            if name in given.model_fields_set and (value := getattr(given, name)) != own:
                _refuse(name, own, f"{value:g}")
        return given.model_copy(update=self._network_hyperparameters)

    def search_space(self, space: SearchSpace) -> SearchSpace:
        """Return the space with the checkpoint's network. Raises HyperparameterError if it has another."""
        for name, own in self._network_hyperparameters.items():
            domain = space.domains.get(name, Choice((own,)))
            if domain != Choice((own,)):
                _refuse(name, own, str(domain.described()))
        return space.completed(self._network_hyperparameters)

    def refuse_other(self, given: Mapping[str, object]) -> None:
        """Raise HyperparameterError if `given`, by the names of a TrainingPlan, has another scaling, task,
        number of channels or treatment than the checkpoint.
        """
        known = self.checkpoint
        all_own = {
            "scaling": known.scaling.method,
            "task": known.task,
            "channels": known.channels,
            "missing": known.treatment.missing,
            "length": known.treatment.length,
        }
        for name, own in all_own.items():
            if given.get(name) not in (None, own):
                raise HyperparameterError(
                    f"{name} is {own} in the checkpoint that training starts from, got {given[name]}"
                )

    @property
    def _network_hyperparameters(self) -> dict[str, float]:
        return self.checkpoint.hyperparameters.model_dump(exclude=set(CHOSEN))

    def weights(self, fresh: Mapping[str, Tensor], classes: ClassLabels) -> dict[str, Tensor]:
        """Return the checkpoint's weights for a network of these classes, which include its own; in the
        linear layer, the rows of new classes are those of the `fresh` weights. Raises DataError when classes
        are missing.
        """
        weights = dict(self.checkpoint.weights)
        own = self.checkpoint.classes
        if classes.names == own.names:
            return weights
        if not set(own.names) <= set(classes.names):
            raise DataError(
                f"classes: the data has {classes} where those of the checkpoint, {own}, are expected;"
                " read_further reads a file for it"
            )
        rows = torch.tensor([classes.names.index(name) for name in own.names])
        for name in _BY_CLASS:
            weights[name] = fresh[name].index_copy(0, rows, weights[name])
        return weights


def _refuse(name: str, own: float, value: str) -> NoReturn:
    raise HyperparameterError(
        f"hyperparameter {name} is {own:g} in the checkpoint that training starts from, got {value};"
        f" only {', '.join(CHOSEN)} can be chosen"
    )
