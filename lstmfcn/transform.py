"""Transform: CSV files of any size predicted by a pool of processes, on Ray Data.

Files are cut into byte ranges that end where lines end. On CPUs a predictor reads, parses and predicts a
range; for GPUs other processes read and parse. Either way the range's lines are committed as a part file,
and the driver joins the parts of a file, in order, to its output.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset

from lstmfcn import cluster, storage
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.devices import Precision
from lstmfcn.errors import OutputError
from lstmfcn.journal import SUMMARY, WORK_FOLDER, Journal, Part
from lstmfcn.prediction_format import PredictionFormat
from lstmfcn.predictor import Predictor
from lstmfcn.range_prediction import (
    MOST_FAULTS,
    BadRows,
    Report,
    Task,
    one_block,
    predict_range,
    read_range,
)
from lstmfcn.ranges import Block, InputFile, choose_range_bytes, group_ranges, plan_ranges
from lstmfcn.series import Fault, Matrix
from lstmfcn.storage import Location

RESULT_PATTERNS = ("**/*.out", SUMMARY, WORK_FOLDER)
"""What a transform writes to its output folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How files are transformed."""

    format: PredictionFormat = field(default_factory=PredictionFormat)
    bad_rows: BadRows = "fail"
    max_bad_rows: int | None = None
    """Of one file, when they are marked."""
    precision: Precision = "fp32"
    num_predictors: int | None = None
    """As many as fit the cluster, for None."""
    gpus_per_predictor: float = 0


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of a file."""

    name: str
    num_rows: int
    num_bad: int
    faults: list[str]
    """Sentences on its first bad rows."""
    is_sound: bool
    """Whether it has an output."""


@dataclass(slots=True)
class Summary:
    """What became of all files, and how fast: transform.json."""

    checkpoint: str
    precision: str
    num_predictors: int
    num_rows: int
    num_bad: int
    seconds: float
    """From the call to the last file's output."""
    startup_seconds: float
    """From the call to the first range that was begun."""
    rows_per_second: float
    """From then to the last range's end; of what was predicted now, not before a resumption."""
    read_rows_per_second: float
    """Of one process, reading and parsing alone."""
    predict_rows_per_second: float
    """Of one predictor, predicting alone."""
    predictor_busy: float
    """Share of their time that the predictors predicted."""
    cpus_per_predictor: float
    """CPUs that would read as fast as one predictor predicts."""
    files: list[FileResult]


def transform(
    checkpoint: Checkpoint,
    files: list[InputFile],
    output: Location | None,
    options: Options,
    *,
    resume: bool = False,
    on_range: Callable[[int, int], None] = lambda _bytes, _rows: None,
) -> Summary:
    """Predict every file and write `<output>/<relative>.out`: a line for each row, in order, at once.

    A file with a fault gets no output (unless bad rows are marked), and the others go on. Without an output
    folder the files are only read and checked. `on_range` is called with the bytes and rows of every range
    that is done.

    Raises ResourceError when a predictor fits no node, OutputError when the output can't be written or holds
    other work than what is to be resumed.
    """
    called = time.time()
    cluster.refuse_unsatisfiable("a predictor", 1, options.gpus_per_predictor)
    fitting = max(1, cluster.num_predictors_fitting(options.gpus_per_predictor))
    num_predictors = options.num_predictors or fitting
    precision = cluster.precision_there(options.precision, options.gpus_per_predictor)
    journal = None if output is None else Journal(output)
    range_bytes = choose_range_bytes(files, num_predictors)
    done: list[Part] = []
    concluded: dict[int, FileResult] = {}
    if journal is not None:
        plan = _plan(checkpoint, files, options, precision)
        if resume:
            range_bytes = journal.resume(plan)["range_bytes"]
            done = list(journal.parts())
            concluded = {number: FileResult(**result) for number, result in journal.concluded()}
        else:
            storage.remove(journal.folder.parent, WORK_FOLDER, SUMMARY, *_outputs(files))
            journal.begin({**plan, "range_bytes": range_bytes})
    ranges = plan_ranges(files, range_bytes)
    task = Task(files, ranges, checkpoint.length, options.format, options.bad_rows, journal)
    state = _State(task, options, done, concluded)
    groups = group_ranges(ranges, leave_out=state.done_ranges())
    reports = _Reports()
    for report in _run(checkpoint, task, groups, precision, num_predictors, options.gpus_per_predictor):
        if report.error:
            raise OutputError(f"{report.error}; --resume goes on when that is mended")
        reports.add(report)
        state.add(report)
        one = ranges[report.number]
        on_range(one.end - one.start, report.num_rows)
    for number in range(len(files)):
        state.conclude(number)
    results = [state.concluded[number] for number in range(len(files))]
    summary = reports.summary(checkpoint, precision, num_predictors, called, results)
    if journal is not None:
        has_result = any(result.is_sound for result in results)
        journal.end(json.dumps(asdict(summary), indent=1).encode() if has_result else None)
    return summary


