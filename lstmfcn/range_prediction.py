"""What a process of a transform does with a range: read and parse it, predict it, commit its lines.

Reading and predicting are two functions: a process on a CPU does one after the other, block by block;
for a GPU others read, and a range travels to the predictor as one block.
"""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Self, TypeAlias

import numpy as np

from lstmfcn import output_folder, storage
from lstmfcn.cells import csv_cell, split_line
from lstmfcn.errors import DataError, ForbiddenDataError, MissingDataError, is_of_full_memory
from lstmfcn.journal import Journal, Part
from lstmfcn.layout import Layout
from lstmfcn.predictor import Predictor
from lstmfcn.ranges import Block, ByteRange, InputFile, count_rows, read_blocks
from lstmfcn.series import Fault

BadRows: TypeAlias = Literal["fail", "mark"]

MARK = b"ERROR"
MOST_FAULTS = 100
"""Most faults that are told of a file, and of all files together."""
_MOST_CELLS_SENT = 1 << 24
"""Most values of a range that are sent to another process: those of 32 MB of text, at two bytes each."""


@dataclass(frozen=True, slots=True)
class Work:
    """What all processes of a transform know."""

    files: list[InputFile]
    ranges: list[ByteRange]
    num_values: int
    """Values in each row."""
    layouts: list[Layout | str]
    """Layout of each file, or a sentence on what is wrong with its header."""
    bad_rows: BadRows
    journal: Journal | None
    """None if the input is only checked."""

    def layout(self, file: int) -> Layout:
        """Return a file's layout. Raises DataError when its header is wrong."""
        layout = self.layouts[file]
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
    """Whether it was not predicted, because another range of the file has a bad row."""
    is_counted: bool = True
    """Whether `num_rows` is known."""
    num_rows: int = 0
    num_predicted: int = 0
    num_bad: int = 0
    faults: list[tuple[int, str]] = field(default_factory=list)
    """(row, reason) of each bad row that isn't marked. Rows count from 1 within the range, and the reason
    goes on from `<file>: row <row>`. Row 0 stands for the whole file, and its reason is a whole sentence."""
    read_seconds: float = 0.0
    predict_seconds: float = 0.0
    error: str = ""
    """Why the transform can't go on, in a sentence: the storage failed, or this process is unfit for it."""
    missing: str = ""
    """Sentence that says that the file isn't there, or may not be read, on this node; empty if it is."""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return a report from its fields as JSON has kept them."""
        return cls(**{**values, "faults": [(row, reason) for row, reason in values["faults"]]})

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
    byte_range = work.ranges[number]
    file = work.files[byte_range.file]
    faulty = None
    if work.journal is not None and work.bad_rows == "fail" and byte_range.num_bytes < file.size:
        faulty = work.journal.first_fault(byte_range.file)
    try:
        layout = work.layout(byte_range.file)
        if faulty is not None and byte_range.part != faulty:
            report.is_left_out = True
            report.is_counted = byte_range.part < faulty
            report.num_rows = count_rows(file, byte_range, layout) if report.is_counted else 0
            return
        most_faults = MOST_FAULTS if work.bad_rows == "fail" else math.inf
        blocks = read_blocks(file, byte_range, work.num_values, layout, most_faults)
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
        report.error = output_folder.unwritable(work.journal.output, error)
    except (RuntimeError, MemoryError) as error:
        if not is_of_full_memory(repr(error)):
            raise
        report.error = (
            f"a predictor on {platform.node()} has no memory left; use fewer (--predictors of"
            " jobs.transform), or give them more memory"
        )
    report.ended = time.time()


def _commit(
    work: Work, report: RangeReport, blocks: Iterable[Block], predictor: Predictor, journal: Journal
) -> None:
    byte_range = work.ranges[report.number]
    layout = work.layouts[byte_range.file]
    with journal.pending() as lines, journal.pending() as rejects:
        if byte_range.part == 0 and isinstance(layout, Layout):
            lines.write(layout.output_header)
        for block in blocks:
            rows_before = report.num_rows
            _count(work, report, block)
            if report.faults and work.bad_rows == "fail":
                continue  # the rest of the range is only counted
            started = time.perf_counter()
            lines.write(_output_lines(work.layout(byte_range.file), block, predictor))
            report.predict_seconds += time.perf_counter() - started
            report.num_predicted += len(block.series)
            rejects.write(_reject_lines(block, rows_before))
        if report.error:
            return
        if report.spoils_its_file(work.bad_rows):
            if any(row for row, _ in report.faults):  # faults of the file may be this node's, and be mended
                journal.note_fault(byte_range.file, byte_range.part)
        elif not report.is_left_out:
            part = Part(byte_range.file, byte_range.part, report.num_rows, report.num_bad)
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
        rows.append([rows_before + fault.row, reason, _shown(fault.line)])
    return storage.csv_lines(rows)


def pack_range(work: Work, number: int) -> dict[str, Any]:
    """Read a range and return it as a row for `unpack_range` in another process: the series as one tensor,
    all else as JSON. A range that is too long for one block, or can't be read here, is left to that process.
    """
    report = RangeReport(number, time.time())
    blocks = _blocks_to_send(work, report)
    block = _one_block(blocks or [], work.num_values)
    identifiers = block.identifiers
    rest = {
        "report": asdict(report),
        "is_read": blocks is not None,
        "num_rows": block.num_rows,
        "identifiers": None if identifiers is None else [text.decode("latin-1") for text in identifiers],
        "faults": [(fault.row, fault.reason, fault.line.decode("latin-1")) for fault in block.faults],
    }
    return {"series": block.series, "rest": json.dumps(rest)}


def unpack_range(row: dict[str, Any]) -> tuple[RangeReport, list[Block] | None]:
    """Return the report and the blocks that `pack_range` packed; no blocks if they are still to be read."""
    rest = json.loads(row["rest"])
    report = RangeReport.from_dict(rest["report"])
    if not rest["is_read"]:
        return report, None
    identifiers = rest["identifiers"]
    if identifiers is not None:
        identifiers = [text.encode("latin-1") for text in identifiers]
    faults = [Fault(number, reason, line.encode("latin-1")) for number, reason, line in rest["faults"]]
    block = Block(rest["num_rows"], np.ascontiguousarray(row["series"], np.float32), identifiers, faults)
    return report, [block] if block.num_rows else []


def _blocks_to_send(work: Work, report: RangeReport) -> list[Block] | None:
    """Return the blocks of a range; None if its predictor is to read it, since they are too long to travel as
    one block, or since they can't be read, which the predictor then says.
    """
    byte_range = work.ranges[report.number]
    blocks: list[Block] = []
    num_cells = 0
    try:
        if byte_range.start == 0 and storage.is_gzip(work.files[byte_range.file].path):
            return None
        for block in read_range(work, report.number, report):
            blocks.append(block)
            num_cells += block.series.size
            if num_cells > _MOST_CELLS_SENT:  # short series that are made as long as the network's
                return None
    except (DataError, OSError):
        return None
    return blocks


def _one_block(blocks: list[Block], num_values: int) -> Block:
    """Return the blocks of a range joined into one."""
    num_rows = 0
    faults = []
    identifiers: list[bytes] = []
    for block in blocks:
        faults += [replace(fault, row=num_rows + fault.row) for fault in block.faults]
        num_rows += block.num_rows
        identifiers += block.identifiers or []
    series = [block.series for block in blocks]
    whole = np.concatenate(series) if series else np.empty((0, num_values), np.float32)
    has_identifiers = bool(blocks) and blocks[0].identifiers is not None
    return Block(num_rows, whole, identifiers if has_identifiers else None, faults)
