"""What breaks first at 1,000 nodes, 10 TB and 100,000 trials: `python -m benchmarks.scale`.

Measures the cost of what there are very many of (ranges, parts, trials) at two sizes, which shows what grows
faster than its number; then estimates the cost of the whole. Takes some minutes on two cores.
SCALE.md says what follows from it.
"""

from __future__ import annotations

import json
import math
import pickle
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cyclopts
import numpy as np

from benchmarks.scaling import RANGE_BYTES, joining, ranges_per_second
from lstmfcn.cluster import connection
from lstmfcn.journal import Journal
from lstmfcn.ledger import Ledger
from lstmfcn.plan import Plan
from lstmfcn.ranges import ByteRange, group_ranges
from lstmfcn.record import Record
from lstmfcn.report import write_report
from lstmfcn.results import Results
from lstmfcn.search import BayesianSearch, RandomSearch
from lstmfcn.search_space import DEFAULT_RANGES, SearchSpace
from lstmfcn.sweep import REPORT
from lstmfcn.trials import METRIC_NAMES, TrialFolders

NODES, CPUS_PER_NODE = 1_000, 8
INPUT_BYTES = 10 * 10**12
NUM_TRIALS = 100_000
ROWS_PER_SECOND = {"small": 60_000, "default": 800}
"""Rows per second of a core that reads, parses and predicts series of length 100: RESULTS.md."""
ROW_BYTES = 1_890
"""Bytes of a row with such a series: RESULTS.md's terabyte has 530 million."""
OBJECTIVE = Plan().objective


@dataclass(frozen=True, slots=True)
class Cost:
    """What something costs, measured for a number of items and for four times as many."""

    what: str
    number: int
    value: float
    value_of_four_times: float

    @property
    def exponent(self) -> float:
        """Exponent of its growth: 1 if it grows with the number of items, 2 if with its square."""
        return math.log(self.value_of_four_times / self.value, 4)

    def at(self, number: int) -> float:
        """Return what `number` items would cost, growing on as measured, or in proportion if that is more."""
        return float(self.value_of_four_times * (number / (4 * self.number)) ** max(1.0, self.exponent))

    @classmethod
    def seconds(cls, what: str, number: int, work: Callable[[int], Callable[[], object]]) -> Cost:
        """Return the CPU seconds of what `work` prepares for a number of items."""
        return cls(what, number, *(_seconds(work(size)) for size in (number, 4 * number)))


