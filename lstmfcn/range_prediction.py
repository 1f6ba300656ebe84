"""What a process of a transform does with a range: read and parse it, predict it, commit its lines.

Reading and predicting are two functions: a process on a CPU does one after the other, block by block;
for a GPU others read, and a range travels to the predictor as one block.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np

from lstmfcn import storage
from lstmfcn.cells import csv_cell, split_line
from lstmfcn.errors import DataError, ForbiddenDataError, MissingDataError
from lstmfcn.journal import Journal, Part
from lstmfcn.layout import Layout
from lstmfcn.predictor import Predictor
from lstmfcn.ranges import Block, ByteRange, InputFile, count_rows, read_blocks

BadRows: TypeAlias = Literal["fail", "mark"]

MARK = b"ERROR"
MOST_FAULTS = 100
"""Most faults that are told of a file, and of all files together."""


@dataclass(frozen=True, slots=True)
class Work:
    """What all processes of a transform know."""

    files: list[InputFile]
    ranges: list[ByteRange]
    length: int
    """Values in each row."""
    layouts: list[Layout | str]
    """Layout of each file, or a sentence on what is wrong with its header."""
    bad_rows: BadRows
    journal: Journal | None
    """None if the input is only checked."""

    def layout(self, number: int) -> Layout:
        """Return the layout of a range's file. Raises DataError when its header is wrong."""
        layout = self.layouts[self.ranges[number].file]
        if isinstance(layout, str):
            raise DataError(layout)
        return layout


@dataclass(slots=True)
class RangeReport:
    """What became of a range."""

    number: int
    """Its index among the ranges."""
    started: float
    """Seconds since 1970."""
    ended: float = 0.0
    is_left_out: bool = False
    """Whether it was at most counted, since a bad row in another range is known to spoil the file."""
    is_counted: bool = True
    """Whether its rows are known."""
    num_rows: int = 0
    num_predicted: int = 0
    num_bad: int = 0
    faults: list[tuple[int, str]] = field(default_factory=list)
    """Bad rows that aren't marked, counted from 1 within the range, each with what follows `row <row>` in the
    sentence about it; row 0 comes with a whole sentence about the file."""
    read_seconds: float = 0.0
    predict_seconds: float = 0.0
    error: str = ""
    """Why the transform can't go on, in a sentence: the storage failed, or this process is unfit for it."""
    missing: str = ""
    """Sentence that says that the file isn't there, or may not be read, on this node; empty if it is."""

    def spoils_its_file(self, bad_rows: BadRows) -> bool:
        """Whether its faults leave the file without an output: any fault or, where bad rows are marked, only
        one of the whole file.
        """
        return any(bad_rows == "fail" or row == 0 for row, _ in self.faults)


def read_range(work: Work, number: int, report: RangeReport) -> Iterator[Block]:
    """Yield the range's blocks; none at all once another range of its file is known to have a bad row. Then
    its rows are counted if it comes before that one, since the bad row's number depends on them.

    Adds to the report what reading took and what is wrong with the file as a whole.
    """
    one = work.ranges[number]
    file = work.files[one.file]
    faulty = None
    if work.journal is not None and work.bad_rows == "fail" and one.end - one.start < file.size:
        faulty = work.journal.first_fault(one.file)
    try:
        layout = work.layout(number)
        if faulty is not None and one.part != faulty:
            report.is_left_out = True
            report.is_counted = one.part < faulty
            report.num_rows = count_rows(file, one, layout) if report.is_counted else 0
            return
        most_faults = MOST_FAULTS if work.bad_rows == "fail" else math.inf
        blocks = read_blocks(file, one, work.length, layout, most_faults)
        while True:
            started = time.perf_counter()
            block = next(blocks, None)
            report.read_seconds += time.perf_counter() - started
            if block is None:
                return
            yield block
    except (MissingDataError, ForbiddenDataError) as error:  # on this node: the driver has read its beginning
        where = f"on {platform.node()}, which was to read it; on a cluster all nodes must be able to"
        report.missing = f"{error} {where}"
        report.faults.append((0, report.missing))
    except DataError as error:
        report.faults.append((0, str(error)))
    except OSError as error:
        report.error = f"{file.name} can't be read: {storage.reason(error)}"


