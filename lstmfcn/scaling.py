"""The internal scaling of series: never the user's job, and stored in the checkpoint."""

from __future__ import annotations

from typing import Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

ScalingMethod: TypeAlias = Literal["series", "training-set"]

_EPSILON = 1e-8  # as in the paper's code, against division by zero


class Scaling(BaseModel):
    """z-normalisation, (value - mean) / (standard deviation + 1e-8), with the population's deviation.

    `series` takes mean and deviation from each series itself, as the paper's code does;
    `training-set` takes one mean and one deviation over all values of the training set.
    The NaN that a padded series ends with are no values; they become zeros.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: ScalingMethod = "series"
    mean: float = 0.0
    """Of the training set; unused by `series`."""
    deviation: float = 1.0

    @classmethod
    def fitted(cls, method: ScalingMethod, series: NDArray[np.float32]) -> Self:
        """The scaling for a training set."""
        if method == "series":
            return cls()
        values = series[~np.isnan(series)]
        return cls(
            method=method,
            mean=float(values.mean(dtype=np.float64)),
            deviation=float(values.astype(np.float64).std()),
        )

    def __call__(self, series: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scaled copies of the series, each worked out from its own row alone: (cases, timepoints) both."""
        if not np.isnan(series[:, -1]).any():
            return self._scaled(series)
        scaled = np.zeros_like(series)
        lengths = np.count_nonzero(~np.isnan(series), axis=1)
        for length in np.unique(lengths):
            rows = lengths == length
            scaled[rows, :length] = self._scaled(series[rows, :length])
        return scaled

    def _scaled(self, series: NDArray[np.float32]) -> NDArray[np.float32]:
        values = series.astype(np.float64)
        if self.method == "training-set":
            values -= self.mean
            values /= self.deviation + _EPSILON
            limits = np.finfo(np.float32)
            np.clip(values, limits.min, limits.max, out=values)
        else:
            first = values[:, :1].copy()
            values -= first  # z-norm ignores a shift; this one makes a constant series exactly 0
            values -= values.mean(axis=1, keepdims=True)
            values /= np.sqrt(np.square(values).mean(axis=1, keepdims=True)) + _EPSILON
        return values.astype(np.float32)
