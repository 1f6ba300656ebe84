"""Rows of a CSV file, or of a piece of it, as labels and values; or a sentence on what is wrong.

Two engines apply the same rules. The fast one reads a piece of the file as one JSON list of numbers,
since JSON's grammar refuses nearly all that must be refused. What it can't read, because it is wrong or
just unusual (`.5`, `+1`, quotes), the slow one reads cell by cell; it alone says what is wrong with a cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from lstmfcn import json_rows
from lstmfcn.cells import is_missing_label, label_in, split_line, value_in
from lstmfcn.errors import DataError, counted
from lstmfcn.origin import Origin
from lstmfcn.ragged import Ragged

_Matrix: TypeAlias = NDArray[np.float32]

_PIECE_BYTES = 1 << 19
"""Size of the pieces that the engines work on, which stay in the processor's cache."""
_SMALL_BYTES = 1 << 12
"""Size of the pieces of a piece that the fast engine can't read, most of which it can."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What every row must look like."""

    origin: Origin
    labelled: bool
    num_values: int
    """Number of values in a row, a label not counted; 0 for any number."""
    is_given: bool
    """Whether `num_values` is known from elsewhere, not from the first row."""

    @property
    def num_cells(self) -> int:
        """Number of cells in a row, a label's included."""
        return self.num_values + self.labelled


def parse_rows(data: bytes, shape: Shape) -> tuple[list[str], _Matrix]:
    """Return labels, if rows have them, and values: (cases, values)."""
    labels, matrices = _read_pieces(data, shape, parse_fast, _parse_slowly)
    return labels, matrices[0] if len(matrices) == 1 else np.concatenate(matrices)


def parse_ragged_rows(data: bytes, shape: Shape) -> tuple[list[str], Ragged]:
    """Return labels, if rows have them, and values, some of which may be missing."""
    labels, parts = _read_pieces(data, shape, _parse_ragged_fast, _parse_ragged_slowly)
    return labels, Ragged.joined(parts)


_Rows = TypeVar("_Rows", _Matrix, Ragged)


def _read_pieces(
    data: bytes,
    shape: Shape,
    fast: Callable[[bytes, Shape], tuple[list[str], _Rows] | None],
    slow: Callable[[bytes, Shape, int], tuple[list[str], _Rows]],
) -> tuple[list[str], list[_Rows]]:
    """Return labels, and the rows in parts; where the fast engine returns None, the slow one reads a few."""
    labels: list[str] = []
    parts: list[_Rows] = []
    num_rows = 0
    for whole in _pieces(data, _PIECE_BYTES):
        found = fast(whole, shape)
        for piece in [whole] if found else _pieces(whole + b"\n", _SMALL_BYTES):
            some_labels, rows = found or fast(piece, shape) or slow(piece, shape, num_rows)
            labels += some_labels
            parts.append(rows)
            num_rows += len(rows)
    return labels, parts


def num_values_of_first(data: bytes, origin: Origin, labelled: bool) -> int:
    """Return the number of values in the first row. Raises DataError when it is less than two."""
    num_cells = len(split_line(data.partition(b"\n")[0], origin.row(0)))
    if num_cells - labelled < 2:
        found = counted(origin.num_columns(num_cells), "column")
        raise DataError(f"{origin.row(0)} has {found}; a series has at least 2 values")
    return num_cells - labelled


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    """Yield whole lines, about `size` bytes at a time, each piece without its last line end."""
    start = 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + size)
        if end < 0 and (end := data.find(b"\n", start + size)) < 0:
            end = len(data)
        yield data[start:end]
        start = end + 1


def parse_fast(piece: bytes, shape: Shape) -> tuple[list[str], _Matrix] | None:
    """Return labels, if rows have them, and values; None for a piece that only the slow engine can judge."""
    labels, numbers = _cut_labels(piece, shape)
    if numbers is None or (rows := json_rows.read_rows(numbers, shape.num_values)) is None:
        return None
    return labels, rows