def _outputs(files: list[InputFile]) -> list[str]:
    return [f"{file.relative}{end}" for file in files for end in (".out", ".rejects.csv")]


def _plan(
    checkpoint: Checkpoint, files: list[InputFile], options: Options, precision: Precision
) -> dict[str, Any]:
    """What must be the same for a transform to go on."""
    return {
        "checkpoint": checkpoint.digest(),
        "device": "cpu" if options.gpus_per_predictor == 0 else "gpu",
        "precision": precision,
        "columns": list(options.format.columns),
        "id columns": list(options.format.id_columns),
        "join": options.format.join_input,
        "bad rows": options.bad_rows,
        "input": [[file.relative, file.size, file.modified] for file in files],
    }


class _State:
    """What is known of every file, until it is concluded."""

    def __init__(
        self, task: Task, options: Options, done: list[Part], concluded: dict[int, FileResult]
    ) -> None:
        self.concluded = concluded
        self._task, self._options = task, options
        self._parts: dict[int, dict[int, Part]] = defaultdict(dict)
        self._reports: dict[int, dict[int, Report]] = defaultdict(dict)
        self._num_parts = Counter(one.file for one in task.ranges)
        for part in done:
            self._parts[part.file][part.part] = part

    def done_ranges(self) -> set[int]:
        """Indices of the ranges that an earlier run has done."""
        return {
            number
            for number, one in enumerate(self._task.ranges)
            if one.file in self.concluded or one.part in self._parts[one.file]
        }

    def add(self, report: Report) -> None:
        """Take in what became of a range; conclude its file if that was the last one."""
        one = self._task.ranges[report.number]
        self._reports[one.file][one.part] = report
        if not report.spoils_its_file(self._options.bad_rows) and not report.is_left_out:
            self._parts[one.file][one.part] = Part(one.file, one.part, report.num_rows, report.num_bad)
        if len(self._parts[one.file].keys() | self._reports[one.file].keys()) == self._num_parts[one.file]:
            self.conclude(one.file)

    def conclude(self, number: int) -> None:
        """Join the parts of a sound file to its output, or say what is wrong with another."""
        if number in self.concluded:
            return
        file = self._task.files[number]
        reports, parts = self._reports.pop(number, {}), self._parts.pop(number, {})
        rows_before = _running_totals(reports, parts)
        faults = [
            f"{file.name}: row {rows_before[part] + row}{reason}" if row else reason
            for part, report in sorted(reports.items())
            for row, reason in report.faults
        ][:MOST_FAULTS]
        num_bad = sum(part.num_bad for part in parts.values())
        is_sound = len(parts) == self._num_parts[number]
        most = self._options.max_bad_rows
        if is_sound and most is not None and num_bad > most:
            is_sound = False
            faults = [f"{file.name} has {num_bad:,} bad rows, more than --max-bad-rows {most:,}"]
        num_rows = sum(part.num_rows for part in parts.values())
        result = FileResult(file.name, num_rows, num_bad, faults, is_sound)
        if self._task.journal is not None:
            ordered = [parts[part] for part in sorted(parts)]
            if is_sound:
                self._task.journal.join(ordered, rows_before, file.relative)
            self._task.journal.note_concluded(number, asdict(result), ordered)
        self.concluded[number] = result


def _running_totals(reports: dict[int, Report], parts: dict[int, Part]) -> dict[int, int]:
    """For every part of a file, the rows before it."""
    totals = {}
    total = 0
    for part in sorted(reports.keys() | parts.keys()):
        totals[part] = total
        total += reports[part].num_rows if part in reports else parts[part].num_rows
    return totals


