"""What the trials of a sweep are given, and how they share it."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest
import ray
from torch import nn

from lstmfcn import actors, capacity, cluster, memory_probe, ownership, tuning
from lstmfcn.devices import CPU
from lstmfcn.errors import ResourceError
from lstmfcn.plan import Plan
from lstmfcn.record import Record
from lstmfcn.sweep import sweep
from lstmfcn.trial_process import TrialProcess
from lstmfcn.trials import Trial
from tests.ray.sweeps import LEARNING_RATES, TRAIN, VALID, Told, results, space

pytestmark = pytest.mark.usefixtures("cluster")


class OnStandIns(TrialProcess):
    """Trials that note the GPUs that they were given, and compute on CPUs in their place."""

    def setup(self, config: dict[str, Any], data: Any, folders: Any, settings: Any) -> None:  # type: ignore[override]
        num_gpus = len(ray.get_runtime_context().get_accelerator_ids()["GPU"])
        cluster.allotted_devices = lambda: [CPU] * num_gpus
        super().setup(config, data, folders, settings)

    def step(self) -> dict[str, Any]:
        network = self.current()._trainer._network
        note = {
            "gpus": ray.get_runtime_context().get_accelerator_ids()["GPU"],
            "visible": os.environ["CUDA_VISIBLE_DEVICES"],
            "is_parallel": isinstance(network, nn.DataParallel),
            "process": os.getpid(),
        }
        (Path(str(self._folders.folder(self.config["number"]))) / "note.json").write_text(json.dumps(note))
        time.sleep(1.0)  # until the others have begun
        return super().step()


@pytest.mark.parametrize(
    ("gpus_per_trial", "num_processes", "num_gpus_each"),
    [(0.25, 4, 1), (1, 2, 1), (2, 1, 2)],
)
def test_trials_get_the_gpus_that_they_ask_for(
    gpus_per_trial: float,
    num_processes: int,
    num_gpus_each: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tuning, "TrialProcess", OnStandIns)
    plan = Plan(num_trials=4, scheduler="none", cpus_per_trial=0.5, gpus_per_trial=gpus_per_trial)

    trials = sweep(TRAIN, VALID, space(lr=LEARNING_RATES, epochs=2), plan, tmp_path)

    assert {trial.status for trial in trials} == {"completed"}
    notes = [json.loads((tmp_path / "trials" / str(n) / "note.json").read_text()) for n in range(1, 5)]
    assert len({note["process"] for note in notes}) == num_processes
    assert {gpu for note in notes for gpu in note["gpus"]} <= {"0", "1"}
    assert all(len(note["gpus"]) == num_gpus_each for note in notes)
    assert all(note["visible"].split(",") == note["gpus"] for note in notes)
    assert all(note["is_parallel"] == (num_gpus_each > 1) for note in notes)


def test_several_devices_lead_to_the_results_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(num_trials=2, scheduler="none")
    ranges = space(lr=LEARNING_RATES, epochs=3)
    on_a_cpu = sweep(TRAIN, VALID, ranges, plan, tmp_path / "cpu")
    monkeypatch.setattr(tuning, "TrialProcess", OnStandIns)

    on_two = sweep(TRAIN, VALID, ranges, plan.model_copy(update={"gpus_per_trial": 2.0}), tmp_path / "two")

    assert results(on_two) == results(on_a_cpu)


class OfFourOnAGpu:
    def measure(self, *_: object) -> tuple[float, float]:
        return 20 << 30, 80 << 30


class TooLarge:
    def measure(self, *_: object) -> tuple[float, float]:
        return math.inf, 0.0


class WithoutCuda:
    def measure(self, *_: object) -> None:
        raise AssertionError("Torch not compiled with CUDA enabled")


def test_the_share_of_a_gpu_can_follow_from_the_memory_that_a_trial_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "TrialProcess", OnStandIns)
    monkeypatch.setattr(memory_probe, "_Probe", OfFourOnAGpu)
    plan = Plan(num_trials=2, gpus_per_trial="auto", cpus_per_trial=0.25)

    sweep(TRAIN, VALID, space(epochs=2), plan, tmp_path)

    assert Record.read(tmp_path).plan.gpus_per_trial == 0.3333  # nine tenths of the memory, for three


def test_a_network_that_fits_no_gpu_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_probe, "_Probe", TooLarge)

    with pytest.raises(ResourceError, match="the largest network of the search space doesn't fit on a GPU"):
        sweep(TRAIN, VALID, space(epochs=2), Plan(gpus_per_trial="auto"), tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_gpu_on_which_nothing_can_be_tried_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_probe, "_Probe", WithoutCuda)

    with pytest.raises(ResourceError) as refused:
        sweep(TRAIN, VALID, space(epochs=2), Plan(gpus_per_trial="auto"), tmp_path)

    assert str(refused.value) == (
        "--gpus-per-trial auto: the largest network can't be tried on a GPU: AssertionError: Torch not"
        " compiled with CUDA enabled"
    )


def test_a_trial_that_fits_no_node_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(
        ResourceError, match=r"^a trial asks for 1 CPU and 8 GPUs; the nodes have 2 CPUs and 2 GPUs$"
    ):
        sweep(TRAIN, VALID, space(), Plan(num_trials=1, gpus_per_trial=8), tmp_path)

    assert list(tmp_path.iterdir()) == []


class SlowToStart(TrialProcess):
    """Short trials, and processes that take longer to start than they do, but for the first."""

    def setup(self, config: dict[str, Any], data: Any, folders: Any, settings: Any) -> None:  # type: ignore[override]
        try:
            Path(str(folders.folder(0).parent / "first")).touch(exist_ok=False)
        except FileExistsError:
            time.sleep(2)
        super().setup(config, data, folders, settings)

    def step(self) -> dict[str, Any]:
        time.sleep(0.3)
        return super().step()


def test_short_trials_run_side_by_side_however_long_a_process_takes_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "TrialProcess", SlowToStart)

    trials = sweep(TRAIN, VALID, space(epochs=1), Plan(num_trials=20, scheduler="none"), tmp_path)

    assert len({trial.worker for trial in trials}) == 2


def test_no_more_trials_run_at_once_than_may(tmp_path: Path) -> None:
    plan = Plan(num_trials=3, max_concurrent_trials=1, scheduler="none")

    trials = sweep(TRAIN, VALID, space(epochs=20), plan, tmp_path)

    assert len({trial.worker for trial in trials}) == 1


class OnAnotherNode(TrialProcess):
    """It doesn't see the output folder."""

    def setup(self, config: dict[str, Any], data: Any, folders: Any, settings: Any) -> None:  # type: ignore[override]
        ownership._SECONDS_TO_APPEAR = 0
        folders.ownership._folder /= "another"
        super().setup(config, data, folders, settings)


