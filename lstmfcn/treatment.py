"""How the values in a row become a series: its channels, and what becomes of missing values and of unequal
lengths; the same in training and prediction.

A missing value is NaN. If lengths may differ, a channel ends with its last value that is there. Each channel
of each row is treated by itself, so that it gets the same bits whatever other rows it comes with.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from lstmfcn.errors import DataError
from lstmfcn.origin import Place
from lstmfcn.ragged import Ragged

MissingTreatment: TypeAlias = Literal["refuse", "interpolate"]
LengthTreatment: TypeAlias = Literal["equal", "pad", "resample"]


class Treatment(BaseModel):
    """How the values in a row become a series; by default one channel, with no gaps and of equal length."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: int | None = Field(1, ge=1)
    """Number of channels, which follow each other in a row; None for as many as a header names, or else 1."""
    missing: MissingTreatment = "refuse"
    """interpolate: a gap is filled linearly between its neighbours, at the ends with the nearest value."""
    length: LengthTreatment = "equal"
    """pad: a series that is shorter than the network's length ends with NaN, which scaling turns into zeros.
    resample: it is interpolated linearly onto that length, and so is a longer one."""

    @property
    def num_channels(self) -> int:
        """Number of channels of a row, if no header says otherwise."""
        return self.channels or 1

    def __str__(self) -> str:
        return f"missing values {self.missing}, lengths {self.length}"

    @property
    def takes_rows_as_they_are(self) -> bool:
        """Whether there is nothing to do, since no value may be missing and no length differ."""
        return self.missing == "refuse" and self.length == "equal"

    @property
    def takes_any_length(self) -> bool:
        """Whether rows may have fewer or more values than others."""
        return self.length != "equal"

    def required(self, num_values: int | None) -> int | None:
        """Return the number of values that rows must have; None if lengths may differ or it is unknown."""
        return None if self.takes_any_length else num_values

    def __call__(self, rows: Ragged, num_values: int | None, place: Place) -> NDArray[np.float32]:
        """Return rows as series: (cases, num_values). If `num_values` is None, all channels get the length of
        the longest, where the others end with NaN; `resized` is then to give them their final length.

        Raises DataError for a channel with fewer than two values, with a gap that isn't to be filled, or of a
        length that isn't taken.
        """
        channels, num_cases = self.num_channels, len(rows)
        if channels > 1:
            rows, place = rows.split(channels, place), replace(place, channels=channels)
        length = None if num_values is None else num_values // channels
        return self._treated(rows, length, place).reshape(num_cases, -1)

    def refuse_missing(self, series: NDArray[np.float32]) -> None:
        """Raise DataError for a series, of (cases, num_values), with a value that is missing or infinite.
        Only a padded channel may end with NaN.
        """
        is_wrong = ~np.isfinite(series)
        if not is_wrong.any():
            return
        if self.length == "pad":
            is_end = np.isnan(series).reshape(len(series), self.num_channels, -1)
            is_end = np.logical_and.accumulate(is_end[..., ::-1], axis=2)[..., ::-1]
            is_end &= ~is_end.all(axis=2, keepdims=True)
            is_wrong &= ~is_end.reshape(series.shape)
        if (found := is_wrong.any(axis=1)).any():
            raise DataError(f"series {int(found.argmax()) + 1} has a value that is missing or infinite")

    def resized(self, series: NDArray[np.float32], num_values: int) -> NDArray[np.float32]:
        """Return series, whose channels may end with NaN, in their final length: (cases, num_values)."""
        channels = self.num_channels
        by_channel = series.reshape(len(series) * channels, -1)
        is_there = ~np.isnan(by_channel)
        rows = Ragged(by_channel[is_there], is_there.sum(axis=1))
        return self._of_length(rows, num_values // channels).reshape(len(series), -1)

    def _treated(self, rows: Ragged, length: int | None, place: Place) -> NDArray[np.float32]:
        usual = length or max(2, int(rows.lengths[0]))
        if (rows.lengths != usual).any() or np.isnan(rows.values).any():
            blocks = rows.blocks(max(1, len(rows.values) // len(rows.lengths)))
            rows = Ragged.joined([self._completed(block, length, place, at) for at, block in blocks])
        if length is None:
            return _padded(rows, int(rows.lengths.max()))
        return self._of_length(rows, length)

    def _of_length(self, rows: Ragged, length: int) -> NDArray[np.float32]:
        if self.length == "resample" and (rows.lengths != length).any():
            return np.concatenate([_resampled(block, length) for _, block in rows.blocks(length)])
        return _padded(rows, length)

    def _completed(self, rows: Ragged, length: int | None, place: Place, num_before: int) -> Ragged:
        """Return the rows, each up to the end of its series, with gaps filled; `num_before` rows come before
        them. Raises DataError.
        """
        starts = rows.lengths.cumsum() - rows.lengths
        row_of = np.repeat(np.arange(len(starts)), rows.lengths)
        steps = np.arange(len(row_of)) - starts[row_of]
        is_there = ~np.isnan(rows.values)
        first = np.minimum.reduceat(np.where(is_there, steps, len(steps)), starts)
        last = np.maximum.reduceat(np.where(is_there, steps, -1), starts)
        lengths = last + 1 if self.takes_any_length else rows.lengths
        is_inside = steps < lengths[row_of]
        gaps = np.flatnonzero(is_inside & ~is_there)
        is_open = np.zeros(len(starts), bool)  # rows with a gap that isn't to be filled
        if self.missing == "refuse":
            is_open[row_of[gaps]] = True
        is_long = lengths > (length if length and self.length == "pad" else lengths)
        is_faulty = (last < 0) | (lengths < 2) | is_open | is_long
        if is_faulty.any():
            row = int(np.argmax(is_faulty))
            gap = int(np.argmin(is_there[starts[row] :])) if is_open[row] else None
            num_values = int(lengths[row]) if last[row] >= 0 else 0
            raise DataError(place.sentence(num_before + row, num_values, int(rows.lengths[row]), gap, length))
        values = rows.values
        if len(gaps):
            of = row_of[gaps]
            nearest = np.clip(gaps, (starts + first)[of], (starts + last)[of])
            known = np.flatnonzero(is_there)
            values = values.copy()
            values[gaps] = np.interp(nearest, known, values[known])
        return Ragged(values[is_inside], lengths)


def _padded(rows: Ragged, length: int) -> NDArray[np.float32]:
    """Return rows, none of them longer than `length`, filled up with NaN: (cases, length)."""
    if len(rows.values) == len(rows.lengths) * length:
        return rows.values.reshape(-1, length)
    series = np.full((len(rows.lengths), length), np.nan, np.float32)
    series[np.arange(length) < rows.lengths[:, None]] = rows.values
    return series


def _resampled(rows: Ragged, length: int) -> NDArray[np.float32]:
    """Return rows interpolated at `length` equidistant places from the first value to the last."""
    lengths = rows.lengths[:, None]
    starts = lengths.cumsum(axis=0) - lengths
    places = np.arange(length) * (lengths - 1) / (length - 1)
    left = places.astype(np.int64)
    share = places - left
    right = np.minimum(left + 1, lengths - 1)
    values = rows.values.astype(np.float64)
    before, after = values[starts + left], values[starts + right]
    # A value that a place meets exactly stays as it is, even minus zero.
    mixed = np.where(share == 0, before, before * (1 - share) + after * share)
    series: NDArray[np.float32] = mixed.astype(np.float32)
    return series


UNTREATED = Treatment()
