"""Transform: CSV files of any size predicted by a pool of processes, on Ray Data.

Files are cut into byte ranges that end where lines end. On CPUs a predictor reads, parses and predicts a
range; for GPUs other processes read and parse. Either way the range's lines are committed as a part file,
and the driver joins the parts of a file, in order, to its output.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.exceptions import ActorUnschedulableError, RayActorError

from lstmfcn import actors, capacity, cluster, output_folder
from lstmfcn.devices import Precision
from lstmfcn.ensemble import AnyCheckpoint
from lstmfcn.errors import DataError, OutputError
from lstmfcn.journal import Journal, Part
from lstmfcn.layout import Layout
from lstmfcn.outcome import FileResult, Outcomes, Rates, Summary, in_lines
from lstmfcn.prediction_format import PredictionFormat
from lstmfcn.predictor import Predictor
from lstmfcn.range_prediction import (
    BadRows,
    RangeReport,
    Work,
    pack_range,
    predict_range,
    read_range,
    unpack_range,
)
from lstmfcn.ranges import (
    InputFile,
    choose_range_bytes,
    group_ranges,
    plan_ranges,
    read_layouts,
)
from lstmfcn.rendering import Renderer
from lstmfcn.storage import Location
from lstmfcn.versions import common_versions, difference

_MOST_RESTARTS = 20
"""Most restarts of one predictor's process before the transform gives up."""
_MOST_FAILURES = 3
"""Failures of Ray Data in a row, without a range done in between, at which the transform gives up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How files are transformed."""

    format: PredictionFormat = field(default_factory=PredictionFormat)
    bad_rows: BadRows = "fail"
    max_bad_rows: int | None = None
    """Most bad rows of one file, when they are marked; None for any number."""
    precision: Precision = "fp32"
    num_predictors: int | None = None
    """Number of predictor processes; None for as many as fit the cluster."""
    gpus_per_predictor: float = 0

    @property
    def reads_apart(self) -> bool:
        """Whether other processes than the predictors read and parse: a GPU needs several of them."""
        return self.gpus_per_predictor > 0


@dataclass(frozen=True, slots=True)
class Advance:
    """Work that is done."""

    num_bytes: int
    num_rows: int
    files: str
    """How far the files are, in words."""
    is_new: bool = True
    """Whether it was done by this run, not by an earlier one."""


def transform(
    checkpoint: AnyCheckpoint,
    files: list[InputFile],
    output: Location | None,
    options: Options,
    *,
    resume: bool = False,
    on_advance: Callable[[Advance], None] = lambda _: None,
) -> Summary:
    """Predict every file and write `<output>/<relative>.out` as a whole, a line for each row, in order.

    A file with a fault gets no output (unless bad rows are marked), and the others go on. Without an output
    folder the files are only read and checked. `on_advance` is called for every range that is done. With
    `resume` nothing is predicted again; for a transform that has ended, its recorded summary is returned.

    Raises ResourceError when a predictor fits no node, DataError when no file can be read, OutputError when
    the output can't be written or holds other work than what is to be resumed, or when predictors can't be
    kept alive.
    """
    called = time.time()
    capacity.refuse_unsatisfiable("a predictor", 1, options.gpus_per_predictor)
    fitting = max(1, capacity.num_fitting(1, options.gpus_per_predictor))
    num_predictors = options.num_predictors or fitting
    options = replace(options, precision=_precision(options))
    journal = None if output is None else Journal(output)
    range_bytes = choose_range_bytes(files, num_predictors)
    done: list[Part] = []
    concluded: dict[int, FileResult] = {}
    plan = _plan(checkpoint, files, options)
    plan_digest = hashlib.sha256(json.dumps(plan).encode()).hexdigest()
    if journal is not None and resume and (ended := journal.ended(plan_digest)) is not None:
        return Summary.from_dict(ended)
    layouts = _layouts(checkpoint, files, options)
    with _writing(journal):
        if journal is not None and resume:
            range_bytes = journal.resume({**plan, **common_versions()})["range_bytes"]
            journal.ownership.take()
            done = list(journal.parts())
            concluded = {number: FileResult(**result) for number, result in journal.concluded()}
        faulty = {number for number, layout in enumerate(layouts) if isinstance(layout, str)}
        ranges = plan_ranges(files, range_bytes, faulty)
        if journal is not None and not resume:
            journal.begin({**plan, **common_versions(), "range_bytes": range_bytes})
    work = Work(files, ranges, checkpoint.num_values, layouts, options.bad_rows, journal)
    outcomes = Outcomes(work, options.max_bad_rows, done, concluded)
    groups = group_ranges(ranges, num_predictors, leave_out=outcomes.done_ranges())
    num_predictors = min(num_predictors, max(1, len(groups)))
    if resume:
        on_advance(Advance(outcomes.done_bytes(), 0, str(outcomes), is_new=False))
    rates = Rates()
    for report in _run_to_the_end(checkpoint, work, outcomes, groups, num_predictors, options):
        byte_range = ranges[report.number]
        if report.missing and journal is not None and _is_away(byte_range.file, files):
            raise _stopped(journal, report.missing)
        if report.error:
            raise _stopped(journal, report.error)
        rates.add(report)
        with _writing(journal):
            if journal is not None:
                journal.ownership.look()
            outcomes.add(report)
        on_advance(Advance(byte_range.num_bytes, report.num_rows, str(outcomes)))
    with _writing(journal):
        for number in range(len(files)):
            outcomes.conclude(number)
        results = [outcomes.concluded[number] for number in range(len(files))]
        summary = rates.summary(
            checkpoint.digest(), plan_digest, options.precision, num_predictors, called, results
        )
        if journal is not None:
            has_result = any(result.is_sound for result in results)
            journal.end(json.dumps(asdict(summary), indent=1).encode() if has_result else None)
    return summary