def test_an_output_that_not_all_nodes_share_ends_the_sweep_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "TrialProcess", OnAnotherNode)
    address = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]

    with pytest.raises(ResourceError) as refused:
        sweep(TRAIN, VALID, space(epochs=1), Plan(num_trials=2), tmp_path)

    assert str(refused.value) == (
        f"--output {tmp_path} isn't there on node {address}; on a cluster it must be a folder that all nodes"
        " share"
    )
    assert list(tmp_path.glob("trials/*/checkpoint.json")) == []


def test_a_sweep_that_runs_is_known_to_have_begun(tmp_path: Path) -> None:
    begun = set()

    class Looking(Told):
        def update(self, trial: Trial) -> None:
            begun.add(actors.have_begun(tuning._PROCESS))

    sweep(TRAIN, VALID, space(epochs=1), Plan(num_trials=1), tmp_path, view=Looking())

    assert True in begun


@ray.remote(num_cpus=2)
def hold(seconds: float) -> None:
    time.sleep(seconds)


def test_a_sweep_that_has_to_wait_for_others_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(capacity, "_SECONDS_OF_PATIENCE", 1.0)
    held = hold.remote(4.0)
    ray.wait([held], timeout=1.0)

    trials = sweep(TRAIN, VALID, space(epochs=1), Plan(num_trials=1), tmp_path)

    assert [trial.status for trial in trials] == ["completed"]
    assert caplog.messages == [
        "a trial waits for 1 CPU and 0 GPUs on one node; others hold them:"
        " 0 CPUs and 2 GPUs are free in the cluster"
    ]
