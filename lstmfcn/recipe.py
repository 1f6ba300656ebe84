"""Recipes: how a network is trained, apart from its hyperparameters.

benchmarks/RESULTS.md says how the fast one was found, and what did not help.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, TypeAlias

from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.metrics import Objective
from lstmfcn.model import BATCH_NORM_MOMENTUM

RecipeName: TypeAlias = Literal["reference", "paper", "fast"]


class Recipe:
    """The recipe of the reference algorithm: a fixed learning rate, and the best epoch is kept."""

    whitens_kernels: ClassVar[bool] = False
    """Whether half of the first kernels begin whitened; else all are random, as in the paper."""
    weight_decay: ClassVar[float] = 0.0
    """Decay that is decoupled from the gradients (Loshchilov and Hutter, arXiv 1711.05101)."""
    batch_norm_momentum: ClassVar[float] = BATCH_NORM_MOMENTUM
    """Weight of a step's statistics in the running ones that batch normalisation predicts with."""

    def chosen(self, num_cases: int) -> dict[str, float]:
        """Return the hyperparameters that it chooses for `num_cases` training series, if not given."""
        return {}

    def completed(self, hyperparameters: Hyperparameters, num_cases: int) -> Hyperparameters:
        """Return the given hyperparameters, with what the recipe chooses for the rest."""
        given = hyperparameters.model_fields_set
        rest = {name: value for name, value in self.chosen(num_cases).items() if name not in given}
        return hyperparameters.model_copy(update=rest)

    def objective(self, has_validation: bool) -> Objective | None:
        """Return how epochs are compared; None means that the latest is kept."""
        return Objective.usual(has_validation)

    def refitted(self, hyperparameters: Hyperparameters, best_epoch: int) -> Hyperparameters:
        """Return hyperparameters to train again, without validation data, up to the epoch that was best."""
        return hyperparameters.model_copy(update={"epochs": best_epoch})

    def moves_kernels_by_muon(self, num_cases: int) -> bool:
        """Return whether Muon moves the kernels, for `num_cases` training series; Adam moves all else."""
        return False

    def learning_rate(
        self, hyperparameters: Hyperparameters, train_losses: Sequence[float], share_of_epoch: float
    ) -> float:
        """Return the learning rate at a share of the epoch that follows those with these training losses."""
        return hyperparameters.lr


class _Paper(Recipe):
    """The recipe of the paper's published code, github.com/titu1994/LSTM-FCN at 0f258c7: the learning rate
    falls when the training loss no longer does, and the epoch with the lowest one is kept.
    """

    def objective(self, has_validation: bool) -> Objective:
        return Objective.of("train_loss")

    def learning_rate(
        self, hyperparameters: Hyperparameters, train_losses: Sequence[float], share_of_epoch: float
    ) -> float:
        """Return the rate that Keras's ReduceLROnPlateau sets, with the constants of the paper's code."""
        factor, patience, delta, lowest = 0.5 ** (1 / 3), 100, 1e-4, 1e-4
        lr, least, waited = hyperparameters.lr, math.inf, 0
        for loss in train_losses:
            if loss < least - delta:
                least, waited = loss, 0
                continue
            waited += 1
            if waited >= patience and lr > lowest:
                lr, waited = max(lr * factor, lowest), 0
        return lr


class _Fast(Recipe):
    """The recipe of a fast training: fewer epochs the more series there are, in small batches, under one
    cycle of the learning rate ("Super-Convergence", Smith and Topin, arXiv 1708.07120) with weight decay, by
    Muon for hundreds of series. The last epoch is kept where there is no validation data.
    """

    whitens_kernels = True
    weight_decay = 0.3
    batch_norm_momentum = 0.1

    _EPOCHS_OF_ONE = 3400
    """Epochs for a single series; for n series they are divided by the square root of n."""
    _FEWEST_FOR_MUON = 100
    _MANY = 1000
    """Series from which on batches are larger."""
    _WARM_UP = 0.3
    """Share of the training in which the learning rate rises."""
    _FIRST_SHARE = 1 / 25
    """Share of the highest learning rate with which the cycle begins."""

    def chosen(self, num_cases: int) -> dict[str, float]:
        epochs = max(1, round(self._EPOCHS_OF_ONE / math.sqrt(num_cases)))
        return {"lr": 0.002, "batch_size": 16 if num_cases < self._MANY else 64, "epochs": epochs}

    def objective(self, has_validation: bool) -> Objective | None:
        return Objective.usual(has_validation) if has_validation else None

    def refitted(self, hyperparameters: Hyperparameters, best_epoch: int) -> Hyperparameters:
        """Return the same hyperparameters, since the cycle must run to its end."""
        return hyperparameters

    def moves_kernels_by_muon(self, num_cases: int) -> bool:
        return self._FEWEST_FOR_MUON <= num_cases < self._MANY

    def learning_rate(
        self, hyperparameters: Hyperparameters, train_losses: Sequence[float], share_of_epoch: float
    ) -> float:
        """Return a rate that rises along a cosine, then falls along one to zero."""
        done = (len(train_losses) + share_of_epoch) / hyperparameters.epochs
        if done < self._WARM_UP:
            return hyperparameters.lr * (1 - (1 - self._FIRST_SHARE) * _half_cosine(done / self._WARM_UP))
        return hyperparameters.lr * _half_cosine((done - self._WARM_UP) / (1 - self._WARM_UP))


def _half_cosine(done: float) -> float:
    """Return half of a cosine, which falls from 1 to 0 as `done` rises from 0 to 1."""
    return (1 + math.cos(math.pi * done)) / 2


RECIPES: Mapping[RecipeName, Recipe] = {"reference": Recipe(), "paper": _Paper(), "fast": _Fast()}
