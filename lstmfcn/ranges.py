"""The input of a transform: files, the byte ranges that they are cut into, and the series read from one."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass

from lstmfcn import storage
from lstmfcn.errors import DataError
from lstmfcn.prediction_format import PredictionFormat
from lstmfcn.series import Fault, Matrix, parse_sound_rows
from lstmfcn.storage import Location, StoredFile

_LARGEST_RANGE = 32 << 20
_SMALLEST_RANGE = 1 << 20
_MOST_TASKS = 2000
"""About so many; Ray Data needs 3 ms for each before the first one starts."""
_BLOCK_BYTES = 4 << 20
"""What is read and predicted at a time, so that memory doesn't grow with the range."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file to transform."""

    path: Location
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


def find_inputs(path: Location, output: Location | None) -> tuple[list[InputFile], list[str]]:
    """The file itself, or the CSV files below a folder but not below the output folder; and what was skipped,
    by its path below the folder.

    Raises DataError when there is nothing to transform.
    """
    files = storage.files(path)
    if [file.path for file in files] == [path]:
        return [_input_file(files[0], path.name)], []
    files = [file for file in files if output is None or not storage.is_within(file.path, output)]
    inputs = [_input_file(file, storage.relative(file.path, path)) for file in files]
    chosen = [file for file in inputs if file.name.endswith(storage.CSV_SUFFIXES)]
    if not chosen:
        elsewhere = "" if output is None else " outside the output folder"
        raise DataError(f"{path} holds no *.csv or *.csv.gz file{elsewhere}")
    return chosen, [file.relative for file in inputs if not file.name.endswith(storage.CSV_SUFFIXES)]


def _input_file(file: StoredFile, relative: str) -> InputFile:
    return InputFile(file.path.resolve(), str(file.path), relative, file.size, file.modified)


def choose_range_bytes(files: list[InputFile], num_predictors: int) -> int:
    """Sixteen ranges a predictor, so that none waits long for the last one, or for one that starts later than
    the others; but a Ray task costs too much for small ones.
    """
    total = sum(file.size for file in files)
    return min(_LARGEST_RANGE, max(_SMALLEST_RANGE, total // (16 * num_predictors)))


def plan_ranges(files: list[InputFile], range_bytes: int) -> list[Range]:
    """Cut every file into ranges, except gzip, which can only be read from its beginning."""
    ranges = []
    for index, file in enumerate(files):
        # A file of one range isn't opened here: its reader sees whether it is zipped.
        is_whole = file.size <= range_bytes or storage.is_gzip(file.path)
        step = max(file.size, 1) if is_whole else range_bytes
        starts = range(0, max(file.size, 1), step)
        ranges += [
            Range(index, part, start, min(start + step, file.size)) for part, start in enumerate(starts)
        ]
    return ranges


def group_ranges(ranges: list[Range], leave_out: Container[int] = ()) -> list[list[int]]:
    """Indices of ranges that share a task, in order: small neighbours, or several of very many."""
    sizes = {index: one.end - one.start for index, one in enumerate(ranges) if index not in leave_out}
    most = max(_SMALLEST_RANGE, sum(sizes.values()) // _MOST_TASKS)
    groups: list[list[int]] = []
    total = 0
    for index, size in sizes.items():
        total += size
        if not groups or total > most:
            groups.append([])
            total = size
        groups[-1].append(index)
    return groups


def read_blocks(file: InputFile, one: Range, length: int, format: PredictionFormat) -> Iterator[Block]:
    """The lines of a range, a block at a time, with at most _BLOCK_BYTES and a line in memory.

    Raises DataError for a file that is empty or no whole gzip file.
    """
    begins_file = one.start == 0
    for block in storage.line_blocks(file.path, one.start, one.end, _BLOCK_BYTES):
        lines, identifiers = format.take_identifiers(block)
        series, faults = parse_sound_rows(lines, length=length, begins_file=begins_file)
        yield Block(len(series) + len(faults), series, identifiers, faults)
        begins_file = False
    if one.start == 0 and begins_file:
        raise DataError(f"{file.name} is empty")


def count_rows(file: InputFile, one: Range) -> int:
    """The lines of a range, unparsed."""
    return sum(
        block.count(b"\n") + (not block.endswith(b"\n"))
        for block in storage.line_blocks(file.path, one.start, one.end, _BLOCK_BYTES)
    )
