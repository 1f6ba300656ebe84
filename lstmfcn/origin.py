"""Where rows come from, for sentences on them: file, row and column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """Where rows come from."""

    source: str
    """What errors call the file."""
    first_row: int = 1
    cut: tuple[int, ...] = ()
    """The file's columns that have been cut out of the rows already, from 1, in order."""

    def row(self, index: int) -> str:
        """Return the beginning of a sentence on one of the rows, counted from 0."""
        return f"{self.source}: row {self.first_row + index}"

    def column(self, position: int) -> int:
        """Return the column in the file of the cell at a position in a row, both from 1."""
        for column in self.cut:
            position += column <= position
        return position

    def columns(self, positions: Sequence[int]) -> Sequence[int]:
        """Return the columns in the file of the cells at these positions in a row, all from 1."""
        return list(map(self.column, positions)) if self.cut else positions

    def num_columns(self, num_cells: int) -> int:
        """Return the number of columns in the file of a row that has `num_cells` cells here."""
        return num_cells + len(self.cut)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the values of some rows lie in a file."""

    origin: Origin
    positions: Sequence[int]
    """Where each value stands in its row, from 1."""
    channels: int = 1
    """Number of channels that every row is split into."""

    def row(self, index: int) -> str:
        """Return the beginning of a sentence on one of the rows, counted from 0."""
        return self.origin.row(index)

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
        column = self.origin.column(self.positions[channel * width + gap])
        missing = f"{where}, column {column} is missing, and values follow"
        return f"{missing}; --missing interpolate, in training, fills that"
