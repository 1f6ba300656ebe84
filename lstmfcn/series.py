"""The one parser of time-series CSV: bytes to labels and a float32 matrix, or a sentence on what is wrong.

A row is a time series, a column a time step. In the first format there is no header and labelled rows have
the class label in their first column; a first line in which no cell is a number is a header, by which columns
are found. A value is exactly `numpy.float32(float(cell))`. README.md lists what is refused.

Two engines hold the same rules. The fast one reads a piece of the file as one JSON list of numbers,
since JSON's grammar refuses nearly all that must be refused. What it can't read, for being wrong or
just unusual (`.5`, `+1`, quotes), the slow one reads cell by cell; it alone says what is wrong with a cell.
Where a treatment takes missing values or any length, both read ragged rows, which it then makes series of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from lstmfcn import json_rows
from lstmfcn.cells import (
    BYTE_ORDER_MARK,
    is_missing,
    is_missing_label,
    is_number,
    label_in,
    split_line,
    value_in,
)
from lstmfcn.errors import DataError
from lstmfcn.header import Header
from lstmfcn.identifiers import NO_IDENTIFIERS, Identifiers, Origin
from lstmfcn.ragged import Place, Ragged
from lstmfcn.treatment import UNTREATED, Treatment

Matrix: TypeAlias = NDArray[np.float32]
"""Series as (cases, values), those of one channel after those of another."""

_PIECE_BYTES = 1 << 19
"""The engines work on pieces of this size, which stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class LabelledSeries:
    """The rows of one training or validation file."""

    source: str
    """What errors call the file."""
    labels: list[str]
    """The label of each row, as the file spells it; empty with a header."""
    series: Matrix
    """(cases, values)"""
    marks: NDArray[np.bool_] | None = None
    """With a header, whether each row has each label: (cases, labels)."""
    channels: int | None = None
    """How many a header names."""
    label_column: int = 1
    """The column of the labels, from 1; without a header."""


def header_cells(line: bytes) -> list[str] | None:
    """The cells of a file's first line if it is a header: of several none is a number, nor all missing."""
    line = line.removeprefix(BYTE_ORDER_MARK).removesuffix(b"\n")
    if is_number(line.partition(b",")[0].decode(errors="replace")):
        return None
    try:
        cells = split_line(line, "")
    except DataError:  # which the parser raises again
        return None
    is_header = len(cells) > 1 and not any(map(is_number, cells)) and not all(map(is_missing, cells))
    return cells if is_header else None


def has_header(data: bytes) -> bool:
    """Whether a file, or a body, begins with a header."""
    return header_cells(_first_line(data)) is not None


def parse_plain(data: bytes, *, length: int, channels: int = 1) -> Matrix | None:
    """What parse_series returns, within milliseconds for a megabyte of plain numbers; None for all else,
    which parse_series takes long to read or to refuse.
    """
    if _first_line(data).count(b",") != length - 1:
        return None
    try:
        header, data = _take_header(data, "", length, channels, labelled=False)
    except DataError:
        return None
    columns = length if header is None else header.num_columns
    parsed = _parse_fast(data.removesuffix(b"\n"), _Shape(Origin(""), False, columns, True))
    if parsed is None:
        return None
    _, rows = parsed
    return rows if header is None else header.series_of(rows)


def parse_series(
    data: bytes,
    *,
    source: str,
    length: int | None = None,
    treatment: Treatment = UNTREATED,
) -> Matrix:
    """Series without labels, as (cases, values).

    `source` is what errors call the data. `length` is the number of values that every row must have, or that
    the treatment gives it; None takes it from the first row, or from the longest where lengths may differ:
    the others then end with NaN, as padded ones do, in each of several channels.

    Raises DataError with row and column, both counted from 1.
    """
    header, data = _take_header(data, source, treatment.fixed(length), treatment.channels, labelled=False)
    if header is None:
        return _parse(data, Origin(source), length, labelled=False, treatment=treatment)[1]
    origin = Origin(source, first_row=2)
    cells = _parse_named(data, origin, header, treatment)
    return _series_below(header, cells, origin, length, treatment)


