"""The one parser of time-series CSV: bytes to labels and a float32 matrix, or a sentence on what is wrong.

A row is a time series, a column a time step. In the first format there is no header and labelled rows have
the class label in their first column; a first line in which no cell is a number is a header, by which columns
are found. A value is exactly `numpy.float32(float(cell))`. README.md lists what is refused.

Two engines hold the same rules. The fast one reads a piece of the file as one JSON list of numbers,
since JSON's grammar refuses nearly all that must be refused. What it can't read, for being wrong or
just unusual (`.5`, `+1`, quotes), the slow one reads cell by cell; it alone makes the error messages.
"""

from __future__ import annotations

import csv
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import simdjson
from numpy.typing import NDArray

from lstmfcn.errors import DataError, shown
from lstmfcn.header import Header
from lstmfcn.identifiers import NO_IDENTIFIERS, Identifiers
from lstmfcn.prediction_format import BYTE_ORDER_MARK

Matrix: TypeAlias = NDArray[np.float32]
"""Series as (cases, timepoints)."""

_parsers = threading.local()

_PIECE_BYTES = 1 << 19
"""The engines work on pieces of this size, which stay in the processor's cache."""

_FLOAT32_OVERFLOW = 2.0**128 - 2.0**103
"""The least number that rounds to infinity as a float32: half a step above the greatest finite one."""

_NUMBER = re.compile(r"[ \t]*[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[ \t]*")
_MISSING_LABEL = re.compile(r"\s*+(?:[+-]?nan|[+-]?inf(?:inity)?)?\s*", re.IGNORECASE)
_LINE_END = b"1e39"
"""Stands for a line's end among the numbers: finite in 64 bits, so that JSON has it, and not in 32."""
_INTEGER_MINUS_ZERO = re.compile(rb"-0[ \t\r]*(?:[,\n]|\Z)")


@dataclass(frozen=True, slots=True)
class LabelledSeries:
    """The rows of one training or validation file."""

    labels: list[str]
    """The label of each row, as the file spells it; empty with a header."""
    series: Matrix
    """(cases, timepoints)"""
    marks: NDArray[np.bool_] | None = None
    """With a header, whether each row has each label: (cases, labels)."""
    channels: int | None = None
    """That a header names."""


def is_number(text: str) -> bool:
    """Whether a cell holds a finite decimal number, as the data format writes them."""
    return _NUMBER.fullmatch(text) is not None


def header_cells(line: bytes) -> list[str] | None:
    """The cells of a file's first line if it is a header: none of several is a number."""
    line = line.removeprefix(BYTE_ORDER_MARK).removesuffix(b"\n")
    if _NUMBER.fullmatch(line.partition(b",")[0].decode(errors="replace")):
        return None
    try:
        cells = _cells(line, "")
    except DataError:  # which the parser raises again
        return None
    return cells if len(cells) > 1 and not any(map(is_number, cells)) else None


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
    parsed = _parse_fast(data.removesuffix(b"\n"), _Shape("", False, columns, True))
    if parsed is None:
        return None
    return parsed.series if header is None else header.series_of(parsed.series)


def parse_series(
    data: bytes, *, source: str, length: int | None = None, channels: int = 1, first_row: int | None = 1
) -> Matrix:
    """Series without labels, as (cases, timepoints).

    `source` is what errors call the data. `length` is the number of values that every row must have;
    None takes it from the first row. `channels` is how many a header must name. `first_row` is the row number
    of the first line, which is a header only where it is 1; None when it is unknown because `data` begins
    somewhere in the middle of a file.

    Raises DataError with row and column, both counted from 1.
    """
    header = None
    if first_row == 1:
        header, data = _take_header(data, source, length, channels, labelled=False)
    if header is None:
        return _parse(data, source, length, first_row, labelled=False).series
    return header.series_of(_parse_named(data, source, header, first_row=2))


