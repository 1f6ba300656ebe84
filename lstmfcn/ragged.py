"""Rows of any lengths, as they were read, and where they lie in a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lstmfcn.errors import DataError, counted

_CELLS_AT_ONCE = 1 << 18
"""Most cells to work on at once, which takes some 50 bytes a cell."""


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of any lengths."""

    values: NDArray[np.float32]
    """Values of one row after the other, NaN where one is missing."""
    lengths: NDArray[np.int64]
    """(cases,): number of values of each row, at least one."""

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def of(cls, matrix: NDArray[np.float32]) -> Self:
        """Return the rows of a matrix, all of one length: (cases, timepoints)."""
        return cls(matrix.ravel(), np.full(len(matrix), matrix.shape[1]))

    @classmethod
    def joined(cls, parts: Sequence[Ragged]) -> Ragged:
        """Return the rows of all parts, one part after the other."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([part.values for part in parts]), np.concatenate([part.lengths for part in parts])
        )

    def split(self, channels: int, place: Place) -> Ragged:
        """Make each channel of each row a row of its own. Raises DataError for a row that can't be split."""
        uneven = self.lengths % channels != 0
        if uneven.any():
            row = int(np.argmax(uneven))
            values = counted(int(self.lengths[row]), "value")
            raise DataError(f"{place.row(row)} has {values}, which {channels} channels can't share evenly")
        return Ragged(self.values, np.repeat(self.lengths // channels, channels))

    def refuse_open_ends(self, place: Place) -> None:
        """Raise DataError for a row that ends with a missing value: where several channels share it, what is
        missing may be any channel's.
        """
        is_open = np.isnan(self.values[self.lengths.cumsum() - 1])
        if is_open.any():
            raise DataError(
                f"{place.row(int(np.argmax(is_open)))} ends with a missing value;"
                " without a header all channels of a row have as many cells, and the last one holds a value"
            )

    def blocks(self, cells_of_row: int) -> Iterator[tuple[int, Ragged]]:
        """Yield the rows in blocks, small enough for work that takes `cells_of_row` cells a row, each with
        the index of its first row.
        """
        at_once = max(1, _CELLS_AT_ONCE // cells_of_row)
        ends = self.lengths.cumsum()
        for start in range(0, len(self), at_once):
            lengths = self.lengths[start : start + at_once]
            end = ends[start + len(lengths) - 1]
            yield start, Ragged(self.values[end - lengths.sum() : end], lengths)


@dataclass(frozen=True, slots=True)
class Place:
    """Where some rows lie in a file, for sentences on them."""

    source: str
    first_row: int
    columns: Sequence[int]
    """The column of each value, from 1."""
    channels: int = 1
    """Number of channels that every row is split into."""

    def row(self, index: int) -> str:
        """Return the beginning of a sentence on one of the rows, counted from 0."""
        return f"{self.source}: row {self.first_row + index}"

    def sentence(self, at: int, num_values: int, width: int, gap: int | None, length: int | None) -> str:
        """Return a sentence on what is wrong with the channel at position `at`, of `width` cells: it has too
        few values, more than the network's length, or a gap at a time step.
        """
        row, channel = divmod(at, self.channels)
        where = self.row(row)
        of_channel = "" if self.channels == 1 else f" in channel {channel + 1}"
        if num_values < 2:
            found = "1 value" if num_values else "no values"
            return f"{where} has {found}{of_channel}; a series has at least 2"
        if gap is None:
            most = f"{num_values} values{of_channel} where the network takes at most {length}"
            return f"{where} has {most}; --length resample, in training, takes any number"
        missing = f"{where}, column {self.columns[channel * width + gap]} is missing, and values follow"
        return f"{missing}; --missing interpolate, in training, fills that"
