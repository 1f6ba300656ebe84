"""Transform: CSV files of any size predicted by a pool of actors, on Ray Data.

Files are cut into byte ranges that end where lines end. A predictor actor reads, parses and predicts a range
and writes its lines to a part file; the driver joins the parts of a file, in order, to its output.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.data import ActorPoolStrategy, DataContext

from lstmfcn import cluster, storage
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.devices import Precision
from lstmfcn.errors import DataError
from lstmfcn.predictor import Predictor
from lstmfcn.series import Matrix, parse_series

WORK_FOLDER = ".transform-parts"
RESULT_PATTERNS = ("**/*.out", WORK_FOLDER)
"""What a transform writes to its output folder."""

_LARGEST_RANGE = 32 << 20
_SMALLEST_RANGE = 1 << 20
_BLOCK_BYTES = 4 << 20
"""What an actor reads and predicts at a time, so that its memory doesn't grow with the range."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file to transform."""

    path: Path
    name: str
    """Its path as the user gave it."""
    relative: str
    """Its path below the input folder, and with `.out` after it the output's below the output folder."""
    size: int


@dataclass(frozen=True, slots=True)
class Range:
    """The lines of a file whose first byte lies in [start, end)."""

    file: int
    part: int
    """From 0, within the file."""
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of a file."""

    file: InputFile
    num_rows: int
    fault: str | None
    """The first fault in it."""
    precisions: set[str]
    """What it was predicted in: more than one if `auto` chose differently on different nodes."""


def find_inputs(path: Path, output: Path | None) -> tuple[list[InputFile], list[Path]]:
    """The file itself, or the CSV files below a folder but not below the output folder; and what was skipped.

    Raises DataError when there is nothing to transform.
    """
    if path.is_file():
        return [InputFile(path.resolve(), str(path), path.name, path.stat().st_size)], []

    def is_input(file: Path) -> bool:
        return output is None or not file.resolve().is_relative_to(output.resolve())

    chosen = list(filter(is_input, storage.csv_files(path)))
    if not chosen:
        raise DataError(f"{path} holds no *.csv or *.csv.gz file outside the output folder")
    skipped = [file for file in sorted(path.rglob("*")) if file.is_file() and is_input(file)]
    skipped = [file for file in skipped if not file.name.endswith(storage.CSV_SUFFIXES)]
    inputs = [
        InputFile(file.resolve(), str(file), file.relative_to(path).as_posix(), file.stat().st_size)
        for file in chosen
    ]
    return inputs, skipped


def plan_ranges(files: list[InputFile], num_predictors: int) -> list[Range]:
    """Cut every file into ranges, except gzip, which can only be read from its beginning."""
    total = sum(file.size for file in files)
    # Four a predictor, so that none waits long for the last one; a Ray task costs too much for small ones.
    range_bytes = min(_LARGEST_RANGE, max(_SMALLEST_RANGE, total // (4 * num_predictors)))
    ranges = []
    for index, file in enumerate(files):
        step = max(file.size, 1) if storage.is_gzip(file.path) else range_bytes
        starts = range(0, max(file.size, 1), step)
        ranges += [
            Range(index, part, start, min(start + step, file.size)) for part, start in enumerate(starts)
        ]
    return ranges


def read_range(file: InputFile, one: Range, length: int, lines_before: int | None = 0) -> Iterator[Matrix]:
    """The series of a range, a block at a time.

    Raises DataError, with the right row number if it is told how many lines of the file come before.
    """
    num_rows = 0
    for block in storage.line_blocks(file.path, one.start, one.end, _BLOCK_BYTES):
        first_row = None if lines_before is None else lines_before + num_rows + 1
        series = parse_series(block, source=file.name, length=length, first_row=first_row)
        num_rows += len(series)
        yield series
    if one.start == 0 and num_rows == 0:
        raise DataError(f"{file.name} is empty")


def find_fault(file: InputFile, one: Range, length: int) -> str:
    """What is wrong with a range, with its row number in the file: for this alone lines are counted."""
    # line_blocks skips the line that is under way at start - 1: one more line end than there are before that.
    lines_before = storage.count_lines(file.path, one.start - 1) + 1 if one.start else 0
    try:
        for _ in read_range(file, one, length, lines_before):
            pass
    except DataError as error:
        return str(error)
    return f"{file.name} changed while it was read"


def transform(
    checkpoint: Checkpoint,
    files: list[InputFile],
    output: Path | None,
    *,
    num_predictors: int | None = None,
    gpus_per_predictor: float = 0,
    precision: Precision = "fp32",
    on_range: Callable[[Range], None] = lambda _: None,
) -> list[FileResult]:
    """Predict every file and write `<output>/<relative>.out`: a line for each row, in order, at once.

    A file with a fault gets no output, and the others go on. Without an output folder the files are only read
    and checked. `on_range` is called with every range that is done.

    Raises ResourceError when a predictor fits no node.
    """
    cluster.refuse_unsatisfiable("a predictor", 1, gpus_per_predictor)
    num_predictors = num_predictors or max(1, cluster.num_predictors_fitting(gpus_per_predictor))
    ranges = plan_ranges(files, num_predictors)
    progress = [_FileProgress(file) for file in files]
    for one in ranges:
        progress[one.file].ranges.append(one)
    is_new = output is not None and not output.exists()
    work = None if output is None else output.resolve() / WORK_FOLDER
    if output is not None:
        storage.remove(output, WORK_FOLDER, *(f"{file.relative}.out" for file in files))
    results: dict[int, FileResult] = {}
    try:
        for row in _predict(checkpoint, files, ranges, work, num_predictors, gpus_per_predictor, precision):
            done = ranges[row["number"]]
            file = progress[done.file]
            file.add(done, row)
            if file.is_done:
                results[done.file] = _conclude(file, work, checkpoint.length)
            on_range(done)
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
            if is_new and work.parent.is_dir() and not any(work.parent.iterdir()):
                work.parent.rmdir()
    return [results[index] for index in range(len(files))]


@dataclass(slots=True)
class _FileProgress:
    file: InputFile
    ranges: list[Range] = field(default_factory=list)
    num_done: int = 0
    num_rows: int = 0
    faulty: list[Range] = field(default_factory=list)
    precisions: set[str] = field(default_factory=set)

    def add(self, one: Range, row: dict[str, Any]) -> None:
        self.num_done += 1
        self.num_rows += row["num_rows"]
        self.precisions.add(row["precision"])
        if not row["is_sound"]:
            self.faulty.append(one)

    @property
    def is_done(self) -> bool:
        return self.num_done == len(self.ranges)


def _conclude(progress: _FileProgress, work: Path | None, length: int) -> FileResult:
    """Put the parts of a sound file together, or find the first fault of another."""
    file = progress.file
    if progress.faulty:
        first = min(progress.faulty, key=lambda one: one.start)
        return FileResult(file, progress.num_rows, find_fault(file, first, length), progress.precisions)
    if work is not None:
        parts = [_part_path(work, one) for one in progress.ranges]
        storage.concatenate(parts, work.parent / f"{file.relative}.out")
    return FileResult(file, progress.num_rows, None, progress.precisions)


def _predict(
    checkpoint: Checkpoint,
    files: list[InputFile],
    ranges: list[Range],
    work: Path | None,
    num_predictors: int,
    gpus_per_predictor: float,
    precision: Precision,
) -> Iterator[dict[str, Any]]:
    """What _RangePredictor says of every range, as they get done."""
    DataContext.get_current().enable_progress_bars = False
    done = ray.data.from_items(
        [{"number": number} for number in range(len(ranges))], override_num_blocks=len(ranges)
    ).map_batches(
        _RangePredictor,
        fn_constructor_args=(ray.put(checkpoint), precision, files, ranges, work),
        batch_size=1,
        compute=ActorPoolStrategy(size=min(num_predictors, len(ranges))),
        num_cpus=1,
        num_gpus=gpus_per_predictor,
    )
    yield from done.iter_rows()


class _RangePredictor:
    """An actor that reads and predicts ranges and writes their lines to part files."""

    def __init__(
        self,
        checkpoint: ray.ObjectRef[Checkpoint],
        precision: Precision,
        files: list[InputFile],
        ranges: list[Range],
        work: Path | None,
    ) -> None:
        cluster.use_allotted_threads()
        self._predictor = Predictor(ray.get(checkpoint), cluster.allotted_devices()[0], precision)
        self._files, self._ranges, self._work = files, ranges, work

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        number = int(batch["number"][0])
        one = self._ranges[number]
        num_rows, is_sound = 0, True
        lines_before = 0 if one.start == 0 else None
        try:
            with ExitStack() as stack:
                part = None
                if self._work is not None:
                    part = stack.enter_context(storage.atomic_file(_part_path(self._work, one)))
                for series in read_range(self._files[one.file], one, self._predictor.length, lines_before):
                    num_rows += len(series)
                    if part is not None:
                        part.write(self._predictor.csv_lines(series))
        except DataError:
            is_sound = False
        return {
            "number": [number],
            "num_rows": [num_rows],
            "is_sound": [is_sound],
            "precision": [self._predictor.precision],
        }


def _part_path(work: Path, one: Range) -> Path:
    return work / f"{one.file}-{one.part}"
