"""The internal scaling of series: never the user's job, and stored in the checkpoint."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from lstmfcn.errors import HyperparameterError

ScalingMethod: TypeAlias = Literal["series", "training-set"]

_Deviation: TypeAlias = Annotated[FiniteFloat, Field(ge=0)]

_EPSILON = 1e-8  # as in the paper's code, against division by zero
_FELT_BELOW = 1e-3
"""Deviation below which the epsilon would distort the result, as with nanoamperes given in amperes."""
_ROUNDING = 1e-13
"""Deviation up to which a series may be flat but for rounding."""
_LIMIT = 1e4
"""Largest scaled value: beyond it the network's features would overflow, its probabilities become NaN."""


class Scaling(BaseModel):
    """z-normalisation, (value - mean) / (standard deviation + 1e-8), with the population's deviation; the
    1e-8 is left out if the deviation is below 0.001. A constant series becomes zeros, and one that deviates
    by less than 1e-13, as by rounding, becomes nearly zeros.

    `series` takes mean and deviation from each series itself, as the paper's code does; `training-set` takes
    one mean and one deviation over all values of the training set, and limits scaled values to between
    -10,000 and 10,000. Each of several channels is scaled by itself. The NaN that a padded channel ends with
    are not values; they become zeros.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: ScalingMethod = "series"
    mean: FiniteFloat | tuple[FiniteFloat, ...] = 0.0
    """Mean of the training set, one for each of several channels; unused by `series`."""
    deviation: _Deviation | tuple[_Deviation, ...] = 1.0

    def fits(self, channels: int) -> bool:
        """Return whether it suits series of this many channels."""
        sizes = {len(values) if isinstance(values, tuple) else 1 for values in (self.mean, self.deviation)}
        return self.method == "series" or sizes == {channels}

    @classmethod
    def fitted(cls, method: ScalingMethod, series: NDArray[np.float32], channels: int = 1) -> Self:
        """Return the scaling for a training set, (cases, channels * timepoints)."""
        if method not in get_args(ScalingMethod):
            known = ", ".join(get_args(ScalingMethod))
            raise HyperparameterError(f"scaling is {method!r}; it must be one of {known}")
        if method == "series":
            return cls()
        means, deviations = zip(
            *(_mean_and_deviation(channel) for channel in np.split(series, channels, axis=1)), strict=True
        )
        if channels == 1:
            return cls(method=method, mean=means[0], deviation=deviations[0])
        return cls(method=method, mean=means, deviation=deviations)

    def __call__(self, series: NDArray[np.float32], channels: int = 1) -> NDArray[np.float32]:
        """Return scaled copies of the series, (cases, channels * timepoints) both; each row is scaled
        independently of the others.
        """
        values = series.astype(np.float64).reshape(len(series), channels, series.shape[1] // channels)
        if self.method == "training-set":
            values -= np.reshape(self.mean, (-1, 1))
            values /= _divisor(np.reshape(self.deviation, (-1, 1)))
            np.clip(values, -_LIMIT, _LIMIT, out=values)
            values[np.isnan(values)] = 0.0
        elif not np.isnan(values[..., -1]).any():
            _normalise(values)
        else:
            is_padding = np.isnan(values)
            lengths = np.count_nonzero(~is_padding, axis=2)
            for length in np.unique(lengths):
                alike = lengths == length
                some = values[alike, :length]
                _normalise(some)
                values[alike, :length] = some
            values[is_padding] = 0.0
        return values.astype(np.float32).reshape(series.shape)


def _mean_and_deviation(series: NDArray[np.float32]) -> tuple[float, float]:
    values = series[~np.isnan(series)]
    if values.min() == values.max():  # the rounding of its mean would give it a deviation
        return float(values[0]), 0.0
    return float(values.mean(dtype=np.float64)), float(values.astype(np.float64).std())


def _normalise(values: NDArray[np.float64]) -> None:
    """Normalise (..., timepoints) in place."""
    values -= values[..., :1].copy()  # makes a constant series exactly 0
    values -= _mean(values)
    values /= _divisor(np.sqrt(_mean(np.square(values))))


def _divisor(deviation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what values with this deviation are divided by."""
    divisor = deviation + _EPSILON
    if (is_small := (deviation < _FELT_BELOW) & (deviation > _ROUNDING)).any():
        divisor[is_small] = deviation[is_small]
    return divisor


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over time, as numpy's own method, which is more general and slower."""
    mean: NDArray[np.float64] = np.add.reduce(values, axis=-1, keepdims=True)
    mean /= values.shape[-1]
    return mean
