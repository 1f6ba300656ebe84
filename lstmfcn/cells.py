"""Lines of CSV, and their cells, each by itself: label, value, or a sentence on what is wrong."""

from __future__ import annotations

import csv
import io
import math
import re

from lstmfcn.errors import DataError, shown

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""UTF-8's byte order mark, which a file may begin with."""

_FLOAT32_OVERFLOW = 2.0**128 - 2.0**103
"""The least number that rounds to infinity as a float32: half a step above the greatest finite one."""

_PLAIN = re.compile(r'[^",\r\n ][^",\r\n]*')
"""A text that csv.writer, which takes long to make, would leave as it is."""
_NUMBER = re.compile(r"[ \t]*[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[ \t]*")
_MISSING = re.compile(r"[ \t]*+(?:[+-]?nan|n/?a|null|none|\?)?[ \t]*", re.IGNORECASE)
_MISSING_LABEL = re.compile(r"\s*+(?:[+-]?nan|[+-]?inf(?:inity)?)?\s*", re.IGNORECASE)


def is_number(text: str) -> bool:
    """Return whether a cell holds a finite decimal number, as the data format writes them."""
    return _NUMBER.fullmatch(text) is not None


def num_lines(text: bytes) -> int:
    """Return the number of lines in a text that isn't empty; the last one may lack its line end."""
    return text.count(b"\n") + (not text.endswith(b"\n"))


def split_line(line: bytes, where: str) -> list[str]:
    """Return the cells of a line, which has no LF. Raises DataError, a sentence that begins with `where`, if
    it isn't CSV.
    """
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


def csv_cell(cell: str) -> bytes:
    """Return a cell as UTF-8, quoted where CSV needs it."""
    if _PLAIN.fullmatch(cell):
        return cell.encode()
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([cell])
    return text.getvalue().encode()


def is_missing(cell: str) -> bool:
    """Return whether a cell says that there is no value."""
    return _MISSING.fullmatch(cell) is not None


def is_missing_label(cell: str) -> bool:
    """Return whether a label's cell is empty, NaN or infinite."""
    return _MISSING_LABEL.fullmatch(cell) is not None


def label_in(cell: str, where: str) -> str:
    """Return the label in a cell, as it is spelt. Raises DataError when it is missing."""
    if is_missing_label(cell):
        raise DataError(f"{where}: the label is missing, found {shown(cell)}")
    return cell


def value_in(cell: str, where: str, *, may_be_missing: bool) -> float:
    """Return the number in a cell; NaN if it is missing and may be. Raises DataError for all else."""
    if is_missing(cell):
        if may_be_missing:
            return math.nan
        found = shown(cell) if cell.strip(" \t") else "empty"
        raise DataError(f"{where} is {found}; missing values need training with --missing interpolate")
    if not is_number(cell):
        raise DataError(f"{where}: {shown(cell)} is not a finite number")
    number = float(cell)
    if abs(number) >= _FLOAT32_OVERFLOW:
        raise DataError(f"{where}: {shown(cell)} is beyond the range of float32")
    return number
