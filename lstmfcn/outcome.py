"""What becomes of the files of a transform: their outputs, faults and rates."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Any, Self

from lstmfcn.devices import Precision
from lstmfcn.journal import Part
from lstmfcn.layout import Layout
from lstmfcn.range_prediction import MOST_FAULTS, RangeReport, Work


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of a file."""

    name: str
    relative: str
    """Its path below the input folder."""
    num_rows: int
    """Rows of its output; 0 without one."""
    num_bad: int
    faults: list[str]
    """Sentences on its first bad rows."""
    is_sound: bool
    """Whether it has an output."""


@dataclass(slots=True)
class Summary:
    """What became of all files, and how fast: transform.json."""

    checkpoint: str
    plan: str
    """Digest of what was to be computed from what."""
    precision: str
    num_predictors: int
    num_rows: int
    num_bad: int
    num_predicted: int
    """Rows predicted by this run, not before a resumption."""
    seconds: float
    """Time from the call to the last file's output."""
    startup_seconds: float
    """Time from the call until the first range was begun."""
    rows_per_second: float
    """Rate from the beginning of the first range to the end of the last one."""
    read_rows_per_second: float
    """Rate at which one process reads and parses, while it does nothing else."""
    predict_rows_per_second: float
    """Rate at which one predictor predicts, while it does nothing else."""
    predictor_busy: float
    """Share of their time in which the predictors predicted."""
    cpus_per_predictor: float
    """CPUs that would read as fast as one predictor predicts."""
    files: list[FileResult]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the summary that transform.json holds."""
        return cls(**{**values, "files": [FileResult(**file) for file in values["files"]]})


class Outcomes:
    """What is known of every file, until it is concluded."""

    def __init__(
        self,
        work: Work,
        max_bad_rows: int | None,
        done: Iterable[Part] = (),
        concluded: Mapping[int, FileResult] | None = None,
    ) -> None:
        self.concluded = dict(concluded or {})
        self._work, self._max_bad_rows = work, max_bad_rows
        self._parts: dict[int, dict[int, Part]] = defaultdict(dict)
        self._reports: dict[int, dict[int, RangeReport]] = defaultdict(dict)
        self._num_ranges = Counter(each.file for each in work.ranges)
        self._num_left = self._num_ranges.copy()
        self._num_faulty = sum(not result.is_sound for result in self.concluded.values())
        for part in done:
            self._parts[part.file][part.part] = part
            self._num_left[part.file] -= 1

    def done_ranges(self) -> set[int]:
        """Return the indices of the ranges whose outcome is known."""
        return {
            number
            for number, each in enumerate(self._work.ranges)
            if each.file in self.concluded
            or each.part in self._parts[each.file]
            or each.part in self._reports.get(each.file, ())
        }

    def done_bytes(self) -> int:
        """Return how many bytes the ranges in `done_ranges` have."""
        ranges = self._work.ranges
        return sum(ranges[number].num_bytes for number in self.done_ranges())

    def __str__(self) -> str:
        """Return how far the files are, in words."""
        text = f"{len(self.concluded):,} of {len(self._work.files):,} files done"
        if self._num_faulty:
            text += f", {self._num_faulty:,} without an output"
        if not self._reports:
            return text
        under_way = next(iter(self._reports))
        share = 1 - self._num_left[under_way] / self._num_ranges[under_way]
        return f"{text}, {self._work.files[under_way].name} {share:.0%}"

    def add(self, report: RangeReport) -> None:
        """Take in what became of a range; conclude its file if that was the last one."""
        byte_range = self._work.ranges[report.number]
        self._reports[byte_range.file][byte_range.part] = report
        if not report.spoils_its_file(self._work.bad_rows) and not report.is_left_out:
            self._parts[byte_range.file][byte_range.part] = Part(
                byte_range.file, byte_range.part, report.num_rows, report.num_bad
            )
        self._num_left[byte_range.file] -= 1
        if self._num_left[byte_range.file] == 0:
            self.conclude(byte_range.file)

    def conclude(self, number: int) -> None:
        """Join the parts of a sound file to its output, or say what is wrong with another."""
        if number in self.concluded:
            return
        file = self._work.files[number]
        reports, parts = self._reports.pop(number, {}), self._parts.pop(number, {})
        rows_before = _running_totals(reports, parts)
        layout = self._work.layouts[number]
        if isinstance(layout, Layout) and layout.header is not None:  # which is row 1
            rows_before = {part: 1 + rows for part, rows in rows_before.items()}
        told = [
            f"{file.name}: row {rows_before[part] + row}{reason}" if row else reason
            for part, report in takewhile(lambda item: item[1].is_counted, sorted(reports.items()))
            for row, reason in report.faults
        ]
        faults = list(dict.fromkeys(told))[:MOST_FAULTS]  # several ranges find the same fault of the file
        num_bad = sum(part.num_bad for part in parts.values())
        is_sound = len(parts) == self._num_ranges[number]
        most = self._max_bad_rows
        if is_sound and most is not None and num_bad > most:
            is_sound = False
            faults = [f"{file.name} has {num_bad:,} bad rows, more than --max-bad-rows {most:,}"]
        if is_sound and file.has_changed():
            is_sound = False
            faults = [f"{file.name} was changed while it was read; it must stay as it is"]
        num_rows = sum(part.num_rows for part in parts.values()) if is_sound else 0
        result = FileResult(file.name, file.relative, num_rows, num_bad, faults, is_sound)
        if self._work.journal is not None:
            ordered = [parts[part] for part in sorted(parts)]
            if is_sound:
                self._work.journal.join(ordered, rows_before, file.relative)
            self._work.journal.note_concluded(number, asdict(result))
        self.concluded[number] = result
        self._num_faulty += not is_sound


def in_lines(faults: Sequence[Sequence[str]]) -> str:
    """Return what is wrong with some files: the first fault of each, and others as long as there is room."""
    room = max(0, MOST_FAULTS - len(faults))
    lines: list[str] = []
    for first, *others in faults[:MOST_FAULTS]:
        lines += [first, *others[:room]]
        room -= len(others[:room])
    if hidden := sum(map(len, faults)) - len(lines):
        lines.append(f"and {hidden:,} more fault{'s' * (hidden > 1)}")
    if any(1 + len(others) >= MOST_FAULTS for _, *others in faults):
        lines.append(f"of a file no more than {MOST_FAULTS} faults are listed")
    return "\n".join(lines)


def _running_totals(reports: dict[int, RangeReport], parts: dict[int, Part]) -> dict[int, int]:
    """Return, for every part of a file, the number of rows before it."""
    totals = {}
    total = 0
    for part in sorted(reports.keys() | parts.keys()):
        totals[part] = total
        total += reports[part].num_rows if part in reports else parts[part].num_rows
    return totals


@dataclass(slots=True)
class Rates:
    """What the processes' reports add up to."""

    first_started: float = math.inf
    last_ended: float = 0.0
    num_rows: int = 0
    num_predicted: int = 0
    read_seconds: float = 0.0
    predict_seconds: float = 0.0

    def add(self, report: RangeReport) -> None:
        """Take in what became of a range."""
        self.first_started = min(self.first_started, report.started)
        self.last_ended = max(self.last_ended, report.ended)
        self.num_rows += report.num_rows
        self.num_predicted += report.num_predicted
        self.read_seconds += report.read_seconds
        self.predict_seconds += report.predict_seconds

    def summary(
        self,
        checkpoint: str,
        plan: str,
        precision: Precision,
        num_predictors: int,
        called: float,
        files: list[FileResult],
    ) -> Summary:
        """Return the summary of a transform that was called at `called`, in seconds since 1970."""
        began = min(self.first_started, time.time())
        elapsed = max(self.last_ended - began, 1e-9)
        read_rate = self.num_rows / max(self.read_seconds, 1e-9)
        predict_rate = self.num_predicted / max(self.predict_seconds, 1e-9)
        return Summary(
            checkpoint=checkpoint,
            plan=plan,
            precision=precision,
            num_predictors=num_predictors,
            num_rows=sum(file.num_rows for file in files),
            num_bad=sum(file.num_bad for file in files),
            num_predicted=self.num_predicted,
            seconds=round(time.time() - called, 3),
            startup_seconds=round(began - called, 3),
            rows_per_second=round(self.num_rows / elapsed, 1),
            read_rows_per_second=round(read_rate, 1),
            predict_rows_per_second=round(predict_rate, 1),
            predictor_busy=round(self.predict_seconds / (elapsed * num_predictors), 3),
            cpus_per_predictor=round(predict_rate / max(read_rate, 1e-9), 1),
            files=files,
        )
