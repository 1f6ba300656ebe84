"""The first line of a file in the format with a header: which of its columns is what.

`x_1, x_2, ...` are the time steps and `y_1, y_2, ...` the labels, in any order of columns; what else there is
can only be an identifier, which the user names.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lstmfcn.errors import DataError, shown

_COLUMN = re.compile(r"([xy])_?([0-9]{1,9})|(y)")
_WHAT_IS_WHAT = "x_1, x_2, ... are the series, y_1, y_2, ... the labels; a job's --id-columns names others"


@dataclass(frozen=True, slots=True)
class Header:
    """Where the columns of a file are, identifiers left out: places from 0."""

    series: tuple[int, ...]
    """Of each time step."""
    labels: tuple[int, ...]
    """Of each label."""

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        source: str,
        length: int | None,
        *,
        labelled: bool,
        identifiers: Container[int] = (),
    ) -> Self:
        """From a first line's cells, some of which, by their places, are identifiers.

        `length` is the number of time steps, if it is known; labels must be there, or must not be.
        Raises DataError for columns that are unknown, twice there or missing.
        """
        places: dict[str, dict[int, int]] = {"x": {}, "y": {}}
        kept = [
            (column, name.strip()) for column, name in enumerate(names, 1) if column - 1 not in identifiers
        ]
        for place, (column, name) in enumerate(kept):
            where = f"{source}: row 1, column {column}"
            kind, number = _kind_and_number(name, where)
            if kind == "y" and not labelled:
                raise DataError(f"{where}: {shown(name)} is a label, which has no place here")
            if number in places[kind]:
                raise DataError(f"{where}: {shown(name)} is a second {kind}_{number}; there can be only one")
            places[kind][number] = place
        series, labels = (_in_order(places[kind], kind, source) for kind in ("x", "y"))
        if labelled and not labels:
            raise DataError(
                f"{source}: row 1 is a header without a y column; every series here needs its label"
            )
        if len(series) < 2:
            count = "no x column" if not series else "only one x column"
            raise DataError(f"{source}: row 1 is a header with {count}; a series has at least 2 values")
        if length not in (None, len(series)):
            found = f"{len(series)} x columns"
            raise DataError(f"{source}: row 1 is a header with {found} where {length} are expected")
        return cls(series, labels)

    @property
    def num_columns(self) -> int:
        """Identifiers left out."""
        return len(self.series) + len(self.labels)

    def series_of(self, cells: NDArray[np.float32]) -> NDArray[np.float32]:
        """(cases, columns) -> (cases, timepoints), in order; the same array if there is nothing to do."""
        if self.series == tuple(range(cells.shape[1])):
            return cells
        return cells.take(self.series, axis=1)

    def marks_of(self, cells: NDArray[np.float32], source: str) -> NDArray[np.bool_]:
        """(cases, columns) -> (cases, labels): whether each row has each label, in order.

        Raises DataError where a label's cell is neither 0 nor 1.
        """
        marks = cells.take(self.labels, axis=1)
        is_mark: NDArray[np.bool_] = marks == 1
        wrong = np.argwhere(~is_mark & (marks != 0))
        if len(wrong):
            row, label = wrong[0]
            where = f"{source}: row {row + 2}, column {self.labels[label] + 1}"
            raise DataError(f"{where}: {marks[row, label]:g} is no label; y columns hold 0 or 1")
        return is_mark


def _kind_and_number(name: str, where: str) -> tuple[str, int]:
    found = _COLUMN.fullmatch(name)
    if found is None:
        raise DataError(f"{where}: {shown(name)} is no column of a header; {_WHAT_IS_WHAT}")
    number = int(found[2] or 1)
    if number == 0:
        raise DataError(f"{where}: {shown(name)} is numbered 0; columns are numbered from 1")
    return found[1] or found[3], number


def _in_order(places: dict[int, int], kind: str, source: str) -> tuple[int, ...]:
    for number in range(1, len(places) + 1):
        if number not in places:
            raise DataError(f"{source}: row 1 has no {kind}_{number}, but {kind}_{max(places)}")
    return tuple(places[number] for number in sorted(places))
