"""Loss and accuracy as sums over batches, and the objective by which epochs and networks are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

import torch
from torch import Tensor

from lstmfcn import tasks
from lstmfcn.tasks import TaskName

MetricName: TypeAlias = Literal["train_loss", "train_accuracy", "valid_loss", "valid_accuracy"]
Mode: TypeAlias = Literal["max", "min"]


@dataclass(frozen=True, slots=True)
class Metrics:
    """Sums over series; they stay on the device until they are read."""

    loss_sum: Tensor
    num_correct: Tensor
    num_cases: int

    @classmethod
    def of(cls, logits: Tensor, targets: Tensor, mean_loss: Tensor, task: TaskName = "multiclass") -> Self:
        """Return the sums of a batch: logits (batch, outputs), targets as the task has them, mean loss ()."""
        with torch.no_grad():
            correct = tasks.num_correct(task, logits, targets)
            return cls(mean_loss.detach().double() * len(targets), correct, len(targets))

    @classmethod
    def total(cls, parts: Sequence[Metrics]) -> Self:
        """Return the sums of several batches together."""
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
        """Share of series whose class, or whose every label, is predicted right."""
        return int(self.num_correct) / self.num_cases


@dataclass(frozen=True, slots=True)
class Objective:
    """Which of two epochs, or of two networks, is the better one."""

    metric: MetricName
    mode: Mode

    @classmethod
    def of(cls, metric: MetricName, mode: Mode | None = None) -> Self:
        """Return an objective with the mode that suits its metric, unless one is given."""
        return cls(metric, mode or ("max" if metric.endswith("accuracy") else "min"))

    @classmethod
    def usual(cls, has_validation: bool) -> Self:
        """Return the highest valid_accuracy as objective; without validation, the lowest train_loss."""
        return cls.of("valid_accuracy" if has_validation else "train_loss")

    def score(self, metrics: Mapping[str, float]) -> tuple[float, float]:
        """Return a sort key, greater is better: the metric, then, if accuracies are equal, the lower loss."""
        value = metrics[self.metric]
        loss = metrics[self.metric.replace("accuracy", "loss")]
        return value if self.mode == "max" else -value, -loss

    def is_better(self, one: Mapping[str, float], other: Mapping[str, float]) -> bool:
        """Return whether `one` is better than `other`."""
        return self.score(one) > self.score(other)

    def reached(self, metrics: Mapping[str, float], target: float) -> bool:
        """Return whether the metric is at least as good as the target."""
        value = metrics[self.metric]
        return value >= target if self.mode == "max" else value <= target
