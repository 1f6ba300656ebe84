"""Rows of any lengths, as they were read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lstmfcn.errors import DataError, counted
from lstmfcn.origin import Place

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
