"""The networks that benchmarks measure."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lstmfcn.checkpoint import Checkpoint
from lstmfcn.classes import ClassLabels
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.model import LSTMFCN
from lstmfcn.scaling import Scaling

LENGTH = 100
"""Steps of a series, where only one length is measured."""
NETWORKS: dict[str, dict[str, Any]] = {
    "default": {},
    "long": {"kernel_size_1": 32},
    "small": {f"filters_{i}": 4 for i in (1, 2, 3)} | {f"kernel_size_{i}": 3 for i in (1, 2, 3)},
}
"""Hyperparameters other than the defaults, by name."""


def make_checkpoint(network: str, length: int = LENGTH) -> Checkpoint:
    """Return an untrained network of NETWORKS whose batch normalisation has seen data."""
    torch.manual_seed(0)
    hyperparameters = Hyperparameters(**NETWORKS[network])
    classes = ClassLabels(list("abcde"))
    model = LSTMFCN(len(classes), length, hyperparameters)
    model(torch.randn(64, length))
    return Checkpoint(
        hyperparameters=hyperparameters,
        classes=classes,
        length=length,
        scaling=Scaling(),
        epoch=1,
        metrics={},
        weights=model.state_dict(),
    )


def make_csv(num_rows: int) -> bytes:
    """Return rows of LENGTH values, each of 15 significant digits."""
    values = np.random.default_rng(0).normal(size=(num_rows, LENGTH))
    return "".join(",".join(f"{value:.15g}" for value in row) + "\n" for row in values).encode()