def _precision(options: Options) -> Precision:
    """Return what predictors compute in: the precision asked for, or what auto means on their nodes."""
    with capacity.telling_of_a_wait("a predictor", 1, options.gpus_per_predictor):
        return cluster.precision_there(options.precision, options.gpus_per_predictor)


def _layouts(checkpoint: AnyCheckpoint, files: list[InputFile], options: Options) -> list[Layout | str]:
    """Return how each file is read, or a sentence on what is wrong with it.

    Raises DataError when none can be read, before the results that they would replace are removed.
    """
    renderer = Renderer(checkpoint.task, checkpoint.classes)
    layouts = read_layouts(files, options.format, checkpoint.num_values, renderer, checkpoint.treatment)
    wrong = [layout for layout in layouts if isinstance(layout, str)]
    if len(wrong) == len(files):
        raise DataError(in_lines([[fault] for fault in wrong]))
    return layouts


def _is_away(missing: int, files: list[InputFile]) -> bool:
    """Return whether a file that a process misses is only away from its node, or with its disk. Then the
    transform stops, else the file would lose the ranges that are done.
    """
    return _can_read(files[missing]) or not any(map(_can_read, files))


def _can_read(file: InputFile) -> bool:
    with suppress(OSError), file.path.open("rb"):
        return True
    return False