@dataclass(slots=True)
class _Reports:
    """What the processes' reports add up to."""

    first_started: float = math.inf
    last_ended: float = 0.0
    num_rows: int = 0
    num_predicted: int = 0
    read_seconds: float = 0.0
    predict_seconds: float = 0.0

    def add(self, report: Report) -> None:
        self.first_started = min(self.first_started, report.started)
        self.last_ended = max(self.last_ended, report.ended)
        self.num_rows += report.num_rows
        self.num_predicted += report.num_predicted
        self.read_seconds += report.read_seconds
        self.predict_seconds += report.predict_seconds

    def summary(
        self,
        checkpoint: Checkpoint,
        precision: Precision,
        num_predictors: int,
        called: float,
        files: list[FileResult],
    ) -> Summary:
        began = min(self.first_started, time.time())
        elapsed = max(self.last_ended - began, 1e-9)
        read_rate = self.num_rows / max(self.read_seconds, 1e-9)
        predict_rate = self.num_predicted / max(self.predict_seconds, 1e-9)
        return Summary(
            checkpoint=checkpoint.digest(),
            precision=precision,
            num_predictors=num_predictors,
            num_rows=sum(file.num_rows for file in files),
            num_bad=sum(file.num_bad for file in files),
            seconds=round(time.time() - called, 3),
            startup_seconds=round(began - called, 3),
            rows_per_second=round(self.num_rows / elapsed, 1),
            read_rows_per_second=round(read_rate, 1),
            predict_rows_per_second=round(predict_rate, 1),
            predictor_busy=round(self.predict_seconds / (elapsed * num_predictors), 3),
            cpus_per_predictor=round(predict_rate / max(read_rate, 1e-9), 1),
            files=files,
        )


def _run(
    checkpoint: Checkpoint,
    task: Task,
    groups: list[list[int]],
    precision: Precision,
    num_predictors: int,
    gpus_per_predictor: float,
) -> Iterator[Report]:
    """The report on every range of the groups, as they get done."""
    if not groups:
        return
    DataContext.get_current().enable_progress_bars = False
    shared = ray.put((checkpoint, task))
    pool = ActorPoolStrategy(size=min(num_predictors, len(groups)))
    rows: Dataset = ray.data.from_items(
        [{"ranges": group} for group in groups], override_num_blocks=len(groups)
    )
    if gpus_per_predictor > 0:
        rows = rows.flat_map(_Reader(shared), num_cpus=1)
    reports = rows.map_batches(
        _RangePredictor,
        fn_constructor_args=(shared, precision),
        batch_size=1,
        compute=pool,
        num_cpus=1,
        num_gpus=gpus_per_predictor,
    )
    for row in reports.iter_rows():
        for report in json.loads(row["reports"]):
            report["faults"] = [tuple(fault) for fault in report["faults"]]
            yield Report(**report)


class _Reader:
    """Reads ranges for predictors that have a GPU: a row for each, with its series as one tensor."""

    def __init__(self, shared: ray.ObjectRef[tuple[Checkpoint, Task]]) -> None:
        self._shared = shared

    def __call__(self, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        _, task = ray.get(self._shared)
        for number in row["ranges"]:
            report = Report(int(number), time.time())
            one = task.ranges[report.number]
            is_stream = storage.is_gzip(task.files[one.file].path)  # too long to travel as one block
            blocks = [] if is_stream else list(read_range(task, report.number, report))
            block = one_block(blocks, task.length)
            rest = {
                "report": asdict(report),
                "is_stream": is_stream,
                "num_rows": block.num_rows,
                "identifiers": None
                if block.identifiers is None
                else [identifier.decode("latin-1") for identifier in block.identifiers],
                "faults": [(fault.row, fault.reason, fault.line.decode("latin-1")) for fault in block.faults],
            }
            yield {"series": block.series, "rest": json.dumps(rest)}


class _RangePredictor:
    """An actor that predicts ranges, after it has read them if nobody else has."""

    def __init__(self, shared: ray.ObjectRef[tuple[Checkpoint, Task]], precision: Precision) -> None:
        cluster.use_allotted_threads()
        checkpoint, self._task = ray.get(shared)
        checks_only = self._task.journal is None
        device = cluster.allotted_devices()[0]
        self._predictor = None if checks_only else Predictor(checkpoint, device, precision)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        if "rest" in batch:
            reports = [self._predict_read(batch["series"][0], json.loads(batch["rest"][0]))]
        else:
            reports = [self._read_and_predict(int(number)) for number in batch["ranges"][0]]
        return {"reports": [json.dumps([asdict(report) for report in reports])]}

    def _read_and_predict(self, number: int) -> Report:
        report = Report(number, time.time())
        predict_range(self._task, report, read_range(self._task, number, report), self._predictor)
        return report

    def _predict_read(self, series: Matrix, rest: dict[str, Any]) -> Report:
        report = Report(**rest["report"])
        report.faults = [(row, reason) for row, reason in report.faults]
        if rest["is_stream"]:
            return self._read_and_predict(report.number)
        faults = [Fault(row, reason, line.encode("latin-1")) for row, reason, line in rest["faults"]]
        identifiers = rest["identifiers"]
        if identifiers is not None:
            identifiers = [identifier.encode("latin-1") for identifier in identifiers]
        block = Block(rest["num_rows"], np.ascontiguousarray(series, np.float32), identifiers, faults)
        predict_range(self._task, report, [block] if block.num_rows else [], self._predictor)
        return report
