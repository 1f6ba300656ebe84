"""Lines of numbers read as one JSON list, since JSON's grammar refuses nearly all that must be refused."""

from __future__ import annotations

import re
import threading

import numpy as np
import simdjson
from numpy.typing import NDArray

from lstmfcn.ragged import Ragged

_parsers = threading.local()

_LINE_END = b"1e39"
"""Stands for a line's end among the numbers: finite in 64 bits, so that JSON has it, and not in 32."""
_GAP = b"-2e39"
"""Stands for a missing value, likewise."""
_MISSING = (b"nan", b"NaN", b"NA", b"null", b"?")
"""Usual spellings of a missing value, beside an empty cell."""
_INTEGER_MINUS_ZERO = re.compile(rb"-0[ \t\r]*(?:[,\n]|\Z)")


def read_rows(piece: bytes, length: int) -> NDArray[np.float32] | None:
    """Read lines of `length` JSON numbers each as a matrix; return None for anything else."""
    numbers = piece.replace(b"\n", b",%b," % _LINE_END)
    num_rows = (len(numbers) - len(piece)) // (len(_LINE_END) + 1) + 1
    values = _numbers(b"[%b,%b]" % (numbers, _LINE_END))
    if values is None or len(values) != num_rows * (length + 1):
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


def read_ragged_rows(piece: bytes) -> Ragged | None:
    """Read lines of JSON numbers and missing values, at least two in each; return None for anything else."""
    piece = piece.replace(b"\r\n", b"\n")
    cells = b",%b," % piece.replace(b"\n", b",%b," % _LINE_END)
    for spelling in _MISSING:
        if spelling[:1] in piece:  # a single byte is found much faster
            for _ in range(2):  # neighbours share a comma
                cells = cells.replace(b",%b," % spelling, b",,")
    cells, num_gaps = _with_gaps(cells)
    values = _numbers(b"[%b%b]" % (cells[1:], _LINE_END))
    if values is None:
        return None
    is_end, is_gap = values == float(_LINE_END), values == float(_GAP)
    ends = np.flatnonzero(is_end)
    lengths = np.diff(ends, prepend=-1) - 1
    # There are as many of both as were put there, so that no value is one of them.
    if len(ends) != piece.count(b"\n") + 1 or np.count_nonzero(is_gap) != num_gaps or lengths.min() < 2:
        return None
    with np.errstate(over="ignore"):
        series = np.where(is_gap, np.nan, values)[~is_end].astype(np.float32)
    if np.isinf(series).any() or (not series.all() and _INTEGER_MINUS_ZERO.search(piece)):
        return None
    return Ragged(series, lengths)


def _with_gaps(cells: bytes) -> tuple[bytes, int]:
    """Return cells with _GAP in those that are empty, and how many these are; faster than bytes.replace."""
    text = np.frombuffer(cells, np.uint8)
    is_comma = text == ord(",")
    empty = np.flatnonzero(is_comma[:-1] & is_comma[1:]) + 1
    gaps = empty + len(_GAP) * np.arange(len(empty))
    filled = np.empty(len(text) + len(_GAP) * len(empty), np.uint8)
    is_text = np.ones(len(filled), bool)
    for place, byte in enumerate(_GAP):
        is_text[gaps + place] = False
        filled[gaps + place] = byte
    filled[is_text] = text
    return filled.tobytes(), len(empty)


def _numbers(text: bytes) -> NDArray[np.float64] | None:
    """Read a flat JSON list of numbers; return None for anything else."""
    if text.find(b"[", 1) >= 0:  # simdjson would flatten nested lists
        return None
    try:
        read = _parser().parse(text)
        assert isinstance(read, simdjson.Array)
        return np.frombuffer(read.as_buffer(of_type="d"))
    except (ValueError, TypeError, RuntimeError):  # RuntimeError for integers beyond 64 bits
        return None


def _parser() -> simdjson.Parser:
    """Return this thread's parser: one that has its memory already takes half the time."""
    if not hasattr(_parsers, "parser"):
        _parsers.parser = simdjson.Parser()
    parser: simdjson.Parser = _parsers.parser
    return parser
