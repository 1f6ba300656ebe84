"""Data to try things with: three classes of noisy waves."""

from __future__ import annotations

import numpy as np

from lstmfcn.classes import ClassLabels
from lstmfcn.dataset import Dataset


def make_waves(num_series: int, seed: int = 0, *, length: int = 100, noise: float = 10.0) -> Dataset:
    """Return series around 10, in three classes of one size (or nearly so), in random order: ten periods of a
    cosine (class 0), twenty of a sine (1), or both together (2), all of amplitude 10.

    `noise` is the standard deviation of the noise that is added to every value.
    """
    random = np.random.default_rng(seed)
    times = np.linspace(0, 1, length)
    cosine = 10 * np.cos(2 * np.pi * (10 * times - 0.5))
    sine = 10 * np.sin(2 * np.pi * (20 * times - 0.5))
    curves = 10 + np.stack([cosine, sine, cosine + sine])
    targets = random.permutation(np.arange(num_series) % len(curves))
    series = curves[targets] + random.normal(0, noise, (num_series, length))
    return Dataset(series.astype(np.float32), targets, ClassLabels(["0", "1", "2"]))