def predict_range(
    work: Work, report: RangeReport, blocks: Iterable[Block], predictor: Predictor | None
) -> None:
    """Predict the blocks of a range and commit their lines, unless a bad row forbids it.

    Completes the report.
    """
    try:
        if work.journal is None or predictor is None:
            for block in blocks:
                _count(work, report, block)
        else:
            _commit(work, report, blocks, predictor, work.journal)
    except OSError as error:
        assert work.journal is not None
        report.error = f"--output {work.journal.output} can't be written: {storage.reason(error)}"
    report.ended = time.time()


def _commit(
    work: Work, report: RangeReport, blocks: Iterable[Block], predictor: Predictor, journal: Journal
) -> None:
    one = work.ranges[report.number]
    layout = work.layouts[one.file]
    with journal.pending() as lines, journal.pending() as rejects:
        if one.part == 0 and isinstance(layout, Layout):
            lines.write(layout.output_header)
        for block in blocks:
            rows_before = report.num_rows
            _count(work, report, block)
            if report.faults and work.bad_rows == "fail":
                continue  # the rest of the range is only counted
            started = time.perf_counter()
            lines.write(_output_lines(work.layout(report.number), block, predictor))
            report.predict_seconds += time.perf_counter() - started
            report.num_predicted += len(block.series)
            rejects.write(_reject_lines(block, rows_before))
        if report.error:
            return
        if report.spoils_its_file(work.bad_rows):
            if any(row for row, _ in report.faults):  # faults of the file may be this node's, and be mended
                journal.note_fault(one.file, one.part)
        elif not report.is_left_out:
            part = Part(one.file, one.part, report.num_rows, report.num_bad)
            if report.num_bad:
                rejects.commit(journal.folder / part.rejects_name)
            lines.commit(journal.folder / part.name)


def _count(work: Work, report: RangeReport, block: Block) -> None:
    if work.bad_rows == "fail":
        report.faults += [(report.num_rows + fault.row, fault.reason) for fault in block.faults]
    report.num_rows += block.num_rows
    report.num_bad += len(block.faults)


def _output_lines(layout: Layout, block: Block, predictor: Predictor) -> bytes:
    columns, with_header = layout.columns, layout.header is not None
    rows = list(predictor.cells(block.series, columns, with_header=with_header))
    if block.faults:
        mark = b",".join([MARK] * predictor.num_cells(columns, with_header=with_header))
        faulty, sound = {fault.row - 1 for fault in block.faults}, iter(rows)
        rows = [mark if index in faulty else next(sound) for index in range(block.num_rows)]
    if block.identifiers is not None:
        before = list(block.identifiers)
        if layout.format.join_input:
            for fault in block.faults:
                before[fault.row - 1] = _joined(before[fault.row - 1])
        rows = [start + b"," + row for start, row in zip(before, rows, strict=True)]
    return b"".join([row + b"\n" for row in rows])


def _joined(line: bytes) -> bytes:
    """Return a bad row's line as it is or, if readers of CSV would lose their way in it, as a single cell."""
    try:
        split_line(line, "")
    except DataError:
        return csv_cell(_shown(line))
    return csv_cell(_shown(line)) if line.endswith(b"\r") else line


def _shown(line: bytes) -> str:
    return line.decode(errors="backslashreplace").replace("\r", "\\r")  # csv would not quote it


def _reject_lines(block: Block, rows_before: int) -> bytes:
    """Return `row,reason,line` for each bad row; rows are counted within the range."""
    rows = []
    for fault in block.faults:
        reason = fault.reason.removeprefix(",").strip()
        rows.append([str(rows_before + fault.row), reason, _shown(fault.line)])
    return storage.csv_lines(rows)


def one_block(blocks: list[Block], length: int) -> Block:
    """Join the blocks of a range into one, which can be sent to another process."""
    num_rows = 0
    faults = []
    identifiers: list[bytes] = []
    for block in blocks:
        faults += [replace(fault, row=num_rows + fault.row) for fault in block.faults]
        num_rows += block.num_rows
        identifiers += block.identifiers or []
    series = [block.series for block in blocks]
    whole = np.concatenate(series) if series else np.empty((0, length), np.float32)
    has_identifiers = bool(blocks) and blocks[0].identifiers is not None
    return Block(num_rows, whole, identifiers if has_identifiers else None, faults)
