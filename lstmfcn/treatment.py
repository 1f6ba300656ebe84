"""How the values in a row become a series: its channels, and what becomes of missing values and of unequal
lengths; the same in training and prediction.

A missing value is NaN. If lengths may differ, a channel ends with its last value that is there. Each channel
of each row is worked out by itself, so that it gets the same bits among whatever others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from lstmfcn.errors import DataError

MissingTreatment: TypeAlias = Literal["refuse", "interpolate"]
LengthTreatment: TypeAlias = Literal["equal", "pad", "resample"]

_CELLS_AT_ONCE = 1 << 18
"""What is in between takes some 50 bytes a cell."""


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of any lengths."""

    values: NDArray[np.float32]
    """Of one row after the other, NaN where one is missing."""
    lengths: NDArray[np.int64]
    """(cases,): how many are each row's, at least one."""

    @classmethod
    def of(cls, matrix: NDArray[np.float32]) -> Self:
        """Rows of one length: (cases, timepoints)."""
        return cls(matrix.ravel(), np.full(len(matrix), matrix.shape[1]))

    @classmethod
    def joined(cls, parts: Sequence[Ragged]) -> Ragged:
        """The rows of all parts."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([part.values for part in parts]), np.concatenate([part.lengths for part in parts])
        )

    def split(self, channels: int, place: Place) -> Ragged:
        """Each channel of each row as a row of its own. Raises DataError for a row that can't be split."""
        uneven = self.lengths % channels != 0
        if uneven.any():
            row = int(np.argmax(uneven))
            where = f"{place.source}: row {place.first_row + row}"
            raise DataError(
                f"{where} has {self.lengths[row]} values, which {channels} channels can't share evenly"
            )
        return Ragged(self.values, np.repeat(self.lengths // channels, channels))

    def refuse_open_ends(self, place: Place) -> None:
        """Raise DataError for a row that ends with a missing value: where several channels share it, what is
        missing may be any channel's.
        """
        is_open = np.isnan(self.values[self.lengths.cumsum() - 1])
        if is_open.any():
            raise DataError(
                f"{place.source}: row {place.first_row + int(np.argmax(is_open))} ends with a missing value;"
                " without a header all channels of a row have as many cells, and the last one holds a value"
            )

    def blocks(self, cells_of_row: int) -> Iterator[tuple[int, Ragged]]:
        """Some rows at a time, and the index of the first, for work on so many cells a row."""
        at_once = max(1, _CELLS_AT_ONCE // cells_of_row)
        ends = self.lengths.cumsum()
        for start in range(0, len(self.lengths), at_once):
            lengths = self.lengths[start : start + at_once]
            end = ends[start + len(lengths) - 1]
            yield start, Ragged(self.values[end - lengths.sum() : end], lengths)


@dataclass(frozen=True, slots=True)
class Place:
    """Where some rows lie in a file, for sentences on them."""

    source: str
    first_row: int
    columns: Sequence[int]
    """Of each value, from 1."""
    channels: int = 1
    """Into which every row is split."""
    num_before: int = 0
    """Channels of the rows from the first on."""

    def after(self, num_channels: int) -> Place:
        """The place of what follows so many channels."""
        return replace(self, num_before=self.num_before + num_channels)

    def sentence(self, at: int, num_values: int, width: int, gap: int | None, length: int | None) -> str:
        """On a channel, of `width` cells, that no treatment makes one of that length: it has too few or too
        many values, or a gap at a time step.
        """
        row, channel = divmod(self.num_before + at, self.channels)
        where = f"{self.source}: row {self.first_row + row}"
        of_channel = "" if self.channels == 1 else f" in channel {channel + 1}"
        if num_values < 2:
            found = "1 value" if num_values else "no values"
            return f"{where} has {found}{of_channel}; a series has at least 2"
        if gap is None:
            most = f"{num_values} values{of_channel} where the network takes at most {length}"
            return f"{where} has {most}; --length resample, in training, takes any number"
        missing = f"{where}, column {self.columns[channel * width + gap]} is missing, and values follow"
        return f"{missing}; --missing interpolate, in training, fills that"


class Treatment(BaseModel):
    """Of the values in a row; by default they are one channel, and none may be missing or too many."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: int | None = Field(1, ge=1)
    """That follow each other in a row; None for those that a header names, and one without."""
    missing: MissingTreatment = "refuse"
    """interpolate: a gap is filled linearly between its neighbours, at the ends with the nearest value."""
    length: LengthTreatment = "equal"
    """pad: a series that is shorter than the network's length ends with NaN, which scaling turns into zeros.
    resample: it is interpolated linearly onto that length, and so is a longer one."""

    def __str__(self) -> str:
        return f"missing values {self.missing}, lengths {self.length}"

    @property
    def takes_rows_as_they_are(self) -> bool:
        """Whether there is nothing to do, since nothing may be missing."""
        return self.missing == "refuse" and self.length == "equal"

    @property
    def takes_any_length(self) -> bool:
        """Whether rows may have fewer or more values than others."""
        return self.length != "equal"

    def fixed(self, num_values: int | None) -> int | None:
        """How many values rows must have, if they must; None if they needn't, or it is unknown."""
        return None if self.takes_any_length else num_values

    def __call__(self, rows: Ragged, num_values: int | None, place: Place) -> NDArray[np.float32]:
        """Rows as read -> series: (cases, num_values); or, for None, with channels as long as the longest, at
        whose length the others end with NaN: `resized` is what is left to do then.

        Raises DataError for a channel without values, with a gap that isn't to be filled, or of another
        length than is taken.
        """
        channels, num_cases = self.channels or 1, len(rows.lengths)
        if channels > 1:
            rows, place = rows.split(channels, place), replace(place, channels=channels)
        length = None if num_values is None else num_values // channels
        return self._treated(rows, length, place).reshape(num_cases, -1)

    def resized(self, series: NDArray[np.float32], num_values: int) -> NDArray[np.float32]:
        """Series whose channels may end with NaN, (cases, values) -> (cases, num_values)."""
        channels = self.channels or 1
        by_channel = series.reshape(len(series) * channels, -1)
        is_there = ~np.isnan(by_channel)
        rows = Ragged(by_channel[is_there], is_there.sum(axis=1))
        return self._of_length(rows, num_values // channels).reshape(len(series), -1)

    def _treated(self, rows: Ragged, length: int | None, place: Place) -> NDArray[np.float32]:
        usual = length or max(2, int(rows.lengths[0]))
        if (rows.lengths != usual).any() or np.isnan(rows.values).any():
            blocks = rows.blocks(max(1, len(rows.values) // len(rows.lengths)))
            rows = Ragged.joined([self._completed(block, length, place.after(at)) for at, block in blocks])
        if length is None:
            return _padded(rows, int(rows.lengths.max()))
        return self._of_length(rows, length)

    def _of_length(self, rows: Ragged, length: int) -> NDArray[np.float32]:
        if self.length == "resample" and (rows.lengths != length).any():
            return np.concatenate([_resampled(block, length) for _, block in rows.blocks(length)])
        return _padded(rows, length)

    def _completed(self, rows: Ragged, length: int | None, place: Place) -> Ragged:
        """To the end of each series, without gaps."""
        starts = rows.lengths.cumsum() - rows.lengths
        row_of = np.repeat(np.arange(len(starts)), rows.lengths)
        steps = np.arange(len(row_of)) - starts[row_of]
        is_there = ~np.isnan(rows.values)
        first = np.minimum.reduceat(np.where(is_there, steps, len(steps)), starts)
        last = np.maximum.reduceat(np.where(is_there, steps, -1), starts)
        lengths = last + 1 if self.takes_any_length else rows.lengths
        is_inside = steps < lengths[row_of]
        gaps = np.flatnonzero(is_inside & ~is_there)
        is_open = np.zeros(len(starts), bool)  # with a gap that isn't to be filled
        if self.missing == "refuse":
            is_open[row_of[gaps]] = True
        is_long = lengths > (length if length and self.length == "pad" else lengths)
        is_faulty = (last < 0) | (lengths < 2) | is_open | is_long
        if is_faulty.any():
            row = int(np.argmax(is_faulty))
            gap = int(np.argmin(is_there[starts[row] :])) if is_open[row] else None
            num_values = int(lengths[row]) if last[row] >= 0 else 0
            raise DataError(place.sentence(row, num_values, int(rows.lengths[row]), gap, length))
        values = rows.values
        if len(gaps):
            of = row_of[gaps]
            nearest = np.clip(gaps, (starts + first)[of], (starts + last)[of])
            known = np.flatnonzero(is_there)
            values = values.copy()
            values[gaps] = np.interp(nearest, known, values[known])
        return Ragged(values[is_inside], lengths)


def _padded(rows: Ragged, length: int) -> NDArray[np.float32]:
    """Filled up with NaN to a length that none exceeds: (cases, length)."""
    if len(rows.values) == len(rows.lengths) * length:
        return rows.values.reshape(-1, length)
    series = np.full((len(rows.lengths), length), np.nan, np.float32)
    series[np.arange(length) < rows.lengths[:, None]] = rows.values
    return series


def _resampled(rows: Ragged, length: int) -> NDArray[np.float32]:
    """Interpolated at `length` places at equal distances from the first value to the last."""
    lengths = rows.lengths[:, None]
    starts = lengths.cumsum(axis=0) - lengths
    places = np.arange(length) * (lengths - 1) / (length - 1)
    left = places.astype(np.int64)
    share = places - left
    right = np.minimum(left + 1, lengths - 1)
    values = rows.values.astype(np.float64)
    before, after = values[starts + left], values[starts + right]
    # A value that is met exactly stays as it is, minus zero too.
    mixed = np.where(share == 0, before, before * (1 - share) + after * share)
    series: NDArray[np.float32] = mixed.astype(np.float32)
    return series


UNTREATED = Treatment()
