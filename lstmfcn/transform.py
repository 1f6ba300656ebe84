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


@dataclass(slots=True)
class FileResult:
    """What became of a file."""

    file: InputFile
    num_parts: int = 0
    num_rows: int = 0
    faults: dict[int, str] = field(default_factory=dict)
    """The first fault of each part that has one."""

    @property
    def fault(self) -> str | None:
        """The first fault in the file."""
        return self.faults[min(self.faults)] if self.faults else None


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


def read_range(file: InputFile, one: Range, length: int) -> Iterator[Matrix]:
    """The series of a range, a block at a time. Raises DataError with the row number in the file."""
    num_rows = 0
    for block in storage.line_blocks(file.path, one.start, one.end, _BLOCK_BYTES):
        first_row = 1 + num_rows if one.start == 0 else None
        try:
            series = parse_series(block, source=file.name, length=length, first_row=first_row)
        except DataError:
            if first_row is not None:
                raise
            # Lines before the range are counted only now that a message needs them.
            # One more of them ends at or after byte start - 1, where line_blocks begins to look.
            lines_before = storage.count_lines(file.path, one.start - 1) + 1
            first_row = lines_before + num_rows + 1
            series = parse_series(block, source=file.name, length=length, first_row=first_row)
        num_rows += len(series)
        yield series
    if one.start == 0 and num_rows == 0:
        raise DataError(f"{file.name} is empty")


def transform(
    checkpoint: Checkpoint,
    files: list[InputFile],
    output: Path | None,
    *,
    num_predictors: int | None = None,
    gpus_per_predictor: float = 0,
    on_range: Callable[[Range, int], None] = lambda _range, _num_rows: None,
) -> list[FileResult]:
    """Predict every file and write `<output>/<relative>.out`: a line for each row, in order, at once.

    A file with a fault gets no output, and the others go on. Without an output folder the files are only read
    and checked. `on_range` is called with every range that is done and its number of rows.

    Raises ResourceError when a predictor fits no node.
    """
    cluster.refuse_unsatisfiable("a predictor", 1, gpus_per_predictor)
    num_predictors = num_predictors or cluster.num_fitting(1, gpus_per_predictor)
    ranges = plan_ranges(files, num_predictors)
    results = [FileResult(file) for file in files]
    for one in ranges:
        results[one.file].num_parts += 1
    parts_left = [result.num_parts for result in results]
    work = None if output is None else output.resolve() / WORK_FOLDER
    is_new = output is not None and not output.exists()
    try:
        for number, num_rows, fault in _predict(
            checkpoint, files, ranges, work, num_predictors, gpus_per_predictor
        ):
            done = ranges[number]
            result = results[done.file]
            result.num_rows += num_rows
            if fault:
                result.faults[done.part] = fault
            parts_left[done.file] -= 1
            if output is not None and work is not None and not parts_left[done.file] and not result.fault:
                parts = [_part_path(work, done.file, part) for part in range(result.num_parts)]
                storage.concatenate(parts, output / f"{result.file.relative}.out")
            on_range(done, num_rows)
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
            if is_new and not any(work.parent.iterdir()):
                work.parent.rmdir()
    return results


def _predict(
    checkpoint: Checkpoint,
    files: list[InputFile],
    ranges: list[Range],
    work: Path | None,
    num_predictors: int,
    gpus_per_predictor: float,
) -> Iterator[tuple[int, int, str]]:
    """Index, number of rows and fault (or "") of every range, as they get done."""
    DataContext.get_current().enable_progress_bars = False
    done = ray.data.from_items(
        [{"number": number} for number in range(len(ranges))], override_num_blocks=len(ranges)
    ).map_batches(
        _RangePredictor,
        fn_constructor_args=([ray.put(checkpoint)], files, ranges, work),
        batch_size=1,
        compute=ActorPoolStrategy(size=min(num_predictors, len(ranges))),
        num_cpus=1,
        num_gpus=gpus_per_predictor,
    )
    for row in done.iter_rows():
        yield row["number"], row["num_rows"], row["fault"]


class _RangePredictor:
    """An actor that reads and predicts ranges and writes their lines to part files."""

    def __init__(
        self,
        checkpoint: list[ray.ObjectRef[Checkpoint]],
        files: list[InputFile],
        ranges: list[Range],
        work: Path | None,
    ) -> None:
        cluster.use_allotted_threads()
        self._predictor = Predictor(ray.get(checkpoint[0]), cluster.allotted_devices()[0])
        self._files, self._ranges, self._work = files, ranges, work

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        number = int(batch["number"][0])
        one = self._ranges[number]
        num_rows, fault = 0, ""
        try:
            with ExitStack() as stack:
                part = None
                if self._work is not None:
                    path = _part_path(self._work, one.file, one.part)
                    part = stack.enter_context(storage.atomic_file(path))
                for series in read_range(self._files[one.file], one, self._predictor.length):
                    num_rows += len(series)
                    if part is not None:
                        part.write(self._predictor.csv_lines(series))
        except DataError as error:
            fault = str(error)
        return {"number": [number], "num_rows": [num_rows], "fault": [fault]}


def _part_path(work: Path, file: int, part: int) -> Path:
    return work / f"{file}-{part}"
