"""Small data and networks for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lstmfcn.dataset import ClassLabels, Dataset
from lstmfcn.hyperparameters import Hyperparameters

TINY = Hyperparameters(
    hidden_size=3,
    filters_1=4,
    filters_2=4,
    filters_3=4,
    kernel_size_1=3,
    kernel_size_2=3,
    kernel_size_3=3,
    batch_size=8,
    lr=0.01,
    epochs=3,
)
LENGTH = 12


def make_dataset(num_cases: int, seed: int = 0) -> Dataset:
    """Two classes that a small network tells apart: `up` rises by 1 at a random step, `down` falls."""
    random = np.random.default_rng(seed)
    targets = np.arange(num_cases) % 2
    steps = np.arange(LENGTH) >= random.integers(3, LENGTH - 3, size=(num_cases, 1))
    series = np.where(targets[:, None] == 1, steps, -1.0 * steps) + random.normal(0, 0.05, steps.shape)
    return Dataset(series.astype(np.float32), targets, ClassLabels(["down", "up"]))


def write_csv(path: Path, dataset: Dataset, *, labelled: bool) -> Path:
    lines = []
    for target, values in zip(dataset.targets, dataset.series, strict=True):
        label = [dataset.classes.names[target]] if labelled else []
        lines.append(",".join([*label, *map(str, values)]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path
