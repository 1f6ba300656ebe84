"""Sweeps on Ray Tune: results, faults, ends, and going on."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from torch import nn

from jobs.tune import tune
from lstmfcn import cluster, memory_probe, tuning
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.devices import CPU
from lstmfcn.ensemble import Ensemble, load_checkpoint
from lstmfcn.errors import HyperparameterError, OutputError, ResourceError, TrainingError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.plan import Plan, SchedulerName
from lstmfcn.search_space import SearchSpace
from lstmfcn.sweep import Record, sweep
from lstmfcn.training import fit
from lstmfcn.trial_process import TrialProcess
from lstmfcn.trials import Trial, Trials
from tests.samples import TINY, make_dataset, write_csv
from tests.test_jobs import status_of

pytestmark = pytest.mark.usefixtures("cluster")

TRAIN, VALID = make_dataset(40), make_dataset(21, seed=1)
LEARNING_RATES = {"log_uniform": [0.0001, 0.05]}


def space(**ranges: Any) -> SearchSpace:
    return SearchSpace.from_mapping({**TINY.model_dump(), **ranges})


def read_rows(output: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((output / "leaderboard.csv").read_text().splitlines()))


def results(trials: list[Trial]) -> list[tuple[Any, ...]]:
    """What must be the same whenever and wherever a trial runs."""
    return [
        (
            trial.number,
            trial.status,
            trial.hyperparameters,
            trial.metrics,
            trial.best_epoch,
            trial.best_metrics,
        )
        for trial in trials
    ]


class Told:
    """What a sweep tells of itself."""

    def __init__(self) -> None:
        self.num_trials = 0
        self.ended: list[int] = []

    def begin(self, trials: Sequence[Trial], num_trials: int) -> None:
        self.num_trials = num_trials

    def update(self, trial: Trial) -> None:
        if trial.has_ended:
            self.ended.append(trial.number)


def test_a_sweep_ranks_its_trials_and_keeps_the_best_epoch_of_the_best(tmp_path: Path) -> None:
    told = Told()
    ranges = space(lr=LEARNING_RATES, hidden_size={"integer": [2, 4]}, epochs=6)

    ranked = sweep(TRAIN, VALID, ranges, Plan(num_trials=4), tmp_path, view=told)

    assert sorted(trial.number for trial in ranked) == sorted(told.ended) == [1, 2, 3, 4]
    assert all(trial.status in ("completed", "stopped early") for trial in ranked)
    best = Checkpoint.load(tmp_path / "best")
    assert best.hyperparameters == ranked[0].hyperparameters
    assert best.epoch == ranked[0].best_epoch
    assert best.metrics["valid_accuracy"] == max(trial.best_metrics["valid_accuracy"] for trial in ranked)
    rows = read_rows(tmp_path)
    assert [int(row["trial"]) for row in rows] == [trial.number for trial in ranked]
    assert rows[0]["lr"] == str(ranked[0].hyperparameters.lr)
    assert {path.name for path in tmp_path.iterdir()} == {"best", "leaderboard.csv", "sweep.json", "trials"}
    assert {path.name for path in (tmp_path / "trials").iterdir()} == {"1", "2", "3", "4"}


def test_a_trial_leaves_the_same_as_the_same_training_alone(tmp_path: Path) -> None:
    """Whichever process runs it, and whatever that one ran before."""
    plan = Plan(num_trials=5, scheduler="none")

    trials = sweep(TRAIN, VALID, space(lr=LEARNING_RATES, epochs=4), plan, tmp_path)

    for trial in trials:
        epochs = list(fit(TRAIN, VALID, trial.hyperparameters))
        assert trial.metrics == epochs[-1].metrics
        best = [epoch for epoch in epochs if epoch.checkpoint][-1]
        assert (trial.best_epoch, trial.best_metrics) == (best.number, best.metrics)
        assert best.checkpoint is not None
        folder = Trials(tmp_path).folder(trial.number)
        assert Checkpoint.load(folder).digest() == best.checkpoint.digest()
        metrics = list(csv.DictReader((Path(str(folder)) / "metrics.csv").read_text().splitlines()))
        assert [float(row["valid_loss"]) for row in metrics] == [
            epoch.metrics["valid_loss"] for epoch in epochs
        ]


@pytest.mark.parametrize("scheduler", ["asha", "median", "hyperband", "pbt", "none"])
def test_every_scheduler_ends_every_trial(scheduler: SchedulerName, tmp_path: Path) -> None:
    plan = Plan(num_trials=6, scheduler=scheduler)

    trials = sweep(TRAIN, VALID, space(lr=LEARNING_RATES, epochs=20), plan, tmp_path)

    assert len(trials) == 6
    allowed = {"completed"} if scheduler in ("pbt", "none") else {"completed", "stopped early"}
    assert {trial.status for trial in trials} <= allowed
    assert "completed" in {trial.status for trial in trials}
    assert all(trial.epoch == 20 for trial in trials if trial.status == "completed")
    assert all(trial.epoch % 2 == 0 for trial in trials)  # judged ten times


def test_in_a_population_the_worst_goes_on_as_a_copy_of_the_best(tmp_path: Path) -> None:
    rates = {"categorical": [1e-9, 0.01]}
    points = [TINY.model_copy(update={"lr": lr, "epochs": 40}) for lr in (0.01, 0.01, 0.01, 1e-9)]
    plan = Plan(num_trials=4, scheduler="pbt", metric="valid_loss")

    trials = sweep(TRAIN, VALID, space(lr=rates, epochs=40), plan, tmp_path, points=points)

    assert {trial.status for trial in trials} == {"completed"}
    assert all(trial.best_metrics["valid_loss"] < 0.5 for trial in trials)  # at chance it is 0.69
    for trial in trials:
        kept = Checkpoint.load(Trials(tmp_path).folder(trial.number))
        assert kept.epoch == trial.best_epoch
        assert kept.metrics["valid_loss"] == trial.best_metrics["valid_loss"]


@pytest.mark.parametrize(
    ("ranges", "sentence"),
    [
        (
            {"hidden_size": {"integer": [2, 3]}, "lr": LEARNING_RATES},
            "scheduler pbt changes lr, dropout, batch_size while networks train; the search space also varies"
            " hidden_size",
        ),
        ({}, "scheduler pbt needs a search space that varies one of lr, dropout, batch_size"),
    ],
)
def test_a_population_needs_a_space_of_what_can_change(
    ranges: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(HyperparameterError) as refused:
        sweep(TRAIN, VALID, space(**ranges), Plan(scheduler="pbt"), tmp_path)

    assert str(refused.value) == sentence
    assert list(tmp_path.iterdir()) == []


class OnStandIns(TrialProcess):
    """Trials that note the GPUs that they were given, and compute on CPUs in their place."""

    def setup(self, config: dict[str, Any], data: Any, trials: Any, settings: Any) -> None:  # type: ignore[override]
        num_gpus = len(ray.get_runtime_context().get_accelerator_ids()["GPU"])
        cluster.allotted_devices = lambda: [CPU] * num_gpus
        super().setup(config, data, trials, settings)

    def step(self) -> dict[str, Any]:
        network = self._run._trainer._network
        note = {
            "gpus": ray.get_runtime_context().get_accelerator_ids()["GPU"],
            "visible": os.environ["CUDA_VISIBLE_DEVICES"],
            "is_parallel": isinstance(network, nn.DataParallel),
            "process": os.getpid(),
        }
        (Path(str(self._trials.folder(self.config["number"]))) / "note.json").write_text(json.dumps(note))
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


def test_the_share_of_a_gpu_can_follow_from_the_memory_that_a_trial_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "TrialProcess", OnStandIns)
    monkeypatch.setattr(memory_probe, "_measure", lambda *_: (20 << 30, 80 << 30))
    plan = Plan(num_trials=2, gpus_per_trial="auto", cpus_per_trial=0.25)

    sweep(TRAIN, VALID, space(epochs=2), plan, tmp_path)

    assert Record.read(tmp_path).plan.gpus_per_trial == 0.3333  # nine tenths of the memory, for three


def test_a_network_that_fits_no_gpu_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_probe, "_measure", lambda *_: (math.inf, 0.0))

    with pytest.raises(ResourceError, match="the largest network of the search space doesn't fit on a GPU"):
        sweep(TRAIN, VALID, space(epochs=2), Plan(gpus_per_trial="auto"), tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_points_come_first_and_a_grid_is_tried_whole(tmp_path: Path) -> None:
    grid = space(lr={"categorical": [0.01, 0.02]}, hidden_size={"integer": [2, 3]}, epochs=1)
    point = Hyperparameters(**{**TINY.model_dump(), "lr": 0.5, "epochs": 1})

    told = Told()

    trials = sweep(TRAIN, VALID, grid, Plan(search="grid"), tmp_path, points=[point], view=told)

    assert told.num_trials == len(trials) == 5

    tried = [trial.hyperparameters for trial in sorted(trials, key=lambda trial: trial.number)]
    assert tried[0] == point
    assert [(one.hidden_size, one.lr) for one in tried[1:]] == [(2, 0.01), (2, 0.02), (3, 0.01), (3, 0.02)]


def test_a_bayesian_sweep_draws_as_many_as_asked(tmp_path: Path) -> None:
    plan = Plan(num_trials=4, search="bayesian", scheduler="none", metric="valid_loss")

    trials = sweep(TRAIN, VALID, space(lr=LEARNING_RATES, epochs=2), plan, tmp_path)

    losses = [trial.best_metrics["valid_loss"] for trial in trials]
    assert len(losses) == 4
    assert losses == sorted(losses)
    assert len({trial.hyperparameters.lr for trial in trials}) == 4


def test_the_target_ends_a_sweep_that_can_go_on(tmp_path: Path) -> None:
    ranges = space(epochs=100_000)

    first = sweep(TRAIN, VALID, ranges, Plan(num_trials=3, target=0.9, scheduler="none"), tmp_path)

    assert {trial.status for trial in first} == {"interrupted"}
    assert first[0].best_metrics["valid_accuracy"] >= 0.9
    assert Checkpoint.load(tmp_path / "best").metrics["valid_accuracy"] >= 0.9


def test_the_time_budget_ends_a_sweep(tmp_path: Path) -> None:
    plan = Plan(num_trials=3, time_budget=8.0, scheduler="none")
    started = time.monotonic()

    trials = sweep(TRAIN, VALID, space(epochs=100_000), plan, tmp_path)

    assert time.monotonic() - started < 25
    assert {trial.status for trial in trials} == {"interrupted"}


class Failing(TrialProcess):
    """Trials that fail, for one of the learning rates."""

    def step(self) -> dict[str, Any]:
        if self.config["lr"] == 0.001:
            raise RuntimeError("there is no such thing")
        if self.config["lr"] == 0.002:
            os._exit(1)
        return super().step()


def test_a_failed_trial_is_tried_again_then_listed_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "TrialProcess", Failing)
    ranges = space(lr={"categorical": [0.01, 0.001, 0.002]}, epochs=2)
    plan = Plan(search="grid", max_failures=1)

    ranked = sweep(TRAIN, VALID, ranges, plan, tmp_path)

    assert [(trial.hyperparameters.lr, trial.status, trial.failures, trial.error) for trial in ranked] == [
        (0.01, "completed", 0, ""),
        (0.001, "failed", 1, "RuntimeError: there is no such thing"),
        (0.002, "failed", 1, "its process or its node was lost"),
    ]
    assert [row["error"] for row in read_rows(tmp_path)] == [trial.error for trial in ranked]
    assert Checkpoint.load(tmp_path / "best").hyperparameters.lr == 0.01


class SlowToStart(TrialProcess):
    """Short trials, and processes that take longer to start than they do, but for the first."""

    def setup(self, config: dict[str, Any], data: Any, trials: Any, settings: Any) -> None:  # type: ignore[override]
        try:
            Path(str(trials.folder(0).parent / "first")).touch(exist_ok=False)
        except FileExistsError:
            time.sleep(2)
        super().setup(config, data, trials, settings)

    def step(self) -> dict[str, Any]:
        time.sleep(0.3)
        return super().step()


def test_short_trials_run_side_by_side_however_long_a_process_takes_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "TrialProcess", SlowToStart)

    trials = sweep(TRAIN, VALID, space(epochs=1), Plan(num_trials=20, scheduler="none"), tmp_path)

    assert len({trial.worker for trial in trials}) == 2


class Dying(TrialProcess):
    """Each trial's process dies once, after two reports."""

    def step(self) -> dict[str, Any]:
        mark = Path(str(self._trials.folder(self.config["number"]))) / "died"
        report = super().step()
        if report["epoch"] >= 4 and not mark.exists():
            self._run.leave()
            mark.touch()
            os._exit(1)
        return report


