"""Loss and accuracy as counts that add up over batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Metrics:
    """Sums over series; they stay on the device until they are read."""

    loss_sum: Tensor
    num_correct: Tensor
    num_cases: int

    @classmethod
    def of(cls, logits: Tensor, targets: Tensor, mean_loss: Tensor) -> Self:
        """The counts of one batch: logits (batch, classes), targets (batch,), mean loss ()."""
        with torch.no_grad():
            correct = (logits.argmax(dim=1) == targets).sum()
            return cls(mean_loss.detach().double() * len(targets), correct, len(targets))

    @classmethod
    def total(cls, parts: Sequence[Metrics]) -> Self:
        """The counts of several batches together."""
        return cls(
            torch.stack([part.loss_sum for part in parts]).sum(),
            torch.stack([part.num_correct for part in parts]).sum(),
            sum(part.num_cases for part in parts),
        )

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        return float(self.loss_sum) / self.num_cases

    @property
    def accuracy(self) -> float:
        """Share of series whose most probable class is theirs."""
        return int(self.num_correct) / self.num_cases