def parse_labelled(
    data: bytes,
    *,
    source: str,
    length: int | None = None,
    identifiers: Identifiers = NO_IDENTIFIERS,
    treatment: Treatment = UNTREATED,
) -> LabelledSeries:
    """Labels and series of a whole training or validation file, whose identifiers are left out; arguments and
    errors as in parse_series, but for None a header may name any number of channels.
    """
    data = data.removeprefix(BYTE_ORDER_MARK)
    first_line = _first_line(data)
    names = header_cells(first_line)
    if data:
        identifiers = identifiers.located(names, source)
    if names is None:
        identifiers.refuse_beyond(first_line, source)
        if treatment.takes_any_length:
            identifiers.refuse_behind_values(source, labelled=True)
    header, data = _take_header(
        data, source, treatment.fixed(length), treatment.channels, labelled=True, identifiers=identifiers
    )
    data = identifiers.without(data)
    if header is None:
        origin = Origin(source, 1, identifiers)
        labels, series = _parse(data, origin, length, labelled=True, treatment=treatment)
        return LabelledSeries(source, labels, series, label_column=origin.column(1))
    origin = Origin(source, 2, identifiers)
    cells = _parse_named(data, origin, header, treatment)
    marks = _marks(header, cells, origin)
    series = _series_below(header, cells, origin, length, treatment)
    return LabelledSeries(source, [], series, marks, header.channels)


def _take_header(
    data: bytes,
    source: str,
    length: int | None,
    channels: int | None,
    *,
    labelled: bool,
    identifiers: Identifiers = NO_IDENTIFIERS,
) -> tuple[Header | None, bytes]:
    """The header, if there is one, and what follows it."""
    line = _first_line(data)
    cells = header_cells(line)
    if cells is None:
        return None, data
    places = {position - 1 for position in identifiers.positions}
    header = Header.of(cells, source, length, labelled=labelled, identifiers=places, channels=channels)
    if len(line) == len(data):
        raise DataError(f"{source} holds a header and no series")
    return header, data[len(line) :]


def _first_line(data: bytes) -> bytes:
    return data[: data.find(b"\n") + 1 or len(data)]


@dataclass(frozen=True, slots=True)
class Fault:
    """A row that breaks the data format."""

    row: int
    """From 1, counted from where the data began."""
    reason: str
    """What follows `<source>: row <row>` in the sentence about it."""
    line: bytes
    """The row as it was read, without its line end."""


def parse_sound_rows(
    data: bytes,
    *,
    length: int,
    begins_file: bool,
    header: Header | None = None,
    identifiers: Identifiers = NO_IDENTIFIERS,
    treatment: Treatment = UNTREATED,
    most_faults: float = math.inf,
) -> tuple[Matrix, list[Fault]]:
    """The sound rows as (cases, values), and the faults of the others, in order. Of a file with a header,
    rows that come after it; `identifiers` have been cut out of the rows already. Rows that come after the
    last of `most_faults` are left out.

    Halves the data until the faulty rows stand alone: fast as long as they are few.
    """
    if not data:
        return np.empty((0, length), np.float32), []
    # A first row of 1 lets the parser look for what can only begin a file.
    origin = Origin("", 1 if begins_file else 2, identifiers)
    return _sound_rows(data, length, 1, origin, header, treatment, most_faults)


