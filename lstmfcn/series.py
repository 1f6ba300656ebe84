"""The one parser of time-series CSV: bytes to labels and a float32 matrix, or a sentence on what is wrong.

A row is a time series, a column a time step. In the format without a header, labelled rows have the class
label in their first column. The other begins with a header, a line in which no cell is a number, which says
what each column is. A value is exactly `numpy.float32(float(cell))`. README.md lists what is refused.

Where a treatment takes missing values or any length, rows are read as Ragged, and the treatment makes series
of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lstmfcn.cells import BYTE_ORDER_MARK, is_missing, is_number, split_line
from lstmfcn.errors import DataError
from lstmfcn.header import Header
from lstmfcn.identifiers import NO_IDENTIFIERS, Identifiers
from lstmfcn.origin import Origin, Place
from lstmfcn.ragged import Ragged
from lstmfcn.rows import Shape, num_values_of_first, parse_fast, parse_ragged_rows, parse_rows
from lstmfcn.treatment import UNTREATED, Treatment

Matrix: TypeAlias = NDArray[np.float32]
"""Series as (cases, values); in a row, the values of one channel follow those of another."""


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
    """Whether each row has each label, (cases, labels), in a file with a header; else None."""
    channels: int | None = None
    """Number of channels that the header names; None without a header."""
    label_column: int = 1
    """Column of the labels, from 1, in a file without a header."""


def header_cells(line: bytes) -> list[str] | None:
    """Return the cells of a file's first line if it is a header, else None. A header has several cells, of
    which none is a number and not all are missing.
    """
    line = line.removeprefix(BYTE_ORDER_MARK).removesuffix(b"\n")
    if is_number(line.partition(b",")[0].decode(errors="replace")):
        return None
    try:
        cells = split_line(line, "")
    except DataError:  # the parser raises it again
        return None
    distinct = set(cells)  # far fewer where a body of commas is to keep an endpoint busy
    is_header = len(cells) > 1 and not any(map(is_number, distinct)) and not all(map(is_missing, distinct))
    return cells if is_header else None


def num_columns(data: bytes) -> int:
    """Return the number of columns of the first row, without taking it apart: commas in quotes count too."""
    return _first_line(data).count(b",") + 1


def has_header(data: bytes) -> bool:
    """Return whether a file, or a body, begins with a header."""
    return header_cells(_first_line(data)) is not None


def parse_plain(data: bytes, *, num_values: int, channels: int = 1) -> Matrix | None:
    """Return what parse_series would, within milliseconds for a megabyte of plain numbers; None for all other
    data, which parse_series takes longer to read or to refuse.
    """
    if _first_line(data).count(b",") != num_values - 1:
        return None
    try:
        header, data = _take_header(data, "", num_values, channels, labelled=False)
    except DataError:
        return None
    columns = num_values if header is None else header.num_columns
    parsed = parse_fast(
        data.removesuffix(b"\n"), Shape(Origin(""), labelled=False, num_values=columns, is_given=True)
    )
    if parsed is None:
        return None
    _, rows = parsed
    return rows if header is None else header.series_of(rows)


def parse_series(
    data: bytes,
    *,
    source: str,
    num_values: int | None = None,
    treatment: Treatment = UNTREATED,
) -> Matrix:
    """Return series without labels, as (cases, values).

    `source` is what errors call the data. `num_values` is how many every row must have, or how many the
    treatment gives it; None takes it from the first row or, where lengths may differ, from the longest: each
    channel of the other rows then ends with NaN, as a padded one does.

    Raises DataError with row and column, both counted from 1.
    """
    data = data.removeprefix(BYTE_ORDER_MARK)
    header, data = _take_header(
        data, source, treatment.required(num_values), treatment.channels, labelled=False
    )
    origin = Origin(source, 1 if header is None else 2)
    return _parse_unlabelled(data, origin, header, num_values, treatment)


def _parse_unlabelled(
    data: bytes, origin: Origin, header: Header | None, num_values: int | None, treatment: Treatment
) -> Matrix:
    """Return series without labels, as (cases, values), from rows that may stand below a header."""
    if header is None:
        return _parse(data, origin, num_values, labelled=False, treatment=treatment)[1]
    cells = _parse_named(data, origin, header, treatment)
    return _series_below(header, cells, origin, num_values, treatment)


def parse_labelled(
    data: bytes,
    *,
    source: str,
    num_values: int | None = None,
    identifiers: Identifiers = NO_IDENTIFIERS,
    treatment: Treatment = UNTREATED,
) -> LabelledSeries:
    """Return labels and series of a whole training or validation file, without its identifiers. Arguments and
    errors are as in parse_series; if the treatment's channels are None, a header may name any number of them.
    """
    data = data.removeprefix(BYTE_ORDER_MARK)
    first_line = _first_line(data)
    names = header_cells(first_line)
    if data:
        identifiers = identifiers.located(names, source)
    if names is None:
        identifiers.refuse_beyond(first_line, source)
        if treatment.takes_any_length:
            identifiers.refuse_after_values(source, labelled=True)
    header, data = _take_header(
        data,
        source,
        treatment.required(num_values),
        treatment.channels,
        labelled=True,
        identifiers=identifiers,
    )
    data = identifiers.without(data)
    if header is None:
        origin = Origin(source, 1, identifiers.positions)
        labels, series = _parse(data, origin, num_values, labelled=True, treatment=treatment)
        return LabelledSeries(source, labels, series, label_column=origin.column(1))
    origin = Origin(source, 2, identifiers.positions)
    cells = _parse_named(data, origin, header, treatment)
    marks = _marks(header, cells, origin)
    series = _series_below(header, cells, origin, num_values, treatment)
    return LabelledSeries(source, [], series, marks, header.channels)


def _take_header(
    data: bytes,
    source: str,
    num_values: int | None,
    channels: int | None,
    *,
    labelled: bool,
    identifiers: Identifiers = NO_IDENTIFIERS,
) -> tuple[Header | None, bytes]:
    """Return the header, or None if there is none, and the rows below it."""
    line = _first_line(data)
    cells = header_cells(line)
    if cells is None:
        return None, data
    header = Header.of(
        cells, source, num_values, labelled=labelled, identifiers=identifiers.positions, channels=channels
    )
    if len(line) == len(data):
        raise DataError(f"{source} holds a header and no series")
    return header, data[len(line) :]


def _first_line(data: bytes) -> bytes:
    return data[: data.find(b"\n") + 1 or len(data)]


@dataclass(frozen=True, slots=True)
class Fault:
    """A row that breaks the data format."""

    row: int
    """Number of the row in the data that was parsed, from 1."""
    reason: str
    """What follows `<source>: row <row>` in the sentence about it."""
    line: bytes
    """The row as it was read, without its line end."""


def parse_sound_rows(
    data: bytes,
    *,
    num_values: int,
    header: Header | None = None,
    identifiers: Identifiers = NO_IDENTIFIERS,
    treatment: Treatment = UNTREATED,
    most_faults: float = math.inf,
) -> tuple[Matrix, list[Fault]]:
    """Return the sound rows as (cases, values), and the faults of the others, in order. If the file has a
    header, `data` are rows below it; a byte order mark and `identifiers` have been cut out already. Rows
    after the last of `most_faults` faulty ones are left out.

    Data with a fault are halved until the faulty rows stand alone: this is fast as long as they are few.
    """
    if not data:
        return np.empty((0, num_values), np.float32), []
    origin = Origin("", cut=identifiers.positions)

    def parsed(rows: bytes) -> Matrix:
        return _parse_unlabelled(rows, origin, header, num_values, treatment)

    matrices, faults = _sound_rows(data, 1, parsed, most_faults)
    return np.concatenate(matrices) if matrices else np.empty((0, num_values), np.float32), faults


def _sound_rows(
    data: bytes, row: int, parsed: Callable[[bytes], Matrix], most_faults: float
) -> tuple[list[Matrix], list[Fault]]:
    """Return the sound rows between faulty ones, and the faults, whose rows are counted from `row` on."""
    try:
        return [parsed(data)], []
    except DataError as error:
        middle = data.find(b"\n", len(data) // 2, -1) + 1 or data.rfind(b"\n", 0, len(data) // 2) + 1
        if middle == 0:
            reason = str(error).removeprefix(": row 1")  # as Origin("") begins a sentence on a single row
            return [], [Fault(row, reason, data.removesuffix(b"\n").removesuffix(b"\r"))]
    before, faults = _sound_rows(data[:middle], row, parsed, most_faults)
    if len(faults) >= most_faults:
        return before, faults
    row += data.count(b"\n", 0, middle)
    after, faults_after = _sound_rows(data[middle:], row, parsed, most_faults - len(faults))
    return before + after, faults + faults_after


def _parse(
    data: bytes, origin: Origin, num_values: int | None, *, labelled: bool, treatment: Treatment
) -> tuple[list[str], Matrix]:
    """Return labels, if rows have them, and series."""
    if not data:
        raise DataError(f"{origin.source} is empty")
    expected = 0 if treatment.takes_any_length else num_values or num_values_of_first(data, origin, labelled)
    shape = Shape(origin, labelled, expected, is_given=num_values is not None)
    if treatment.takes_rows_as_they_are:
        return parse_rows(data, shape)
    labels, rows = parse_ragged_rows(data, shape)
    place = Place(origin, range(1 + labelled, 1 + labelled + int(rows.lengths.max())))
    if treatment.takes_any_length and treatment.num_channels > 1:
        rows.refuse_open_ends(place)
    return labels, treatment(rows, num_values, place)


def _parse_named(data: bytes, origin: Origin, header: Header, treatment: Treatment) -> Matrix:
    """Return the cells of rows below a header, in the order of its columns: (cases, columns)."""
    shape = Shape(origin, labelled=False, num_values=header.num_columns, is_given=False)
    if treatment.takes_rows_as_they_are:
        return parse_rows(data, shape)[1]
    _, rows = parse_ragged_rows(data, shape)
    return rows.values.reshape(-1, header.num_columns)


def _marks(header: Header, cells: Matrix, origin: Origin) -> NDArray[np.bool_]:
    """Return whether each row has each label, in the order of labels: (cases, labels). Raises DataError where
    a label's cell is neither 0 nor 1.
    """
    marks = cells.take(header.labels, axis=1)
    is_mark: NDArray[np.bool_] = marks == 1
    wrong = np.argwhere(~is_mark & (marks != 0))
    if len(wrong):
        row, label = wrong[0]
        where = f"{origin.row(row)}, column {origin.column(header.labels[label] + 1)}"
        mark = np.format_float_positional(marks[row, label], trim="-")
        raise DataError(f"{where}: {mark} is no label; y columns hold 0 or 1")
    return is_mark


def _series_below(
    header: Header, cells: Matrix, origin: Origin, num_values: int | None, treatment: Treatment
) -> Matrix:
    """Return the series of rows, whose cells are in the order of the header's columns."""
    series = header.series_of(cells)
    if treatment.takes_rows_as_they_are:
        return series
    treatment = treatment.model_copy(update={"channels": header.channels})
    return treatment(Ragged.of(series), num_values, Place(origin, [place + 1 for place in header.series]))