def _parse_ragged_fast(piece: bytes, shape: Shape) -> tuple[list[str], Ragged] | None:
    """Do what parse_fast does for rows of any lengths."""
    labels, numbers = _cut_labels(piece, shape)
    if numbers is None:
        return None
    num_values = shape.num_values or numbers.partition(b"\n")[0].count(b",") + 1
    if (matrix := json_rows.read_rows(numbers, num_values)) is not None:
        return labels, Ragged.of(matrix)
    rows = json_rows.read_ragged_rows(numbers)
    if rows is None or (shape.num_values and (rows.lengths != shape.num_values).any()):
        return None
    return labels, rows


def _cut_labels(piece: bytes, shape: Shape) -> tuple[list[str], bytes | None]:
    """Return the labels, if rows have them, and what follows them in each line; in place of that, None for
    lines that only the slow engine can judge.
    """
    piece = piece.removesuffix(b"\r")  # the CR of a last line, whose LF _pieces has cut off
    if b"\r" in piece and piece.count(b"\r") != piece.count(b"\r\n"):
        return [], None
    if not shape.labelled:
        return [], piece
    if b'"' in piece or b"\0" in piece:
        return [], None
    cut = [line.partition(b",") for line in piece.split(b"\n")]
    try:
        labels = [label.decode() for label, _, _ in cut]
    except UnicodeDecodeError:
        return [], None
    if any(map(is_missing_label, set(labels))):
        return [], None
    return labels, b"\n".join([numbers for _, _, numbers in cut])


def _parse_slowly(piece: bytes, shape: Shape, num_before: int) -> tuple[list[str], _Matrix]:
    """Read a piece, which follows `num_before` rows, cell by cell. Raises DataError at the first fault."""
    labels, rows = _rows(piece, shape, num_before, may_be_missing=False)
    return labels, np.array(rows, np.float32)


def _parse_ragged_slowly(piece: bytes, shape: Shape, num_before: int) -> tuple[list[str], Ragged]:
    """Do what _parse_slowly does for rows in which values may be missing."""
    labels, rows = _rows(piece, shape, num_before, may_be_missing=True)
    values = np.array([value for row in rows for value in row], np.float32)
    return labels, Ragged(values, np.array([len(row) for row in rows]))


def _rows(
    piece: bytes, shape: Shape, num_before: int, *, may_be_missing: bool
) -> tuple[list[str], list[list[float]]]:
    """Return labels, if rows have them, and the values of each row. Raises DataError at the first fault."""
    labels = []
    rows = []
    origin, first = shape.origin, int(shape.labelled)
    for index, line in enumerate(piece.split(b"\n"), num_before):
        where = origin.row(index)
        cells = split_line(line, where)
        if shape.num_values and len(cells) != shape.num_cells:
            found = counted(origin.num_columns(len(cells)), "column")
            raise DataError(f"{where} has {found} {_expected(len(cells), shape)}")
        columns = origin.columns(range(1, max(len(cells), first + 1) + 1))
        if shape.labelled:
            labels.append(label_in(cells[0], f"{where}, column {columns[0]}"))
        rows.append(
            [
                value_in(cell, f"{where}, column {column}", may_be_missing=may_be_missing)
                for cell, column in zip(cells[first:] or [""], columns[first:], strict=False)
            ]
        )
    return labels, rows


def _expected(num_cells: int, shape: Shape) -> str:
    """Return the part of a sentence that says how many columns are expected where a row has `num_cells`."""
    expected = shape.origin.num_columns(shape.num_cells)
    if not shape.is_given:
        advice = "; rows of different lengths need --length pad or resample" if shape.labelled else ""
        return f"where row 1 has {expected}{advice}"
    hint = ""
    if not shape.labelled and num_cells == shape.num_cells + 1:
        hint = "; is the first one a label? It has no place here"
    if shape.labelled and num_cells == shape.num_cells - 1:
        hint = "; the first one must be the label"
    if num_cells == 1:
        hint = "; is the separator a comma?"
    return f"where {expected} are expected{hint}"
