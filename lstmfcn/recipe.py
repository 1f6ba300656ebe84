"""Recipes: how a network is trained, apart from its hyperparameters.

- reference: a fixed learning rate, as the reference algorithm.
- paper: the paper's published code, github.com/titu1994/LSTM-FCN at 0f258c7: the learning rate falls when the
  training loss no longer does, and the epoch with the lowest one is kept.
- fast: fewer epochs the more series there are, in small batches, under one cycle of the learning rate with
  decoupled weight decay, by Muon for hundreds of series; half of the first kernels begin whitened; the last
  epoch is kept where there is no validation data.

benchmarks/RESULTS.md says how the fast one was found, and what did not help.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.metrics import Objective

RecipeName: TypeAlias = Literal["reference", "paper", "fast"]

_PLATEAU_FACTOR = 0.5 ** (1 / 3)
_PLATEAU_PATIENCE = 100
_PLATEAU_DELTA = 1e-4
_PLATEAU_LOWEST = 1e-4

_EPOCHS_OF_ONE = 3400
"""That fast would train a single series; of n, by the square root of n fewer."""

_FEWEST_FOR_MUON = 100
_MANY = 1000
"""From so many series on, batches are larger."""

_WARM_UP = 0.3
"""Share of the training in which the learning rate rises; as in "Super-Convergence" (Smith and Topin, arXiv
1708.07120), where the cycle comes from."""
_FIRST_SHARE = 1 / 25
"""Of the learning rate, at the begin of the cycle."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained, by one of the three recipes."""

    name: RecipeName = "reference"

    def chosen(self, num_cases: int) -> dict[str, float]:
        """Hyperparameters that it chooses where the user gives none, for so many training series."""
        if self.name != "fast":
            return {}
        epochs = max(1, round(_EPOCHS_OF_ONE / math.sqrt(num_cases)))
        return {"lr": 0.002, "batch_size": 16 if num_cases < _MANY else 64, "epochs": epochs}

    def completed(self, hyperparameters: Hyperparameters, num_cases: int) -> Hyperparameters:
        """What was given, and what it chooses for the rest."""
        given = hyperparameters.model_fields_set
        rest = {name: value for name, value in self.chosen(num_cases).items() if name not in given}
        return hyperparameters.model_copy(update=rest)

    def objective(self, has_validation: bool) -> Objective | None:
        """What makes an epoch the better one; None for the later."""
        match self.name:
            case "reference":
                return Objective.usual(has_validation)
            case "paper":
                return Objective.of("train_loss")
            case "fast":
                return Objective.usual(has_validation) if has_validation else None

    def refitted(self, hyperparameters: Hyperparameters, best_epoch: int) -> Hyperparameters:
        """To train again without validation data: as far as was best with it, but by `fast` to the end of its
        cycle.
        """
        if self.name == "fast":
            return hyperparameters
        return hyperparameters.model_copy(update={"epochs": best_epoch})

    def moves_kernels_by_muon(self, num_cases: int) -> bool:
        """With so many training series; otherwise Adam moves all parameters."""
        return self.name == "fast" and _FEWEST_FOR_MUON <= num_cases < _MANY

    @property
    def whitens_kernels(self) -> bool:
        """Whether half of the first convolution's begin whitened; else all are random, as in the paper."""
        return self.name == "fast"

    @property
    def weight_decay(self) -> float:
        """Decoupled from the gradients (Loshchilov and Hutter, arXiv 1711.05101)."""
        return 0.3 if self.name == "fast" else 0.0

    @property
    def batch_norm_momentum(self) -> float:
        """Share of a step's statistics in those that batch normalisation predicts with: Keras's, which takes
        hundreds of steps to forget the untrained network, or of the last ten or so.
        """
        return 0.1 if self.name == "fast" else 0.01

    def learning_rate(
        self, hyperparameters: Hyperparameters, train_losses: Sequence[float], share_of_epoch: float
    ) -> float:
        """Within the epoch after those with these training losses."""
        match self.name:
            case "reference":
                return hyperparameters.lr
            case "paper":
                return _on_plateaus(hyperparameters.lr, train_losses)
            case "fast":
                done = (len(train_losses) + share_of_epoch) / hyperparameters.epochs
                return hyperparameters.lr * _one_cycle(done)


def _on_plateaus(lr: float, train_losses: Sequence[float]) -> float:
    """As Keras's ReduceLROnPlateau with the constants of the paper's code."""
    least, waited = math.inf, 0
    for loss in train_losses:
        if loss < least - _PLATEAU_DELTA:
            least, waited = loss, 0
            continue
        waited += 1
        if waited >= _PLATEAU_PATIENCE and lr > _PLATEAU_LOWEST:
            lr, waited = max(lr * _PLATEAU_FACTOR, _PLATEAU_LOWEST), 0
    return lr


def _one_cycle(done: float) -> float:
    """Share of the highest learning rate: up as a cosine, then down to nothing."""
    if done < _WARM_UP:
        return 1 - (1 - _FIRST_SHARE) * _half_cosine(done / _WARM_UP)
    return _half_cosine((done - _WARM_UP) / (1 - _WARM_UP))


def _half_cosine(done: float) -> float:
    """Falls from 1 to 0 as `done` rises from 0 to 1."""
    return (1 + math.cos(math.pi * done)) / 2
