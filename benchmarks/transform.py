"""The transform beside one plain process and Ray Data as its documentation has it:
`python -m benchmarks.transform`.

All turn the same generated CSVs, length 100, values of 15 significant digits, into predicted labels. Rates
are from the first range begun to the last committed; start-up is measured apart. As in Ray Data's
documentation, an actor has a CPU; tuned, for a machine of two cores, two actors share what the reading
tasks leave. Takes about 20 minutes and 5 GB of disk; `--small-gb` and `--default-gb` make it shorter.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import cyclopts
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv as pa_csv
import ray
from ray.data import ActorPoolStrategy, DataContext

from benchmarks.naive import NaiveActor, labeller
from benchmarks.networks import LENGTH, make_checkpoint, make_csv
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.cluster import connection
from lstmfcn.devices import use_threads
from lstmfcn.predictor import Predictor
from lstmfcn.ranges import find_inputs
from lstmfcn.transform import Options, transform

COLUMNS = [f"f{index}" for index in range(LENGTH)]
READ = pa_csv.ReadOptions(column_names=COLUMNS, block_size=8 << 20)
CONVERT = pa_csv.ConvertOptions(column_types={name: pa.float32() for name in COLUMNS})


def main(*, small_gb: float = 3.0, default_gb: float = 0.05, repeats: int = 3) -> None:
    """Print rows per second of each contestant, then a line of JSON.

    Args:
        small_gb: GB of input for the small network.
        default_gb: GB of input for the default network.
        repeats: Runs of each contestant.
    """
    results: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, connection():
        for network, gigabytes in (("small", small_gb), ("default", default_gb)):
            checkpoint = make_checkpoint(network)
            path = _generate(Path(folder) / f"{network}.csv", gigabytes)
            rates, startups = _rates(checkpoint, path, Path(folder) / "output", repeats)
            for name, rate in rates.items():
                print(f"{network:<8} {name:<14} {rate:>10,.0f} rows/s", flush=True)
            for other in ("ray_read_csv", "ray_tuned", "single_process"):
                results[f"{network}_vs_{other}"] = round(rates["ours"] / rates[other], 2)
            if network == "default":
                cores = os.cpu_count() or 1
                results["default_efficiency"] = round(rates["ours"] / (cores * rates["one_core"]), 2)
            else:
                results["startup_seconds"] = round(statistics.median(startups), 1)
                results["memory_ratio"] = _memory_ratio(checkpoint, path, Path(folder))
    print(json.dumps(results))


def _generate(path: Path, gigabytes: float) -> Path:
    """Write a CSV of about that size, by repeating one block of rows."""
    block = make_csv(2000)
    with path.open("wb") as file:
        for _ in range(max(1, round(gigabytes * 1e9 / len(block)))):
            file.write(block)
    return path


def _rates(
    checkpoint: Checkpoint, path: Path, output: Path, repeats: int
) -> tuple[dict[str, float], list[float]]:
    """Return the median rows per second of each contestant, all taking turns, and our seconds of start-up."""
    contestants: dict[str, Callable[[Checkpoint, Path, Path], tuple[int, float]]] = {
        "single_process": _single_process,
        "ray_read_csv": partial(_ray_read_csv, num_actors=1, num_cpus=1),
        "ray_tuned": partial(_ray_read_csv, num_actors=2, num_cpus=0.25),
    }
    rates: dict[str, list[float]] = {name: [] for name in (*contestants, "ours", "one_core")}
    startups = []
    for _ in range(repeats):
        for name, run in contestants.items():
            num_rows, seconds = run(checkpoint, path, output)
            rates[name].append(num_rows / seconds)
            shutil.rmtree(output)
        files, _ = find_inputs(path, output)
        summary = transform(checkpoint, files, output, Options())
        rates["ours"].append(summary.rows_per_second)
        startups.append(summary.startup_seconds)
        shutil.rmtree(output)
        rates["one_core"].append(_one_core_rate(checkpoint))
    return {name: statistics.median(measured) for name, measured in rates.items()}, startups


def _single_process(checkpoint: Checkpoint, path: Path, output: Path) -> tuple[int, float]:
    """Predict in one process: pyarrow streams and the plain module predicts, both on all cores."""
    use_threads(os.cpu_count() or 1)
    predict = labeller(checkpoint)
    output.mkdir()
    started = time.perf_counter()
    num_rows = 0
    with (output / "predictions.csv").open("w") as file:
        for batch in pa_csv.open_csv(path, read_options=READ, convert_options=CONVERT):
            series = np.stack([column.to_numpy() for column in batch.columns], axis=1)
            file.write("".join(f"{label}\n" for label in predict(series)))
            num_rows += len(series)
    return num_rows, time.perf_counter() - started


def _ray_read_csv(
    checkpoint: Checkpoint, path: Path, output: Path, *, num_actors: int, num_cpus: float
) -> tuple[int, float]:
    """Predict by read_csv, map_batches with actors and write_csv, timed from the first batch of an actor."""
    DataContext.get_current().enable_progress_bars = False
    first = output / "first"
    output.mkdir()

    read = pa_csv.ReadOptions(column_names=COLUMNS, use_threads=False)
    rows = ray.data.read_csv(str(path), read_options=read, convert_options=CONVERT, partitioning=None)  # type: ignore[arg-type]
    labels = rows.map_batches(
        NaiveActor,
        fn_constructor_args=(checkpoint, first),
        compute=ActorPoolStrategy(size=num_actors),
        batch_size=1024,
        num_cpus=num_cpus,
    )
    # With a whole CPU each, actors and writers leave none to read.
    labels.write_csv(str(output / "predictions"), ray_remote_args={"num_cpus": 0.25})
    seconds = time.time() - float(first.read_text())
    num_rows = sum(file.read_bytes().count(b"\n") - 1 for file in (output / "predictions").iterdir())
    return num_rows, seconds


def _one_core_rate(checkpoint: Checkpoint) -> float:
    """Return the rows per second of the Predictor alone, on one thread."""
    use_threads(1)
    predictor = Predictor(checkpoint)
    series = np.random.default_rng(0).normal(size=(2000, LENGTH)).astype(np.float32)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        predictor.answer(predictor.probabilities(series), with_header=False)
        seconds.append(time.perf_counter() - started)
    return len(series) / statistics.median(seconds)


def _memory_ratio(checkpoint: Checkpoint, path: Path, folder: Path) -> float:
    """Return the peak memory for the whole input, divided by that for a tenth of it."""
    tenth = folder / "tenth.csv"
    with path.open("rb") as whole, tenth.open("wb") as part:
        left = path.stat().st_size // 10
        while left > 0 and (block := whole.read(1 << 20)):
            part.write(block)
            left -= len(block)
        part.write(whole.readline())
    peaks = []
    for one in (tenth, path):
        files, _ = find_inputs(one, folder / "output")
        with _peak() as peak:
            transform(checkpoint, files, folder / "output", Options())
        peaks.append(peak())
        shutil.rmtree(folder / "output")
    print(f"peak memory: {peaks[0] / 1e9:.2f} GB for a tenth of the input, {peaks[1] / 1e9:.2f} GB for all")
    return round(peaks[1] / peaks[0], 2)


@contextmanager
def _peak() -> Iterator[Callable[[], int]]:
    """Yield a function for the most bytes that this process and its descendants held in the block."""
    done = threading.Event()
    peak = 0

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.5):
            peak = max(peak, _memory_now())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield lambda: peak
    finally:
        done.set()
        watcher.join()


def _memory_now() -> int:
    """Return the memory of all, by proportional set size: what processes share counts once."""
    total = 0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        with suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total


if __name__ == "__main__":
    cyclopts.run(main)
