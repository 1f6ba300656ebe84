"""A checkpoint that training starts from: its best weights, its network and its scaling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn, Self

import torch
from torch import Tensor

from lstmfcn.checkpoint import Checkpoint
from lstmfcn.dataset import ClassLabels, Dataset, read_further
from lstmfcn.ensemble import Ensemble, load_checkpoint
from lstmfcn.errors import CheckpointError, HyperparameterError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.identifiers import NO_IDENTIFIERS, Identifiers
from lstmfcn.scaling import ScalingMethod
from lstmfcn.search_space import Choice, SearchSpace
from lstmfcn.storage import Location
from lstmfcn.tasks import TaskName
from lstmfcn.treatment import LengthTreatment, MissingTreatment

CHOSEN = ("lr", "batch_size", "epochs")
"""Hyperparameters that a training chooses for itself, as in the reference product; the others are the
checkpoint's."""

_BY_CLASS = ("linear.weight", "linear.bias")


@dataclass(frozen=True, slots=True)
class Start:
    """A checkpoint whose weights a training starts from, with a fresh optimiser."""

    checkpoint: Checkpoint

    @classmethod
    def load(cls, directory: Location) -> Self:
        """Read a checkpoint of one network. Raises CheckpointError."""
        checkpoint = load_checkpoint(directory)
        if isinstance(checkpoint, Ensemble):
            raise CheckpointError(
                f"{directory} is an ensemble of {len(checkpoint.members)} networks; training starts from one"
                " of the folders in it"
            )
        return cls(checkpoint)

    def read_training(
        self, path: Location, identifiers: Identifiers = NO_IDENTIFIERS, *, new_classes: bool
    ) -> Dataset:
        """The training channel, in the checkpoint's classes. Raises DataError, for a label of none of them
        too, unless new classes are to be added.
        """
        known = self.checkpoint
        return read_further(
            path,
            known.classes,
            known.length,
            known.task,
            identifiers,
            known.treatment,
            new_classes=new_classes,
        )

    def hyperparameters(self, given: Hyperparameters) -> Hyperparameters:
        """What is given for lr, batch_size and epochs, with the checkpoint's network.

        Raises HyperparameterError when another network is given.
        """
        for name, own in self._network.items():
            if name in given.model_fields_set and (value := getattr(given, name)) != own:
                _refuse(name, own, f"{value:g}")
        return given.model_copy(update=self._network)

    def search_space(self, space: SearchSpace) -> SearchSpace:
        """The space with the checkpoint's network. Raises HyperparameterError when it has another one."""
        for name, own in self._network.items():
            domain = space.domains.get(name, Choice((own,)))
            if domain != Choice((own,)):
                _refuse(name, own, str(domain.described()))
        return space.completed(self._network)

    def refuse_other(
        self,
        *,
        scaling: ScalingMethod | None,
        task: TaskName | None,
        channels: int | None = None,
        missing: MissingTreatment | None = None,
        length: LengthTreatment | None = None,
    ) -> None:
        """Raise HyperparameterError when something else than the checkpoint's is given."""
        own_and_given = {
            "scaling": (self.checkpoint.scaling.method, scaling),
            "task": (self.checkpoint.task, task),
            "channels": (self.checkpoint.channels, channels),
            "missing": (self.checkpoint.treatment.missing, missing),
            "length": (self.checkpoint.treatment.length, length),
        }
        for name, (own, given) in own_and_given.items():
            if given not in (None, own):
                raise HyperparameterError(
                    f"{name} is {own} in the checkpoint that training starts from, got {given}"
                )

    @property
    def _network(self) -> dict[str, float]:
        return self.checkpoint.hyperparameters.model_dump(exclude=set(CHOSEN))

    def weights(self, fresh: Mapping[str, Tensor], classes: ClassLabels) -> dict[str, Tensor]:
        """The checkpoint's for a network of these classes, among which are its own; `fresh` weights for what
        else there is, that is the rows of new classes in the linear layer.
        """
        weights = dict(self.checkpoint.weights)
        if len(classes) == len(self.checkpoint.classes):
            return weights
        rows = torch.tensor([classes.names.index(name) for name in self.checkpoint.classes.names])
        for name in _BY_CLASS:
            weights[name] = fresh[name].index_copy(0, rows, weights[name])
        return weights


def _refuse(name: str, own: float, value: str) -> NoReturn:
    raise HyperparameterError(
        f"hyperparameter {name} is {own:g} in the checkpoint that training starts from, got {value};"
        f" only {', '.join(CHOSEN)} can be chosen"
    )