def parse_labelled(
    data: bytes,
    *,
    source: str,
    length: int | None = None,
    channels: int | None = None,
    identifiers: Identifiers = NO_IDENTIFIERS,
) -> LabelledSeries:
    """Labels and series of a whole training or validation file, whose identifiers are left out; arguments and
    errors as in parse_series, but for None a header may name any number of channels.
    """
    data = data.removeprefix(BYTE_ORDER_MARK)
    if data:
        identifiers = identifiers.located(header_cells(_first_line(data)), source)
    header, data = _take_header(data, source, length, channels, labelled=True, identifiers=identifiers)
    data = identifiers.without(data)
    try:
        if header is None:
            return _parse(data, source, length, first_row=1, labelled=True)
        cells = _parse_named(data, source, header, first_row=2)
        return LabelledSeries([], header.series_of(cells), header.marks_of(cells, source), header.channels)
    except DataError as error:
        raise DataError(identifiers.with_the_files_columns(str(error))) from None


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
    data: bytes, *, length: int, begins_file: bool, header: Header | None = None
) -> tuple[Matrix, list[Fault]]:
    """The sound rows as (cases, timepoints), and the faults of the others, in order. Of a file with a header,
    rows that come after it.

    Halves the data until the faulty rows stand alone: fast as long as they are few.
    """
    if not data:
        return np.empty((0, length), np.float32), []
    return _sound_rows(data, length, 1, begins_file, header)


def _sound_rows(
    data: bytes, length: int, row: int, begins_file: bool, header: Header | None
) -> tuple[Matrix, list[Fault]]:
    # A row number of 1 lets the parser look for what can only begin a file.
    parsed_as = 1 if begins_file else 2
    try:
        if header is not None:
            return header.series_of(_parse_named(data, "", header, parsed_as)), []
        return _parse(data, "", length, parsed_as, labelled=False).series, []
    except DataError as error:
        middle = data.find(b"\n", len(data) // 2, -1) + 1 or data.rfind(b"\n", 0, len(data) // 2) + 1
        if middle == 0:
            reason = str(error).removeprefix(f": row {parsed_as}")
            line = data.removesuffix(b"\n").removesuffix(b"\r")
            return np.empty((0, length), np.float32), [Fault(row, reason, line)]
    before, faults_before = _sound_rows(data[:middle], length, row, begins_file, header)
    row += data.count(b"\n", 0, middle)
    after, faults_after = _sound_rows(data[middle:], length, row, False, header)
    return np.concatenate([before, after]), faults_before + faults_after


@dataclass(frozen=True, slots=True)
class _Shape:
    """What every row must look like."""

    source: str
    labelled: bool
    length: int
    length_is_given: bool

    @property
    def columns(self) -> int:
        return self.length + self.labelled


def _parse(
    data: bytes, source: str, length: int | None, first_row: int | None, *, labelled: bool
) -> LabelledSeries:
    if first_row == 1:
        data = data.removeprefix(BYTE_ORDER_MARK)
    if not data:
        raise DataError(f"{source} is empty")
    row = first_row or 1
    shape = _Shape(source, labelled, length or _first_length(data, source, row, labelled), length is not None)
    return _parse_rows(data, shape, row)


def _parse_named(data: bytes, source: str, header: Header, first_row: int) -> Matrix:
    """Rows below a header as they stand: (cases, columns)."""
    return _parse_rows(data, _Shape(source, False, header.num_columns, False), first_row).series


def _parse_rows(data: bytes, shape: _Shape, row: int) -> LabelledSeries:
    labels: list[str] = []
    matrices: list[Matrix] = []
    for piece in _pieces(data):
        parsed = _parse_fast(piece, shape) or _parse_slowly(piece, shape, row)
        labels += parsed.labels
        matrices.append(parsed.series)
        row += len(parsed.series)
    return LabelledSeries(labels, matrices[0] if len(matrices) == 1 else np.concatenate(matrices))


def _first_length(data: bytes, source: str, row: int, labelled: bool) -> int:
    where = f"{source}: row {row}"
    columns = len(_cells(data.partition(b"\n")[0], where))
    if columns - labelled < 2:
        raise DataError(f"{where} has {_columns(columns)}; a series has at least 2 values")
    return columns - labelled


def _pieces(data: bytes) -> Iterator[bytes]:
    """Whole lines, about _PIECE_BYTES at a time, each piece without its last line end."""
    start = 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + _PIECE_BYTES)
        if end < 0 and (end := data.find(b"\n", start + _PIECE_BYTES)) < 0:
            end = len(data)
        yield data[start:end]
        start = end + 1


def _parse_fast(piece: bytes, shape: _Shape) -> LabelledSeries | None:
    """None for a piece that only the slow engine can judge."""
    piece = piece.removesuffix(b"\r")  # of a last line whose LF the cut into pieces has taken
    if b"\r" in piece and piece.count(b"\r") != piece.count(b"\r\n"):
        return None
    labels: list[str] = []
    if shape.labelled:
        if b'"' in piece or b"\0" in piece:
            return None
        cut = [line.partition(b",") for line in piece.split(b"\n")]
        try:
            labels = [label.decode() for label, _, _ in cut]
        except UnicodeDecodeError:
            return None
        if any(_MISSING_LABEL.fullmatch(label) for label in set(labels)):
            return None
        piece = b"\n".join([numbers for _, _, numbers in cut])
    series = _read_as_json(piece, shape.length)
    return None if series is None else LabelledSeries(labels, series)