def _sound_rows(
    data: bytes,
    length: int,
    row: int,
    origin: Origin,
    header: Header | None,
    treatment: Treatment,
    most_faults: float,
) -> tuple[Matrix, list[Fault]]:
    try:
        if header is not None:
            cells = _parse_named(data, origin, header, treatment)
            return _series_below(header, cells, origin, length, treatment), []
        return _parse(data, origin, length, labelled=False, treatment=treatment)[1], []
    except DataError as error:
        middle = data.find(b"\n", len(data) // 2, -1) + 1 or data.rfind(b"\n", 0, len(data) // 2) + 1
        if middle == 0:
            reason = str(error).removeprefix(origin.row(0))
            line = data.removesuffix(b"\n").removesuffix(b"\r")
            return np.empty((0, length), np.float32), [Fault(row, reason, line)]
    before, faults_before = _sound_rows(data[:middle], length, row, origin, header, treatment, most_faults)
    if len(faults_before) >= most_faults:
        return before, faults_before
    row += data.count(b"\n", 0, middle)
    within = replace(origin, first_row=2)
    left = most_faults - len(faults_before)
    after, faults_after = _sound_rows(data[middle:], length, row, within, header, treatment, left)
    return np.concatenate([before, after]), faults_before + faults_after


@dataclass(frozen=True, slots=True)
class _Shape:
    """What every row must look like."""

    origin: Origin
    labelled: bool
    num_values: int
    """How many a row has beside a label; 0 for any number."""
    is_given: bool
    """Whether that is known from elsewhere, not from the first row."""

    @property
    def num_cells(self) -> int:
        return self.num_values + self.labelled


def _parse(
    data: bytes, origin: Origin, length: int | None, *, labelled: bool, treatment: Treatment
) -> tuple[list[str], Matrix]:
    """Labels, if rows have them, and series."""
    if origin.first_row == 1:
        data = data.removeprefix(BYTE_ORDER_MARK)
    if not data:
        raise DataError(f"{origin.source} is empty")
    num_values = 0 if treatment.takes_any_length else length or _first_length(data, origin, labelled)
    shape = _Shape(origin, labelled, num_values, length is not None)
    if treatment.takes_rows_as_they_are:
        return _parse_rows(data, shape)
    labels, rows = _parse_ragged_rows(data, shape)
    place = _place(origin, range(labelled, labelled + int(rows.lengths.max())))
    if treatment.takes_any_length and treatment.channels not in (None, 1):
        rows.refuse_open_ends(place)
    return labels, treatment(rows, length, place)


def _place(origin: Origin, cells: Iterable[int]) -> Place:
    """The place of rows whose values stand in these cells, counted from 0."""
    return Place(origin.source, origin.first_row, [origin.column(cell + 1) for cell in cells])


def _parse_named(data: bytes, origin: Origin, header: Header, treatment: Treatment) -> Matrix:
    """Rows below a header as they stand: (cases, columns)."""
    shape = _Shape(origin, False, header.num_columns, False)
    if treatment.takes_rows_as_they_are:
        return _parse_rows(data, shape)[1]
    _, rows = _parse_ragged_rows(data, shape)
    return rows.values.reshape(-1, header.num_columns)


def _marks(header: Header, cells: Matrix, origin: Origin) -> NDArray[np.bool_]:
    """Whether each row has each label, in order: (cases, labels). Raises DataError where a label's cell is
    neither 0 nor 1.
    """
    marks = cells.take(header.labels, axis=1)
    is_mark: NDArray[np.bool_] = marks == 1
    wrong = np.argwhere(~is_mark & (marks != 0))
    if len(wrong):
        row, label = wrong[0]
        where = f"{origin.row(row)}, column {origin.column(header.labels[label] + 1)}"
        raise DataError(f"{where}: {marks[row, label]:g} is no label; y columns hold 0 or 1")
    return is_mark


def _series_below(
    header: Header, cells: Matrix, origin: Origin, length: int | None, treatment: Treatment
) -> Matrix:
    """The series of rows as they stand below a header."""
    series = header.series_of(cells)
    if treatment.takes_rows_as_they_are:
        return series
    treatment = treatment.model_copy(update={"channels": header.channels})
    return treatment(Ragged.of(series), length, _place(origin, header.series))


def _parse_rows(data: bytes, shape: _Shape) -> tuple[list[str], Matrix]:
    """Labels, if rows have them, and values: (cases, values)."""
    labels, matrices = _read_pieces(data, shape, _parse_fast, _parse_slowly)
    return labels, matrices[0] if len(matrices) == 1 else np.concatenate(matrices)


def _parse_ragged_rows(data: bytes, shape: _Shape) -> tuple[list[str], Ragged]:
    """Labels, if rows have them, and values, of which some may be missing."""
    labels, parts = _read_pieces(data, shape, _parse_ragged_fast, _parse_ragged_slowly)
    return labels, Ragged.joined(parts)


_Rows = TypeVar("_Rows", Matrix, Ragged)


def _read_pieces(
    data: bytes,
    shape: _Shape,
    fast: Callable[[bytes, _Shape], tuple[list[str], _Rows] | None],
    slow: Callable[[bytes, _Shape, int], tuple[list[str], _Rows]],
) -> tuple[list[str], list[_Rows]]:
    """Labels and rows, by the slow engine where the fast one returns None."""
    labels: list[str] = []
    parts: list[_Rows] = []
    num_rows = 0
    for piece in _pieces(data):
        some_labels, rows = fast(piece, shape) or slow(piece, shape, num_rows)
        labels += some_labels
        parts.append(rows)
        num_rows += len(rows)
    return labels, parts


def _first_length(data: bytes, origin: Origin, labelled: bool) -> int:
    num_cells = len(split_line(data.partition(b"\n")[0], origin.row(0)))
    if num_cells - labelled < 2:
        found = _columns(origin.num_columns(num_cells))
        raise DataError(f"{origin.row(0)} has {found}; a series has at least 2 values")
    return num_cells - labelled


def _pieces(data: bytes) -> Iterator[bytes]:
    """Whole lines, about _PIECE_BYTES at a time, each piece without its last line end."""
    start = 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + _PIECE_BYTES)
        if end < 0 and (end := data.find(b"\n", start + _PIECE_BYTES)) < 0:
            end = len(data)
        yield data[start:end]
        start = end + 1


