"""The three tasks: what a network's outputs mean, its loss, and what it predicts.

- multiclass: one class of several; an output for each, softmax and cross-entropy.
- binary: one class of two; a single output, for the second class, with the sigmoid and binary cross-entropy.
- multilabel: any number of labels, none included; an output for each, with the same.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

TaskName: TypeAlias = Literal["binary", "multiclass", "multilabel"]

_THRESHOLD = 0.5
"""Probability above which a label, or the second of two classes, is predicted."""


def num_outputs(task: TaskName, num_classes: int) -> int:
    """Return the number of a network's outputs, and of the label columns of a file with a header."""
    return 1 if task == "binary" else num_classes


def class_logits(task: TaskName, outputs: Tensor) -> Tensor:
    """Outputs (..., outputs) -> logits (..., classes).

    For two classes the first one's logit is 0: the softmax of (0, z) is the sigmoid of z.
    """
    return functional.pad(outputs, (1, 0)) if task == "binary" else outputs


def probabilities(task: TaskName, logits: Tensor) -> Tensor:
    """Logits -> probabilities, (cases, classes) both; a row adds up to 1 unless the task is multilabel."""
    if task == "multilabel":
        # torch.sigmoid's rounding depends on a number's place in memory: the last few of many differ.
        return torch.softmax(functional.pad(logits.unsqueeze(2), (1, 0)), dim=2)[:, :, 1]
    return torch.softmax(logits, dim=1)


def loss(task: TaskName, outputs: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy in nats, over cases or, if the task is multilabel, over cases and labels.

    Outputs are (cases, outputs); targets (cases,) classes or (cases, labels) of 0 and 1. A case's loss
    is multiplied by the weight of its class, (classes,), a label's by that of its value, 0 or 1: (2, labels).
    """
    # PyTorch would divide by the sum of the weights: in a batch of one class every case would then weigh 1.
    if task != "multilabel":
        each = functional.cross_entropy(class_logits(task, outputs), targets, class_weights, reduction="none")
        return each.mean()
    each = functional.binary_cross_entropy_with_logits(outputs, targets.to(outputs), reduction="none")
    if class_weights is not None:
        each = torch.where(targets == 1, class_weights[1], class_weights[0]) * each
    return each.mean()


def num_correct(task: TaskName, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the number of cases whose class, or every label, is predicted right; shapes as in `loss`."""
    if task == "multilabel":
        return ((outputs > 0) == (targets == 1)).all(dim=1).sum()
    return (class_logits(task, outputs).argmax(dim=1) == targets).sum()


def predicted(task: TaskName, probabilities: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Probabilities (cases, classes) -> (cases,) classes or (cases, labels) of 0 and 1, as targets are."""
    if task == "multilabel":
        return (probabilities > _THRESHOLD).astype(np.int64)
    positions: NDArray[np.int64] = probabilities.argmax(axis=1)
    return positions


def as_choices(
    task: TaskName, probabilities: NDArray[np.float32], targets: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return probabilities that add up to 1 but for rounding, (choices, alternatives), and targets,
    (choices,): for labels each label of each case is a choice between 0 and 1; else they are the cases and
    classes as given.
    """
    if task != "multilabel":
        return probabilities, targets
    ones = probabilities.ravel()
    # A 1 may have been rounded from as little as 1 - 2**-25, so a label that isn't there is no impossibility.
    zeros = np.maximum(1 - ones, np.float32(2**-25))
    return np.stack([zeros, ones], axis=1), targets.ravel()


def balanced_weights(task: TaskName, targets: NDArray[np.int64], num_classes: int) -> NDArray[np.float32]:
    """Return class weights for `loss`, as scikit-learn's balanced ones: num_cases / (num_classes * cases of
    the class); each label counts as two classes, its 0 and its 1.
    """
    if task == "multilabel":
        ones = targets.sum(axis=0)
        counts, alternatives = np.stack([len(targets) - ones, ones]), 2
    else:
        counts, alternatives = np.bincount(targets, minlength=num_classes), num_classes
    weights: NDArray[np.float64] = len(targets) / (alternatives * np.maximum(counts, 1))
    return weights.astype(np.float32)
