"""What the driver of a transform costs, and so where more predictors stop helping:
`python -m benchmarks.scaling`.

A terabyte in one file (sparse, for planning) and thousands of ranges with next to no work in them. Takes a
minute.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cyclopts

from benchmarks.networks import LENGTH, make_checkpoint
from lstmfcn import ranges, storage
from lstmfcn.cluster import connection
from lstmfcn.journal import Journal, Part
from lstmfcn.ranges import find_inputs, group_ranges, plan_ranges
from lstmfcn.transform import Options, transform

RANGE_BYTES = 32 << 20
TERABYTE = 10**12
PART_BYTES = 36_000
"""Bytes of the labels of the 18,000 series of length 100 that a range holds."""


def main(*, num_ranges: int = 2000, predictor_mb_per_second: float = 95.0) -> None:
    """Print what each step of the driver takes, then a line of JSON.

    Args:
        num_ranges: Ranges to schedule and to assemble.
        predictor_mb_per_second: MB a second that a predictor gets through, from benchmarks.transform.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        planned, plan_seconds = _plan(folder / "terabyte.csv")
        journal = Journal(folder / "assembly")
        assembled = num_ranges / _seconds(joining(journal, num_ranges))
        listed = num_ranges / _seconds(lambda: list(journal.parts()))
        with connection():
            scheduled = ranges_per_second(folder, num_ranges)
    driver_mb_per_second = RANGE_BYTES / 1e6 / (1 / scheduled + 1 / assembled)
    results = {
        "ranges_of_a_terabyte": planned,
        "plan_seconds": round(plan_seconds, 2),
        "scheduled_ranges_per_second": round(scheduled, 1),
        "assembled_parts_per_second": round(assembled),
        "listed_parts_per_second": round(listed),
        "driver_mb_per_second": round(driver_mb_per_second),
        "predictors_that_a_driver_feeds": int(driver_mb_per_second / predictor_mb_per_second),
    }
    for what, value in results.items():
        print(f"{what.replace('_', ' '):<32} {value:>10,}")
    for predictors in (2, 16, 64, 256):
        rate = min(predictors * predictor_mb_per_second, driver_mb_per_second)
        print(f"a terabyte on {predictors:>3} predictors: {TERABYTE / 1e6 / rate / 60:>6,.0f} minutes")
    print(json.dumps(results))


def _plan(path: Path) -> tuple[int, float]:
    """Return the number of ranges of a terabyte in one file, and the seconds to plan and group them."""
    with path.open("wb") as file:
        file.truncate(TERABYTE)
    files, _ = find_inputs(path, None)
    started = time.perf_counter()
    planned = plan_ranges(files, RANGE_BYTES)
    group_ranges(planned, 16)
    return len(planned), time.perf_counter() - started


def joining(journal: Journal, num_parts: int) -> Callable[[], object]:
    """Write this many parts, and return work that joins them to an output; they stay, for the listing."""
    journal.begin({"input": [], "range_bytes": RANGE_BYTES})
    parts = [Part(0, number, 18_000, 0) for number in range(num_parts)]
    for part in parts:
        storage.write_bytes(journal.folder / part.name, b"1\n" * (PART_BYTES // 2))
    return lambda: journal.join(parts, {}, "file.csv")


def ranges_per_second(folder: Path, num_ranges: int) -> float:
    """Return the ranges per second of a transform whose ranges hold ten rows each."""
    row = ",".join(["0.5"] * LENGTH) + "\n"
    path = folder / "rows.csv"
    path.write_text(row * 10 * num_ranges)
    ranges._SMALLEST_RANGE = ranges._LARGEST_RANGE = 10 * len(row)
    checkpoint = make_checkpoint("small")
    files, _ = find_inputs(path, None)
    summary = transform(checkpoint, files, folder / "output", Options())
    return num_ranges * summary.rows_per_second / summary.num_rows


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    cyclopts.run(main)