def test_a_trial_whose_process_dies_goes_on_to_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranges = space(lr=LEARNING_RATES, epochs=20)
    plan = Plan(num_trials=2, scheduler="median")
    undisturbed = sweep(TRAIN, VALID, ranges, plan, tmp_path / "undisturbed")
    monkeypatch.setattr(tuning, "TrialProcess", Dying)

    disturbed = sweep(TRAIN, VALID, ranges, plan, tmp_path / "disturbed")

    assert results(disturbed) == results(undisturbed)
    assert [trial.failures for trial in disturbed] == [1, 1]


def test_a_sweep_in_which_all_trials_diverge_is_an_error_with_the_reason(tmp_path: Path) -> None:
    broken = replace(TRAIN, series=np.full_like(TRAIN.series, np.nan))

    with pytest.raises(TrainingError) as failed:
        sweep(broken, VALID, space(lr=0.001), Plan(num_trials=2), tmp_path)

    assert str(failed.value) == (
        "none of 2 trials succeeded; the first failed with: "
        "train_loss became nan in epoch 1; try an lr below 0.001"
    )
    assert [row["status"] for row in read_rows(tmp_path)] == ["failed", "failed"]
    assert not (tmp_path / "best").exists()


def test_a_trial_that_fits_no_node_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(
        ResourceError, match=r"^a trial asks for 1 CPUs and 8 GPUs; the nodes have 2 CPUs and 2 GPUs$"
    ):
        sweep(TRAIN, VALID, space(), Plan(num_trials=1, gpus_per_trial=8), tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_sweep_that_goes_on_keeps_what_has_ended_and_adds_what_is_asked(tmp_path: Path) -> None:
    ranges = space(lr=LEARNING_RATES, epochs=2)
    whole = sweep(TRAIN, VALID, ranges, Plan(num_trials=5), tmp_path / "whole")
    sweep(TRAIN, VALID, ranges, Plan(num_trials=3), tmp_path / "parts")
    told = Told()

    parts = sweep(TRAIN, VALID, ranges, Plan(num_trials=5), tmp_path / "parts", resume=True, view=told)

    assert sorted(told.ended) == [4, 5]
    assert results(parts) == results(whole)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"plan": Plan(seed=1)}, "the sweep's seed has changed: it was 0, now it is 1"),
        ({"training": make_dataset(41)}, "the sweep's training or validation data has changed"),
        ({"space": space(lr=0.5)}, "the sweep's search_space has changed"),
    ],
)
def test_another_sweep_does_not_go_on(changed: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    Record(
        plan=Plan(),
        search_space=space().described(),
        data=Record.digest(TRAIN, VALID),
        description="",
        versions={},
    ).write(tmp_path)
    arguments = {"training": TRAIN, "validation": VALID, "space": space(), "plan": Plan(), **changed}

    with pytest.raises(OutputError, match=sentence):
        sweep(output=tmp_path, resume=True, **arguments)


def test_where_there_is_no_sweep_none_goes_on(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"holds no sweep.json of a sweep$"):
        sweep(TRAIN, VALID, space(), Plan(), tmp_path, resume=True)


def write_inputs(folder: Path, epochs: int) -> tuple[object, ...]:
    training = write_csv(folder / "train.csv", make_dataset(20), labelled=True)
    search_space = folder / "space.yaml"
    search_space.write_text(f"epochs: {epochs}\nfilters_1: 4\nfilters_2: 4\nfilters_3: 4\n")
    return ("--training", training, "--output", folder / "sweep", "--search-space", search_space)


def test_the_job_holds_out_a_share_when_there_is_no_validation_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = write_inputs(tmp_path, epochs=2)

    assert status_of(tune, *flags, "--num-trials", 2) == 0

    log = capsys.readouterr().out
    assert log.count("trial ") == 2
    assert f"checkpoint in {tmp_path}/sweep/best" in log
    assert "valid_accuracy" in Checkpoint.load(tmp_path / "sweep" / "best").metrics
    assert status_of(tune, *flags) == 2


def test_the_job_keeps_an_ensemble_and_draws_a_report_and_draws_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "sweep"
    assert status_of(tune, *write_inputs(tmp_path, epochs=2), "--num-trials", 2, "--ensemble", 2) == 0
    assert "ensemble of 2: accuracy " in capsys.readouterr().out
    assert isinstance(load_checkpoint(output / "best"), Ensemble)
    drawn = (output / "report.html").read_bytes()
    scores = json.loads((output / "evaluation" / "evaluation.json").read_text())
    assert scores["num_cases"] == 4

    (output / "report.html").unlink()
    assert status_of(tune, "--report", output) == 0

    assert (output / "report.html").read_bytes() == drawn


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_keeps_what_it_has_and_goes_on(
    sent: signal.Signals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = (*write_inputs(tmp_path, epochs=2000), "--num-trials", 2, "--scheduler", "none")

    def interrupt_when_a_trial_has_a_checkpoint() -> None:
        while not list((tmp_path / "sweep").glob("trials/*/checkpoint.json")):
            time.sleep(0.1)
        time.sleep(0.5)
        os.kill(os.getpid(), sent)

    threading.Thread(target=interrupt_when_a_trial_has_a_checkpoint).start()
    assert status_of(tune, *flags) == 130

    assert capsys.readouterr().err == "interrupted\n"
    assert {row["status"] for row in read_rows(tmp_path / "sweep")} == {"interrupted"}
    assert Checkpoint.load(tmp_path / "sweep" / "best").epoch >= 1
    assert status_of(tune, *flags, "--resume") == 0
    rows = read_rows(tmp_path / "sweep")
    assert [(row["status"], row["epoch"]) for row in rows] == [("completed", "2000")] * 2