def main(*, num_ranges: int = 5_000, num_trials: int = 500, num_tasks: int = 300) -> None:
    """Print what is measured and estimated, then a line of JSON.

    Args:
        num_ranges: Ranges to measure with; then four times as many.
        num_trials: Trials to measure with; then four times as many.
        num_tasks: Tasks, with next to no work in them, of a transform on this machine's Ray.
    """
    total_ranges = INPUT_BYTES // RANGE_BYTES
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        of_ranges = [
            Cost.seconds("group ranges", num_ranges, lambda n: lambda: group_ranges(_ranges(n), NODES)),
            _pickled(num_ranges),
            Cost.seconds("unpickle ranges, in each process", num_ranges, _unpickling),
            Cost.seconds("join parts", num_ranges // 4, lambda n: joining(Journal(folder / f"join-{n}"), n)),
            Cost.seconds("list parts, to resume", num_ranges // 4, lambda n: _listing(folder / f"join-{n}")),
        ]
        of_trials = [
            Cost.seconds("draw and note trials", num_trials, lambda n: _drawing(folder / f"sweep-{n}", n)),
            Cost.seconds("write the leaderboard once", num_trials, lambda n: _ranking(folder / f"sweep-{n}")),
            Cost.seconds(
                "read trials, to resume", num_trials, lambda n: TrialFolders(folder / f"sweep-{n}").read
            ),
            Cost.seconds(
                "draw the report", num_trials, lambda n: lambda: write_report(folder / f"sweep-{n}")
            ),
            _report_bytes(folder, num_trials),
            Cost.seconds("propose and learn, bayesian", num_trials // 2, _bayesian),
        ]
        with connection():
            tasks_per_second = ranges_per_second(folder, num_tasks)
    reckoned = {}
    for costs, total in ((of_ranges, total_ranges), (of_trials, NUM_TRIALS)):
        print(f"\n{'':<36}{'measured for':>14}{'':>12}{'grows as':>10}{f'for {total:,}':>18}")
        for cost in costs:
            unit = "MB" if "bytes" in cost.what else "s"
            reckoned[cost.what] = round(cost.at(total), 2)
            print(
                f"{cost.what:<36}{4 * cost.number:>14,}{cost.value_of_four_times:>10.3f} {unit}"
                f"{f'n^{cost.exponent:.1f}':>10}{cost.at(total):>16,.1f} {unit}"
            )
    reckoned["tasks per second"] = round(tasks_per_second, 1)
    print(f"\nRay Data's driver gets through {tasks_per_second:.0f} tasks a second here")
    for network, rate in ROWS_PER_SECOND.items():
        for predictors in (2_000, NODES * CPUS_PER_NODE):
            tasks = max(len(group_ranges(_ranges(total_ranges), predictors)), 1)
            compute = INPUT_BYTES / ROW_BYTES / rate / min(predictors, tasks)
            driver = tasks / tasks_per_second
            limit = "the driver" if driver > compute else "the predictors"
            print(
                f"10 TB, {network} network, {predictors:,} predictors: {tasks:,} tasks;"
                f" predicting {compute:,.0f} s, driver {driver:,.0f} s: {limit}"
            )
    print(json.dumps(reckoned))


def _ranges(number: int) -> list[ByteRange]:
    return [ByteRange(0, part, part * RANGE_BYTES, (part + 1) * RANGE_BYTES) for part in range(number)]


def _pickled(number: int) -> Cost:
    sizes = (len(pickle.dumps(_ranges(size))) / 1e6 for size in (number, 4 * number))
    return Cost("bytes of ranges, to each node", number, *sizes)


def _unpickling(number: int) -> Callable[[], object]:
    content = pickle.dumps(_ranges(number))
    return lambda: pickle.loads(content)  # noqa: S301 (of the line above)


def _listing(output: Path) -> Callable[[], object]:
    journal = Journal(output)
    journal.resume({})
    return lambda: list(journal.parts())


def _space() -> SearchSpace:
    return SearchSpace.from_mapping({**DEFAULT_RANGES, "epochs": 10})


def _drawing(output: Path, number: int) -> Callable[[], object]:
    """Return work that draws trials and tells the ledger made-up results, as the watcher of Tune does."""
    random = np.random.default_rng(0)
    record = Record(plan=Plan(), search_space=_space().described(), data="", description="", versions={})
    output.mkdir()
    record.write(output)

    def draw() -> None:
        ledger = Ledger(TrialFolders(output), RandomSearch(_space(), 0), OBJECTIVE, number)
        while (trial := ledger.draw()) is not None:
            metrics = dict.fromkeys(METRIC_NAMES, float(random.random()))
            ended = {"epoch": 10, "metrics": metrics, "best_epoch": 5, "best_metrics": metrics}
            ledger.update(trial.number, **ended)
            times = {"started": float(trial.number), "ended": trial.number + 1.0, "worker": "node:1"}
            ledger.update(trial.number, status="completed", **times)
            metrics_csv = "epoch,valid_accuracy\n" + "".join(f"{epoch},0.5\n" for epoch in range(1, 11))
            (output / "trials" / str(trial.number) / "metrics.csv").write_text(metrics_csv)

    return draw


def _ranking(output: Path) -> Callable[[], object]:
    """Return work that writes the results but for best/, since these trials have no weights."""
    record = Record.read(output)
    folders = TrialFolders(output)
    results = Results(record, folders, time.monotonic())
    trials = [trial.model_copy(update={"best_epoch": 0}) for trial in folders.read()]
    results.begin(trials, len(trials))
    return results.write


def _report_bytes(folder: Path, number: int) -> Cost:
    sizes = ((folder / f"sweep-{size}" / REPORT).stat().st_size / 1e6 for size in (number, 4 * number))
    return Cost("bytes of the report", number, *sizes)


def _bayesian(number: int) -> Callable[[], object]:
    random = np.random.default_rng(0)

    def search() -> None:
        bayesian = BayesianSearch(_space(), 0)
        for trial in range(1, number + 1):
            bayesian.learn(bayesian.propose(trial), float(random.random()))

    return search


def _seconds(work: Callable[[], object]) -> float:
    """Return CPU seconds: waiting for a disk or a store comes on top, and other processes don't count."""
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    cyclopts.run(main)
