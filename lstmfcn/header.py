"""The first line of a file in the format with a header: which of its columns is what.

`x_1, x_2, ...` are the time steps or, with several channels, `x1_1, x1_2, ..., x2_1, ...`; `y_1, y_2, ...`
are the labels. Columns may have any order. Any other column can only be an identifier, which the user names.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lstmfcn.errors import DataError, counted, shown

_LABEL = re.compile(r"y(?:_?([0-9]{1,9}))?")
_STEP = re.compile(r"x(?:_?([0-9]{1,9})_|_?)([0-9]{1,9})")
_WHAT_IS_WHAT = (
    "x_1, x_2, ... (of several channels x1_1, x1_2, ..., x2_1, ...) are the series, y_1, y_2, ... the labels;"
    " a job's --id-columns names others"
)


@dataclass(frozen=True, slots=True)
class Header:
    """Places of a file's columns, counted from 0 without the identifiers."""

    series: tuple[int, ...]
    """Place of each time step, channel after channel."""
    labels: tuple[int, ...]
    """Place of each label."""
    channels: int = 1

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        source: str,
        num_values: int | None,
        *,
        labelled: bool,
        identifiers: Container[int] = (),
        channels: int | None = None,
    ) -> Self:
        """Read the header from the cells of a first line, without the columns `identifiers`, which are
        counted from 1.

        `num_values` is the number of values in a row and `channels` that of channels, if they are known;
        labels must be there if the rows are `labelled`, else they must not. Raises DataError for columns that
        are unknown, twice there or missing.
        """
        steps: dict[str, dict[int, int]] = {}
        labels: dict[int, int] = {}
        kept = [(column, name.strip()) for column, name in enumerate(names, 1) if column not in identifiers]
        for place, (column, name) in enumerate(kept):
            where = f"{source}: row 1, column {column}"
            kind, number = _kind_and_number(name, where)
            if kind == "y" and not labelled:
                raise DataError(f"{where}: {shown(name)} is a label, which has no place here")
            numbered = labels if kind == "y" else steps.setdefault(kind, {})
            if number in numbered:
                raise DataError(f"{where}: {shown(name)} is a second {kind}_{number}; there can be only one")
            numbered[number] = place
        in_order = {kind: _in_order(places, kind, source) for kind, places in steps.items()}
        labels_in_order = _in_order(labels, "y", source)
        if labelled and not labels:
            raise DataError(
                f"{source}: row 1 is a header without a y column; every series here needs its label"
            )
        by_channel = [in_order[kind] for kind in _channels_in_order(steps, source)]
        if not by_channel or len(by_channel[0]) < 2:
            count = "no x column" if not by_channel else "only one x column"
            each = " for each channel" if len(by_channel) > 1 else ""
            raise DataError(f"{source}: row 1 is a header with {count}{each}; a series has at least 2 values")
        if channels not in (None, len(by_channel)):
            found = counted(len(by_channel), "channel")
            expected = "1 is" if channels == 1 else f"{channels} are"
            hint = "" if len(by_channel) > 1 else "; x2_1 names the first step of the second"
            raise DataError(f"{source}: row 1 is a header of {found} where {expected} expected{hint}")
        series = tuple(place for places in by_channel for place in places)
        if num_values not in (None, len(series)):
            found = f"{len(series)} x columns"
            raise DataError(f"{source}: row 1 is a header with {found} where {num_values} are expected")
        return cls(series, labels_in_order, len(by_channel))

    @property
    def num_columns(self) -> int:
        """Number of columns without the identifiers."""
        return len(self.series) + len(self.labels)

    def series_of(self, cells: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return series, (cases, values), from (cases, columns); the same array if there is nothing to do."""
        if self.series == tuple(range(cells.shape[1])):
            return cells
        return cells.take(self.series, axis=1)


def _kind_and_number(name: str, where: str) -> tuple[str, int]:
    """Return a column's kind, which is y, x or, with several channels, x1, x2, ...; and its number."""
    if (label := _LABEL.fullmatch(name)) is not None:
        kind, numbers = "y", [int(label[1] or 1)]
    elif (step := _STEP.fullmatch(name)) is not None:
        numbers = [int(number) for number in step.groups() if number is not None]
        kind = "x" if len(numbers) == 1 else f"x{numbers[0]}"
    else:
        raise DataError(f"{where}: {shown(name)} is no column of a header; {_WHAT_IS_WHAT}")
    if 0 in numbers:
        raise DataError(f"{where}: {shown(name)} is numbered 0; columns are numbered from 1")
    return kind, numbers[-1]


def _channels_in_order(steps: Mapping[str, Mapping[int, int]], source: str) -> list[str]:
    """Return the kinds of x columns by channel. Raises DataError if channels are missing or unequal."""
    if steps.keys() == {"x"}:
        return ["x"]
    if "x" in steps:
        raise DataError(
            f"{source}: row 1 has x columns of channels, such as x1_1, and others, such as x_1; a header has"
            " one or the other"
        )
    kinds = [f"x{number}" for number in range(1, len(steps) + 1)]
    for kind in kinds:
        if kind not in steps:
            raise DataError(f"{source}: row 1 has no {kind}_1, but {max(steps, key=lambda x: int(x[1:]))}_1")
        if len(steps[kind]) != len(steps["x1"]):
            raise DataError(
                f"{source}: row 1 has {len(steps['x1'])} steps of x1, but {len(steps[kind])} of {kind};"
                " all channels have one length"
            )
    return kinds


def _in_order(places: dict[int, int], kind: str, source: str) -> tuple[int, ...]:
    for number in range(1, len(places) + 1):
        if number not in places:
            raise DataError(f"{source}: row 1 has no {kind}_{number}, but {kind}_{max(places)}")
    return tuple(places[number] for number in sorted(places))
