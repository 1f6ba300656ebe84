"""What a sweep survives: the death of its driver, of trials' processes; a thousand trials."""

from __future__ import annotations

import csv
import itertools
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from ray.cluster_utils import Cluster

from lstmfcn.plan import Plan
from lstmfcn.search_space import SearchSpace
from lstmfcn.sweep import sweep
from lstmfcn.trials import Trial, TrialFolders
from tests.samples import TINY, make_dataset, write_csv

pytestmark = pytest.mark.long

NUM_TRIALS = 12
TRAINING_SECONDS = 45
"""That the trials of a sweep take here, together, on two cores; each takes longer than its state is old."""
_MOST_SECONDS = 900
"""A sweep that takes longer hangs."""


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A sweep of a dozen trials; the output's flag is left to add."""
    folder = tmp_path_factory.mktemp("inputs")
    ranges = {**TINY.model_dump(), "lr": {"log_uniform": [0.0003, 0.01]}, "epochs": {"integer": [1000, 2000]}}
    (folder / "space.yaml").write_text(yaml.safe_dump(ranges))
    write_csv(folder / "train.csv", make_dataset(40), labelled=True)
    write_csv(folder / "valid.csv", make_dataset(20, seed=1), labelled=True)
    return [
        sys.executable,
        "-m",
        "jobs.tune",
        *("--training", str(folder / "train.csv"), "--validation", str(folder / "valid.csv")),
        *("--search-space", str(folder / "space.yaml"), "--num-trials", str(NUM_TRIALS)),
        "--output",
    ]


def results(output: Path) -> dict[str, tuple[str, ...]]:
    """Of each trial of the leaderboard, what must be the same however it was disturbed."""
    rows = list(csv.DictReader((output / "leaderboard.csv").read_text().splitlines()))
    free = {"seconds", "failures"}
    return {row["trial"]: tuple(value for name, value in row.items() if name not in free) for row in rows}


def ended(output: Path) -> dict[int, Trial]:
    return {trial.number: trial for trial in TrialFolders(output).read() if trial.has_ended}


def random_moments() -> random.Random:
    """Others in each run, by a seed that a failed test shows."""
    seed = time.time_ns()
    print(f"seed of the moments: {seed}")
    return random.Random(seed)


def kill_driver(command: list[str], output: Path, seconds: float) -> None:
    """Start a sweep and kill it so many seconds after a trial's first checkpoint."""
    with subprocess.Popen(command) as driver:
        while not list(output.glob("trials/*/checkpoint.json")):
            assert driver.poll() is None
            time.sleep(0.05)
        time.sleep(seconds)
        driver.kill()


PLAIN = ["--scheduler", "none"]


@pytest.fixture(scope="module")
def undisturbed(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, ...]]:
    """What the sweep leads to when nothing is killed."""
    output = tmp_path_factory.mktemp("undisturbed")
    subprocess.run([*command, str(output), *PLAIN], check=True)
    return results(output)


def test_a_sweep_whose_driver_is_killed_goes_on_to_the_same_leaderboard(
    command: list[str], undisturbed: dict[str, tuple[str, ...]], tmp_path: Path
) -> None:
    output = tmp_path / "killed"
    moments = random_moments()
    known: dict[int, Trial] = {}
    for again in ([], ["--resume"], ["--resume"]):
        kill_driver([*command, str(output), *PLAIN, *again], output, moments.uniform(0, TRAINING_SECONDS / 4))
        assert {number: ended(output)[number] for number in known} == known
        known = ended(output)

    subprocess.run([*command, str(output), *PLAIN, "--resume"], check=True)

    assert len(results(output)) == NUM_TRIALS
    assert results(output) == undisturbed


@pytest.mark.parametrize("search", ["random", "bayesian"])
def test_with_asha_no_trial_that_has_ended_is_lost_or_run_again(
    search: str, command: list[str], tmp_path: Path
) -> None:
    output = tmp_path / "killed"
    flags = [*command, str(output), "--scheduler", "asha", "--search", search]
    kill_driver(flags, output, random_moments().uniform(1, TRAINING_SECONDS / 2))
    before = ended(output)

    subprocess.run([*flags, "--resume"], check=True)

    after = ended(output)
    assert sorted(after) == list(range(1, NUM_TRIALS + 1))
    assert {number: after[number] for number in before} == before