def _read_as_json(piece: bytes, length: int) -> Matrix | None:
    """Lines of `length` JSON numbers each as a matrix; None for anything else."""
    if b"[" in piece:  # simdjson would flatten nested lists
        return None
    numbers = piece.replace(b"\n", b",%b," % _LINE_END)
    num_rows = (len(numbers) - len(piece)) // (len(_LINE_END) + 1) + 1
    try:
        read = _json_parser().parse(b"[%b,%b]" % (numbers, _LINE_END))
        assert isinstance(read, simdjson.Array)
        values = np.frombuffer(read.as_buffer(of_type="d"))
    except (ValueError, TypeError, RuntimeError):  # RuntimeError for integers beyond 64 bits
        return None
    if len(values) != num_rows * (length + 1):
        return None
    rows = values.reshape(num_rows, length + 1)
    with np.errstate(over="ignore"):
        series = rows[:, :length].astype(np.float32)
    # As many rows as lines, and no finite value is a line's end: each row ends where a line does.
    if not np.isfinite(series).all() or not (rows[:, length] == float(_LINE_END)).all():
        return None
    if not series.all() and _INTEGER_MINUS_ZERO.search(piece):  # simdjson reads the integer -0 as 0
        return None
    return series


def _json_parser() -> simdjson.Parser:
    """Of this thread: one that has its memory already takes half the time."""
    if not hasattr(_parsers, "parser"):
        _parsers.parser = simdjson.Parser()
    parser: simdjson.Parser = _parsers.parser
    return parser


def _parse_slowly(piece: bytes, shape: _Shape, first_row: int) -> LabelledSeries:
    """Read cell by cell. Raises DataError at the first fault."""
    labels = []
    series = []
    for row, line in enumerate(piece.split(b"\n"), first_row):
        where = f"{shape.source}: row {row}"
        cells = _cells(line, where)
        if len(cells) != shape.columns:
            raise DataError(f"{where} has {_columns(len(cells))} {_expected(len(cells), shape)}")
        if shape.labelled:
            labels.append(_label(cells.pop(0), where))
        series.append(
            [
                _value(cell, f"{where}, column {column}")
                for column, cell in enumerate(cells, 1 + shape.labelled)
            ]
        )
    return LabelledSeries(labels, np.array(series, np.float32))


def _cells(line: bytes, where: str) -> list[str]:
    if not line.strip():
        raise DataError(f"{where} is blank; every line must hold a series")
    try:
        text = line.removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise DataError(f"{where} is not UTF-8 text; a series file is CSV in UTF-8, plain or gzip")
    if "\r" in text:
        raise DataError(f"{where} holds a carriage return inside the line; lines end in LF or CRLF")
    if '"' not in text:
        return text.split(",")
    try:
        return next(csv.reader([text], strict=True))
    except csv.Error as error:
        raise DataError(f"{where} is not quoted as CSV, or has a line break inside quotes: {error}") from None


def _expected(found: int, shape: _Shape) -> str:
    if not shape.length_is_given:
        return f"where row 1 has {shape.columns}"
    hint = ""
    if not shape.labelled and found == shape.columns + 1:
        hint = "; is the first one a label? It has no place here"
    if shape.labelled and found == shape.columns - 1:
        hint = "; the first one must be the label"
    if found == 1:
        hint = "; is the separator a comma?"
    return f"where {shape.columns} are expected{hint}"


def _label(cell: str, where: str) -> str:
    if _MISSING_LABEL.fullmatch(cell):
        raise DataError(f"{where}, column 1: the label is missing, found {shown(cell)}")
    return cell


def _value(cell: str, where: str) -> float:
    if not cell.strip(" \t"):
        raise DataError(f"{where} is empty; a series has no missing values")
    if not is_number(cell):
        raise DataError(f"{where}: {shown(cell)} is not a finite number")
    value = float(cell)
    if abs(value) >= _FLOAT32_OVERFLOW:
        raise DataError(f"{where}: {shown(cell)} is beyond the range of float32")
    return value


def _columns(count: int) -> str:
    return f"{count} column{'s' * (count != 1)}"
