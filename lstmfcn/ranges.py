"""The input of a transform: files, the byte ranges that they are cut into, and the series read from one."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

from lstmfcn import storage
from lstmfcn.errors import DataError
from lstmfcn.prediction_format import PredictionFormat
from lstmfcn.series import Fault, Matrix, parse_sound_rows

_LARGEST_RANGE = 32 << 20
_SMALLEST_RANGE = 1 << 20
_BLOCK_BYTES = 4 << 20
"""What is read and predicted at a time, so that memory doesn't grow with the range."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file to transform."""

    path: Path
    name: str
    """Its path as the user gave it."""
    relative: str
    """Its path below the input folder, and with `.out` after it the output's below the output folder."""
    size: int
    modified: int
    """Nanoseconds since 1970."""


@dataclass(frozen=True, slots=True)
class Range:
    """The lines of a file whose first byte lies in [start, end)."""

    file: int
    part: int
    """From 0, within the file."""
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Block:
    """Some of the lines of a range."""

    num_rows: int
    series: Matrix
    """The sound rows: (cases, timepoints)."""
    identifiers: list[bytes] | None
    """What the output line of each row begins with, if anything; of sound and of bad rows."""
    faults: list[Fault]
    """The bad rows, counted within the block."""


def find_inputs(path: Path, output: Path | None) -> tuple[list[InputFile], list[Path]]:
    """The file itself, or the CSV files below a folder but not below the output folder; and what was skipped.

    Raises DataError when there is nothing to transform.
    """
    if path.is_file():
        return [_input_file(path, path.name)], []

    def is_input(file: Path) -> bool:
        return output is None or not file.resolve().is_relative_to(output.resolve())

    chosen = list(filter(is_input, storage.csv_files(path)))
    if not chosen:
        raise DataError(f"{path} holds no *.csv or *.csv.gz file outside the output folder")
    skipped = [file for file in sorted(path.rglob("*")) if file.is_file() and is_input(file)]
    skipped = [file for file in skipped if not file.name.endswith(storage.CSV_SUFFIXES)]
    return [_input_file(file, file.relative_to(path).as_posix()) for file in chosen], skipped


def _input_file(path: Path, relative: str) -> InputFile:
    status = path.stat()
    return InputFile(path.resolve(), str(path), relative, status.st_size, status.st_mtime_ns)


def choose_range_bytes(files: list[InputFile], num_predictors: int) -> int:
    """Four ranges a predictor, so that none waits long for the last one; but a Ray task costs too much for
    small ones.
    """
    total = sum(file.size for file in files)
    return min(_LARGEST_RANGE, max(_SMALLEST_RANGE, total // (4 * num_predictors)))


def plan_ranges(files: list[InputFile], range_bytes: int) -> list[Range]:
    """Cut every file into ranges, except gzip, which can only be read from its beginning."""
    ranges = []
    for index, file in enumerate(files):
        step = max(file.size, 1) if storage.is_gzip(file.path) else range_bytes
        starts = range(0, max(file.size, 1), step)
        ranges += [
            Range(index, part, start, min(start + step, file.size)) for part, start in enumerate(starts)
        ]
    return ranges


def group_ranges(ranges: list[Range], leave_out: Container[int] = ()) -> list[list[int]]:
    """Indices of ranges that share a task, in order: neighbours that are small together."""
    groups: list[list[int]] = []
    size = 0
    for index, one in enumerate(ranges):
        if index in leave_out:
            continue
        size += one.end - one.start
        if not groups or size > _SMALLEST_RANGE:
            groups.append([])
            size = one.end - one.start
        groups[-1].append(index)
    return groups


def read_blocks(file: InputFile, one: Range, length: int, format: PredictionFormat) -> Iterator[Block]:
    """The lines of a range, a block at a time, with at most _BLOCK_BYTES and a line in memory.

    Raises DataError for a file that is empty or no whole gzip file.
    """
    begins_file = one.start == 0
    for block in storage.line_blocks(file.path, one.start, one.end, _BLOCK_BYTES):
        num_rows = block.count(b"\n") + (not block.endswith(b"\n"))
        lines, identifiers = format.take_identifiers(block)
        series, faults = parse_sound_rows(lines, length=length, begins_file=begins_file)
        yield Block(num_rows, series, identifiers, faults)
        begins_file = False
    if one.start == 0 and begins_file:
        raise DataError(f"{file.name} is empty")


def count_rows(file: InputFile, one: Range) -> int:
    """The lines of a range, unparsed."""
    return sum(
        block.count(b"\n") + (not block.endswith(b"\n"))
        for block in storage.line_blocks(file.path, one.start, one.end, _BLOCK_BYTES)
    )