@contextmanager
def _writing(journal: Journal | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        assert journal is not None
        sentence = output_folder.unwritable(journal.output, error)
        if isinstance(error, FileNotFoundError):
            sentence = (
                f"--output {journal.output} lacks what other processes have written there;"
                " on a cluster it must be a folder that all nodes share"
            )
        raise _stopped(journal, sentence) from None


def _stopped(journal: Journal | None, sentence: str) -> OutputError:
    """Return the error that ends the transform; raise another OutputError if another run took over."""
    if journal is None:
        return OutputError(sentence)
    journal.ownership.refuse_another()
    then = "--resume goes on" if journal.can_go_on() else "--overwrite starts over"
    return OutputError(f"{sentence}; {then} when that is mended")


def _plan(checkpoint: AnyCheckpoint, files: list[InputFile], options: Options) -> dict[str, Any]:
    """Return what must be the same for a transform to be resumed."""
    return {
        "checkpoint": checkpoint.digest(),
        "device": "cpu" if options.gpus_per_predictor == 0 else "gpu",
        "precision": options.precision,
        "columns": list(options.format.columns or ()),
        "id columns": [*options.format.identifiers.positions, *options.format.identifiers.names],
        "join": options.format.join_input,
        "bad rows": options.bad_rows,
        "max bad rows": options.max_bad_rows,
        "input": [[file.relative, file.size, file.modified] for file in files],
    }


def _run_to_the_end(
    checkpoint: AnyCheckpoint,
    work: Work,
    outcomes: Outcomes,
    groups: list[list[int]],
    num_predictors: int,
    options: Options,
) -> Iterator[RangeReport]:
    """Yield the report on every range of the groups as it gets done; start Ray Data again when it fails.

    It fails when its process that tracks where predictors are can't be started again: that process is tied to
    the node of the first driver that used this Ray, and is lost with it.
    Raises OutputError when Ray Data fails several times without a range done in between, or when a predictor
    can't start.
    """
    num_failures = 0
    while groups:
        try:
            again = num_failures > 0
            for report in _run(checkpoint, work, groups, num_predictors, options, again=again):
                num_failures = 0
                yield report
            return
        except (RayActorError, ActorUnschedulableError) as error:
            lines = str(error).splitlines()
            if isinstance(error, RayActorError) and error.actor_init_failed:
                raise _stopped(work.journal, f"a predictor can't start: {lines[-1]}") from None
            num_failures += 1
            if num_failures == _MOST_FAILURES:
                raise _stopped(work.journal, f"Ray Data ends: {lines[0]}") from None
        groups = group_ranges(work.ranges, num_predictors, leave_out=outcomes.done_ranges())


def _run(
    checkpoint: AnyCheckpoint,
    work: Work,
    groups: list[list[int]],
    num_predictors: int,
    options: Options,
    *,
    again: bool,
) -> Iterator[RangeReport]:
    """Yield the report on every range of the groups as it gets done."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = -1  # no limit: a gzip file, or a wait for CPUs, may be long
    shared: _Shared = ray.put((checkpoint, work, common_versions()))
    pool = ActorPoolStrategy(size=min(num_predictors, len(groups)))
    rows: Dataset = ray.data.from_items(
        [{"ranges": group} for group in groups], override_num_blocks=len(groups)
    )
    num_cpus = 1
    if options.reads_apart:
        rows = rows.flat_map(_Reader(shared), num_cpus=1)
        num_cpus = 0  # else as many predictors as CPUs would leave none for reading
    reports = rows.map_batches(
        _RangePredictor,
        fn_constructor_args=(shared, options.precision, again),
        batch_size=1,
        compute=pool,
        num_cpus=num_cpus,
        num_gpus=options.gpus_per_predictor,
    )
    name = _RangePredictor.__name__
    has_begun = partial(actors.have_begun, name)
    waiting = capacity.telling_of_a_wait("a predictor", 1, options.gpus_per_predictor, has_begun)
    with waiting, actors.watching(name):
        for row in reports.iter_rows():
            yield from _by_our_clock([RangeReport.from_dict(one) for one in json.loads(row["reports"])])


def _by_our_clock(reports: list[RangeReport]) -> list[RangeReport]:
    """Return reports, which a process has just sent, with times of this node's clock: its own may be off."""
    ahead = max(report.ended for report in reports) - time.time()
    return [replace(report, started=report.started - ahead, ended=report.ended - ahead) for report in reports]


_Shared: TypeAlias = "ray.ObjectRef[tuple[AnyCheckpoint, Work, dict[str, str]]]"
"""Reference to what every process is sent once; the versions are the driver's."""


class _Reader:
    """Reads ranges for predictors that have a GPU, and yields a row for each."""

    def __init__(self, shared: _Shared) -> None:
        self._shared = shared

    def __call__(self, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        _, work, _ = ray.get(self._shared)
        for number in row["ranges"]:
            yield pack_range(work, int(number))


class _RangePredictor:
    """An actor that predicts ranges, after it has read them if nobody else has."""

    def __init__(self, shared: _Shared, precision: Precision, again: bool) -> None:
        cluster.set_up_worker()
        checkpoint, self._work, of_driver = ray.get(shared)
        num_restarts = actors.num_restarts()
        self._refusal = difference(of_driver)
        if self._work.journal is not None and not self._refusal:
            self._refusal = self._work.journal.ownership.absence(cluster.node_address())
        if num_restarts > _MOST_RESTARTS:  # Ray itself would start it again for ever
            self._refusal = (
                f"a predictor lost its process {num_restarts} times; use fewer (--predictors of"
                " jobs.transform), or give them more memory"
            )
        self._predictor = None
        self._committed: dict[tuple[int, int], Part] = {}
        if self._work.journal is None or self._refusal:
            return
        self._predictor = Predictor(checkpoint, cluster.allotted_devices()[0], precision)
        if again or num_restarts:
            # Committed by the process that this one replaces, which may have died before it reported them.
            self._committed = {(part.file, part.part): part for part in self._work.journal.parts()}

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        if self._refusal:
            reports = [RangeReport(0, time.time(), error=self._refusal)]
        elif "rest" in batch:
            reports = [self._predict_read({name: values[0] for name, values in batch.items()})]
        else:
            reports = [self._read_and_predict(int(number)) for number in batch["ranges"][0]]
        return {"reports": [json.dumps([asdict(report) for report in reports])]}

    def _read_and_predict(self, number: int) -> RangeReport:
        report = RangeReport(number, time.time())
        if not self._complete_if_committed(report):
            predict_range(self._work, report, read_range(self._work, number, report), self._predictor)
        return report

    def _predict_read(self, row: dict[str, Any]) -> RangeReport:
        report, blocks = unpack_range(row)
        if blocks is None:
            return self._read_and_predict(report.number)
        if not self._complete_if_committed(report):
            predict_range(self._work, report, blocks, self._predictor)
        return report

    def _complete_if_committed(self, report: RangeReport) -> bool:
        """Complete the report if its range is committed already; return whether it is."""
        byte_range = self._work.ranges[report.number]
        part = self._committed.get((byte_range.file, byte_range.part))
        if part is None:
            return False
        report.num_rows, report.num_bad, report.ended = part.num_rows, part.num_bad, time.time()
        report.num_predicted = part.num_rows - part.num_bad
        return True