def kill_a_trial(driver: psutil.Process) -> bool:
    for process in driver.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "Trainable" in process.name():
                process.kill()
                return True
    return False


def test_a_sweep_whose_trials_processes_are_killed_ends_with_the_same_leaderboard(
    command: list[str], undisturbed: dict[str, tuple[str, ...]], tmp_path: Path
) -> None:
    output = tmp_path / "killed"
    moments = random_moments()
    num_killed = 0
    with subprocess.Popen([*command, str(output), *PLAIN]) as driver:
        while driver.poll() is None and num_killed < 3:
            time.sleep(moments.uniform(3, 6))
            num_killed += list(output.glob("trials/*/checkpoint.json")) != [] and kill_a_trial(
                psutil.Process(driver.pid)
            )
        assert driver.wait(timeout=_MOST_SECONDS) == 0

    assert num_killed > 0
    assert results(output) == undisturbed


@pytest.fixture
def nodes() -> Iterator[Cluster]:
    """A cluster of two nodes, with a CPU each."""
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes.add_node(num_cpus=1)
    yield nodes
    nodes.shutdown()  # type: ignore[no-untyped-call]


def test_a_sweep_that_loses_a_node_ends_with_the_same_leaderboard(
    command: list[str], undisturbed: dict[str, tuple[str, ...]], nodes: Cluster, tmp_path: Path
) -> None:
    output = tmp_path / "killed"
    lost = next(iter(nodes.worker_nodes))
    environment = {**os.environ, "RAY_ADDRESS": nodes.address}
    with subprocess.Popen([*command, str(output), *PLAIN], env=environment) as driver:
        while len(ended(output)) < 3:
            assert driver.poll() is None
            time.sleep(0.1)
        nodes.remove_node(lost, allow_graceful=False)
        assert driver.wait(timeout=_MOST_SECONDS) == 0

    assert results(output) == undisturbed


@pytest.fixture
def memory() -> Iterator[list[float]]:
    """Of this process, in bytes, ten times a second."""
    measured: list[float] = []
    is_over = threading.Event()

    def measure() -> None:
        process = psutil.Process()
        while not is_over.wait(0.1):
            measured.append(process.memory_info().rss)

    thread = threading.Thread(target=measure)
    thread.start()
    yield measured
    is_over.set()
    thread.join()


class Noted:
    """When trials ended, and the memory then."""

    def __init__(self, memory: list[float]) -> None:
        self.moments: list[float] = []
        self.memory_then: list[float] = []
        self._memory = memory

    def begin(self, trials: Sequence[Trial], num_trials: int) -> None:
        """Nothing."""

    def update(self, trial: Trial) -> None:
        if trial.has_ended:
            self.moments.append(time.monotonic())
            self.memory_then.append(self._memory[-1])


@pytest.mark.usefixtures("cluster")
def test_a_thousand_trials_cost_no_more_towards_the_end(tmp_path: Path, memory: list[float]) -> None:
    noted = Noted(memory)
    ranges: dict[str, Any] = {**TINY.model_dump(), "lr": {"log_uniform": [0.001, 0.01]}, "epochs": 1}
    trials = sweep(
        make_dataset(40),
        make_dataset(20, seed=1),
        SearchSpace.from_mapping(ranges),
        Plan(num_trials=1000, scheduler="none"),
        tmp_path,
        view=noted,
    )

    assert {trial.status for trial in trials} == {"completed"}
    assert len(trials) == 1000
    seconds = [later - earlier for earlier, later in itertools.pairwise(noted.moments)]
    assert memory[-1] <= 1.5 * noted.memory_then[99]
    assert statistics.median(seconds[-100:]) <= 1.3 * statistics.median(seconds[100:200])
