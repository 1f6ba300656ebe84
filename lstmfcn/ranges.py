"""The input of a transform: files, the byte ranges that they are cut into, and the series read from one."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np

from lstmfcn import listing, storage
from lstmfcn.cells import BYTE_ORDER_MARK, num_lines
from lstmfcn.errors import DataError, MissingDataError
from lstmfcn.layout import Layout
from lstmfcn.prediction_format import REJECTS_SUFFIX, PredictionFormat
from lstmfcn.rendering import Renderer
from lstmfcn.series import Fault, Matrix, parse_sound_rows
from lstmfcn.storage import Location
from lstmfcn.treatment import UNTREATED, Treatment

_LARGEST_RANGE = 32 << 20
_SMALLEST_RANGE = 1 << 20
_MOST_TASKS = 2000
"""About the most tasks of a transform, since Ray Data needs 3 ms for each before the first one starts."""
_TASKS_PER_PREDICTOR = 2
"""With very many predictors there may be more tasks: so many for each, so that none is idle."""
_BLOCK_BYTES = 4 << 20
"""Bytes that are read and predicted at a time, so that memory doesn't grow with the range."""
_MOST_CELLS = _BLOCK_BYTES // 2
"""Most values in a block: a treatment may turn short lines into long series."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file to transform."""

    path: Location
    name: str
    """Its path as the user gave it."""
    relative: str
    """Its path below the input folder; with `.out` after it, its output's path below the output folder."""
    size: int
    modified: int
    """Nanoseconds since 1970."""

    def has_changed(self) -> bool:
        """Whether another file is in its place now; not if that can't be looked at."""
        try:
            now = listing.stored(self.path)
        except OSError:
            return False
        # To the second, since an object storage's answers may differ in precision.
        return (now.size, now.modified // 10**9) != (self.size, self.modified // 10**9)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The lines of a file whose first byte lies in [start, end)."""

    file: int
    part: int
    """Number of the range within its file, from 0."""
    start: int
    end: int

    @property
    def num_bytes(self) -> int:
        """Bytes in the range; its last line may reach beyond them."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Block:
    """Some of the lines of a range."""

    num_rows: int
    series: Matrix
    """The sound rows: (cases, values)."""
    identifiers: list[bytes] | None
    """What the output line of each row, sound or bad, begins with; None if there is nothing to copy."""
    faults: list[Fault]
    """The bad rows, counted within the block. Rows after the last fault that is asked for are neither here
    nor in series."""


def find_inputs(path: Location, output: Location | None) -> tuple[list[InputFile], list[str]]:
    """Return the file itself, or the CSV files below a folder, without those below an output folder inside it
    and without the rejects of a transform; and what was skipped, by its path below the folder.

    Raises DataError when there is nothing to transform.
    """
    files = listing.files(path)
    if [file.path for file in files] == [path]:
        return [_input_file(files[0], path.name)], []
    if output is not None and not storage.is_within(path, output):
        files = [file for file in files if not storage.is_within(file.path, output)]
    chosen: list[InputFile] = []
    skipped: list[str] = []
    for file in files:
        relative = storage.relative(file.path, path)
        if relative.endswith(listing.CSV_SUFFIXES) and not relative.endswith(REJECTS_SUFFIX):
            chosen.append(_input_file(file, relative))
        else:
            skipped.append(relative)
    if not chosen:
        elsewhere = "" if output is None else " outside the output folder"
        raise DataError(f"{path} holds no *.csv or *.csv.gz file{elsewhere}")
    return chosen, skipped


def _input_file(file: listing.StoredFile, relative: str) -> InputFile:
    return InputFile(file.path.resolve(), str(file.path), relative, file.size, file.modified)


def choose_range_bytes(files: list[InputFile], num_predictors: int) -> int:
    """Return the size of ranges: sixteen for each predictor, so that none waits long for the last range, or
    for a predictor that starts later than the others; but a Ray task costs too much for small ranges.
    """
    total = sum(file.size for file in files)
    return min(_LARGEST_RANGE, max(_SMALLEST_RANGE, total // (16 * num_predictors)))


def plan_ranges(files: list[InputFile], range_bytes: int, faulty: Container[int] = ()) -> list[ByteRange]:
    """Cut every file into ranges, except gzip, which can only be read from its beginning. The files whose
    indices are in `faulty` get no output, however they are cut, and are not opened.

    Raises DataError for another one that can't be read: were it cut otherwise than before, a transform that
    is resumed would lose or repeat rows.
    """
    ranges = []
    # A file of one range isn't opened here: its reader sees whether it is zipped.
    large = [file.path for index, file in enumerate(files) if file.size > range_bytes and index not in faulty]
    zipped = set(compress(large, storage.in_parallel(storage.is_gzip, large)))
    for index, file in enumerate(files):
        is_whole = file.size <= range_bytes or file.path in zipped
        step = max(file.size, 1) if is_whole else range_bytes
        starts = range(0, max(file.size, 1), step)
        ranges += [
            ByteRange(index, part, start, min(start + step, file.size)) for part, start in enumerate(starts)
        ]
    return ranges


def read_layouts(
    files: Sequence[InputFile],
    format: PredictionFormat,
    num_values: int,
    renderer: Renderer,
    treatment: Treatment = UNTREATED,
) -> list[Layout | str]:
    """Return how each file is read, by its first line, or a sentence on what is wrong with it or the file.

    Raises DataError when the storage fails or a file has gone.
    """
    alike: dict[bytes, Layout] = {}  # a wide header's is large, and all predictors get it

    def layout(file: InputFile) -> Layout | str:
        try:
            first_line, has_more = storage.first_line(file.path)
        except OSError as error:
            raise DataError(f"{file.name} can't be read: {storage.reason(error)}") from None
        except MissingDataError:  # after the file was found: its disk may be away for a moment
            raise
        except DataError as error:
            return str(error)
        try:
            if has_more and first_line in alike:
                return alike[first_line]
            found = Layout.of(first_line, format, num_values, renderer, file.name, treatment)
            if found.header is None:
                return found
            if not has_more:
                raise DataError(f"{file.name} holds a header and no series")
            return alike.setdefault(first_line, found)
        except DataError as error:
            return str(error)

    return list(storage.in_parallel(layout, files))


def group_ranges(
    ranges: list[ByteRange], num_predictors: int, leave_out: Container[int] = ()
) -> list[list[int]]:
    """Return the indices of the ranges of each task, in order: small neighbours share a task and, where there
    are very many ranges, larger ones do too.
    """
    sizes = {index: each.num_bytes for index, each in enumerate(ranges) if index not in leave_out}
    most_tasks = max(_MOST_TASKS, _TASKS_PER_PREDICTOR * num_predictors)
    most = max(_SMALLEST_RANGE, sum(sizes.values()) // most_tasks)
    groups: list[list[int]] = []
    total = 0
    for index, size in sizes.items():
        total += size
        if not groups or total > most:
            groups.append([])
            total = size
        groups[-1].append(index)
    return groups


def read_blocks(
    file: InputFile, byte_range: ByteRange, num_values: int, layout: Layout, most_faults: float = math.inf
) -> Iterator[Block]:
    """Yield the rows of a range, a block at a time, with at most _BLOCK_BYTES and a line in memory. Once
    there are `most_faults`, further rows are only counted.

    Raises DataError for a file that is empty or isn't a whole gzip file.
    """
    begins_file = byte_range.start == 0
    most_lines = max(1, _MOST_CELLS // num_values)
    for read in storage.line_blocks(file.path, byte_range.start, byte_range.end, _BLOCK_BYTES):
        lines = read
        if begins_file:
            lines = lines.removeprefix(BYTE_ORDER_MARK)
            begins_file = not lines
            if layout.header is not None:
                lines = lines.partition(b"\n")[2]
        for few_lines in _pieces(lines, most_lines):
            if most_faults <= 0:
                yield Block(num_lines(few_lines), np.empty((0, num_values), np.float32), None, [])
                continue
            block = _read_block(few_lines, num_values, layout, most_faults)
            most_faults -= len(block.faults)
            yield block
    if begins_file:
        raise DataError(f"{file.name} is empty")


def _pieces(lines: bytes, most_lines: int) -> Iterator[bytes]:
    """Yield the same lines, at most so many at a time."""
    cuts: list[int] = []
    if lines.count(b"\n") >= most_lines:  # finding where they end takes much longer than counting them
        line_ends = np.flatnonzero(np.frombuffer(lines, np.uint8) == ord("\n"))
        cuts = (line_ends[most_lines - 1 :: most_lines] + 1).tolist()
    start = 0
    for end in (*cuts, len(lines)):
        if start < end:
            yield lines[start:end]
        start = end


def _read_block(lines: bytes, num_values: int, layout: Layout, most_faults: float) -> Block:
    without, identifiers = layout.format.take_identifiers(lines)
    series, faults = parse_sound_rows(
        without,
        num_values=num_values,
        header=layout.header,
        identifiers=layout.format.identifiers,
        treatment=layout.treatment,
        most_faults=most_faults,
    )
    if faults and without is not lines:
        originals = lines.split(b"\n")
        faults = [replace(fault, line=originals[fault.row - 1].removesuffix(b"\r")) for fault in faults]
    return Block(num_lines(lines), series, identifiers, faults)


def count_rows(file: InputFile, byte_range: ByteRange, layout: Layout) -> int:
    """Return the number of rows in a range, without parsing them."""
    blocks = storage.line_blocks(file.path, byte_range.start, byte_range.end, _BLOCK_BYTES)
    return sum(map(num_lines, blocks)) - (byte_range.start == 0 and layout.header is not None)