def _parse_fast(piece: bytes, shape: _Shape) -> tuple[list[str], Matrix] | None:
    """None for a piece that only the slow engine can judge."""
    labels, numbers = _cut_labels(piece, shape)
    if numbers is None or (rows := json_rows.read_rows(numbers, shape.num_values)) is None:
        return None
    return labels, rows


def _parse_ragged_fast(piece: bytes, shape: _Shape) -> tuple[list[str], Ragged] | None:
    """_parse_fast for rows of any lengths."""
    labels, numbers = _cut_labels(piece, shape)
    if numbers is None:
        return None
    num_values = shape.num_values or _first_line(numbers).count(b",") + 1
    if (matrix := json_rows.read_rows(numbers, num_values)) is not None:
        return labels, Ragged.of(matrix)
    rows = json_rows.read_ragged_rows(numbers)
    if rows is None or (shape.num_values and (rows.lengths != shape.num_values).any()):
        return None
    return labels, rows


def _cut_labels(piece: bytes, shape: _Shape) -> tuple[list[str], bytes | None]:
    """The labels, if rows have them, and what follows them in each line; None for lines that only the slow
    engine can judge.
    """
    piece = piece.removesuffix(b"\r")  # of a last line whose LF the cut into pieces has taken
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


def _parse_slowly(piece: bytes, shape: _Shape, num_before: int) -> tuple[list[str], Matrix]:
    """Read cell by cell, after so many rows. Raises DataError at the first fault."""
    labels, rows = _rows(piece, shape, num_before, may_be_missing=False)
    return labels, np.array(rows, np.float32)


def _parse_ragged_slowly(piece: bytes, shape: _Shape, num_before: int) -> tuple[list[str], Ragged]:
    """_parse_slowly for rows in which values may be missing."""
    labels, rows = _rows(piece, shape, num_before, may_be_missing=True)
    values = np.array([value for row in rows for value in row], np.float32)
    return labels, Ragged(values, np.array([len(row) for row in rows]))


def _rows(
    piece: bytes, shape: _Shape, num_before: int, *, may_be_missing: bool
) -> tuple[list[str], list[list[float]]]:
    """Labels, if rows have them, and values."""
    labels = []
    rows = []
    origin = shape.origin
    for index, line in enumerate(piece.split(b"\n"), num_before):
        where = origin.row(index)
        cells = split_line(line, where)
        if shape.num_values and len(cells) != shape.num_cells:
            found = _columns(origin.num_columns(len(cells)))
            raise DataError(f"{where} has {found} {_expected(len(cells), shape)}")
        if shape.labelled:
            labels.append(label_in(cells.pop(0), f"{where}, column {origin.column(1)}"))
        rows.append(
            [
                value_in(cell, f"{where}, column {origin.column(position)}", may_be_missing=may_be_missing)
                for position, cell in enumerate(cells or [""], 1 + shape.labelled)
            ]
        )
    return labels, rows


def _expected(num_cells: int, shape: _Shape) -> str:
    """What should stand where a row has so many cells."""
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


def _columns(count: int) -> str:
    return f"{count} column{'s' * (count != 1)}"
