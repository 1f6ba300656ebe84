"""Sweeps on Ray Tune: results, ends, and going on."""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.tune import tune
from lstmfcn import storage, tuning
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.dataset import digest, read_training
from lstmfcn.ensemble import Ensemble, load_checkpoint
from lstmfcn.errors import HyperparameterError, OutputError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.object_storage import ObjectPath
from lstmfcn.plan import Plan
from lstmfcn.record import Record
from lstmfcn.refit import refit
from lstmfcn.report import write_report
from lstmfcn.scaling import Scaling
from lstmfcn.search_space import SearchSpace
from lstmfcn.start import Start
from lstmfcn.sweep import sweep
from lstmfcn.training import fit
from lstmfcn.treatment import Treatment
from lstmfcn.trials import Trial, TrialFolders
from tests.commands import close, in_terminal, status_of
from tests.ray.sweeps import LEARNING_RATES, TRAIN, VALID, Told, read_rows, results, space
from tests.samples import (
    TINY,
    make_beats,
    make_channels,
    make_dataset,
    make_labels,
    write_csv,
    write_named_csv,
)

pytestmark = pytest.mark.usefixtures("cluster")


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
        folder = TrialFolders(tmp_path).folder(trial.number)
        assert Checkpoint.load(folder).digest() == best.checkpoint.digest()
        metrics = list(csv.DictReader((Path(str(folder)) / "metrics.csv").read_text().splitlines()))
        assert [float(row["valid_loss"]) for row in metrics] == [
            epoch.metrics["valid_loss"] for epoch in epochs
        ]


def test_trials_start_from_a_checkpoint(trained: Checkpoint, tmp_path: Path) -> None:
    start = Start(replace(trained, scaling=Scaling(method="training-set", mean=0.1, deviation=0.6)))
    ranges = SearchSpace.from_mapping({"lr": LEARNING_RATES, "epochs": 2})

    trials = sweep(TRAIN, VALID, ranges, Plan(num_trials=2, scheduler="none"), tmp_path, start=start)

    for trial in trials:
        *_, last = fit(TRAIN, VALID, Hyperparameters(lr=trial.hyperparameters.lr, epochs=2), start=start)
        assert trial.metrics == last.metrics
    assert Checkpoint.load(tmp_path / "best").scaling == start.checkpoint.scaling
    assert Record.read(tmp_path).plan.scaling == "training-set"
    with pytest.raises(
        OutputError, match=r"^--resume: the checkpoint that the sweep's trials start from has"
    ):
        sweep(
            TRAIN,
            VALID,
            ranges,
            Plan(num_trials=2, scheduler="none"),
            tmp_path,
            resume=True,
            start=replace(start, checkpoint=replace(start.checkpoint, temperature=2.0)),
        )


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

    killed = first[-1].model_copy(update={"status": "running"})
    TrialFolders(tmp_path).write(killed)
    plan = Plan(num_trials=5, target=0.9, scheduler="none")
    again = sweep(TRAIN, VALID, ranges, plan, tmp_path, resume=True)
    # Nothing is begun when the target is reached already.
    assert {trial.number: trial.status for trial in again} == {one.number: "interrupted" for one in first}


def test_the_time_budget_ends_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [0.0]

    class Long(Told):
        def update(self, trial: Trial) -> None:
            seconds[0] += 10.0 * trial.best_epoch

    monkeypatch.setattr(tuning, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    plan = Plan(num_trials=3, time_budget=10.0, scheduler="none")

    trials = sweep(TRAIN, VALID, space(epochs=100_000), plan, tmp_path, view=Long())

    assert {trial.status for trial in trials} == {"interrupted"}


def test_a_sweep_that_goes_on_keeps_what_has_ended_and_adds_what_is_asked(tmp_path: Path) -> None:
    ranges = space(lr=LEARNING_RATES, epochs=2)
    three, five = (Plan(num_trials=count, scheduler="none") for count in (3, 5))
    whole = sweep(TRAIN, VALID, ranges, five, tmp_path / "whole")
    sweep(TRAIN, VALID, ranges, three, tmp_path / "parts")
    told = Told()

    parts = sweep(TRAIN, VALID, ranges, five, tmp_path / "parts", resume=True, view=told)

    assert sorted(told.ended) == [4, 5]
    assert results(parts) == results(whole)


def test_a_search_that_learns_draws_a_trial_only_when_there_is_a_place_for_it(tmp_path: Path) -> None:
    drawn: set[int] = set()
    numbers: list[int] = []

    class Counting(Told):
        def update(self, trial: Trial) -> None:
            (drawn.discard if trial.has_ended else drawn.add)(trial.number)
            numbers.append(len(drawn))

    plan = Plan(num_trials=6, search="bayesian", scheduler="none")

    trials = sweep(TRAIN, VALID, space(lr=LEARNING_RATES, epochs=2), plan, tmp_path, view=Counting())

    assert max(numbers) == 2  # CPUs
    assert {trial.status for trial in trials} == {"completed"}


def test_a_sweep_runs_in_object_storage(bucket: ObjectPath) -> None:
    ranges, output = space(lr=LEARNING_RATES, epochs=2), bucket / "sweep"
    sweep(TRAIN, VALID, ranges, Plan(num_trials=2), output)

    trials = sweep(TRAIN, VALID, ranges, Plan(num_trials=3, ensemble=2), output, resume=True)

    assert {trial.status for trial in trials} == {"completed"}
    assert storage.names(output / "trials") == ["1", "2", "3"]
    assert isinstance(load_checkpoint(output / "best"), Ensemble)
    refit(output, TRAIN, VALID)
    assert isinstance(load_checkpoint(output / "refit"), Ensemble)
    write_report(output)
    left = {"best", "leaderboard.csv", "refit", "report.html", "sweep.json", "trials"}
    assert set(storage.names(output)) == left


def test_a_refused_sweep_leaves_the_one_that_it_was_to_replace(tmp_path: Path) -> None:
    sweep(TRAIN, VALID, space(epochs=1), Plan(num_trials=1), tmp_path)
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(OutputError, match="already holds a result"):
        sweep(TRAIN, VALID, space(epochs=1), Plan(num_trials=1), tmp_path)
    with pytest.raises(HyperparameterError):
        sweep(TRAIN, VALID, space(epochs=1), Plan(scheduler="pbt"), tmp_path, overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before

    sweep(TRAIN, VALID, space(epochs=1), Plan(num_trials=2), tmp_path, overwrite=True)
    assert len(read_rows(tmp_path)) == 2


def test_only_a_bayesian_search_learns_from_earlier_sweeps(tmp_path: Path) -> None:
    known = [(TINY, {"valid_accuracy": 0.5, "valid_loss": 1.0})]

    with pytest.raises(HyperparameterError, match="a random search learns nothing by --warm-start"):
        sweep(TRAIN, VALID, space(), Plan(), tmp_path, known=known)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"training": replace(TRAIN, task="binary")},
            "the sweep's task has changed: it was multiclass, now it",
        ),
        (
            {"training": replace(TRAIN, treatment=Treatment(missing="interpolate"))},
            "the sweep's missing has changed: it was refuse, now it is interpolate",
        ),
        ({"plan": Plan(seed=1)}, "the sweep's seed has changed: it was 0, now it is 1"),
        ({"training": make_dataset(41)}, "the sweep's training or validation data has changed"),
        ({"space": space(lr=0.5)}, "the sweep's search_space has changed"),
        ({"points": [TINY]}, "the points that the sweep tries first have changed"),
    ],
)
def test_another_sweep_does_not_go_on(changed: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    Record(
        plan=Plan(task="multiclass"),
        search_space=space().described(),
        data=digest(TRAIN, VALID),
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
    constants = f"epochs: {epochs}\nfilters_1: 4\nfilters_2: 4\nfilters_3: 4\n"
    search_space.write_text(f"{constants}dropout: {{uniform: [0.5, 0.9]}}\n")
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


@pytest.mark.parametrize("sent", [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGTERM])
def test_an_interrupted_sweep_keeps_what_it_has_and_goes_on(
    sent: signal.Signals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = (*write_inputs(tmp_path, epochs=2000), "--num-trials", 2, "--scheduler", "none")

    def interrupt_when_both_trials_have_a_checkpoint() -> None:
        while len(list((tmp_path / "sweep").glob("trials/*/checkpoint.json"))) < 2:
            time.sleep(0.1)
        time.sleep(0.5)
        os.kill(os.getpid(), sent)

    threading.Thread(target=interrupt_when_both_trials_have_a_checkpoint, daemon=True).start()
    assert status_of(tune, *flags) == 130

    assert capsys.readouterr().err == "interrupted\n"
    interrupted = read_rows(tmp_path / "sweep")
    assert {row["status"] for row in interrupted} == {"interrupted"}
    for row in interrupted:
        best = Checkpoint.load(tmp_path / "sweep" / "trials" / row["trial"])
        assert str(best.epoch) == row["best_epoch"]
        assert str(best.metrics["valid_loss"]) == row["best_valid_loss"]
    assert Checkpoint.load(tmp_path / "sweep" / "best").epoch >= 1
    assert status_of(tune, *flags, "--resume") == 0
    rows = read_rows(tmp_path / "sweep")
    assert [(row["status"], row["epoch"]) for row in rows] == [("completed", "2000")] * 2


@pytest.mark.long
def test_a_sweep_whose_terminal_is_closed_keeps_what_it_has(tmp_path: Path) -> None:
    flags = map(str, write_inputs(tmp_path, epochs=1_000_000))
    command = [sys.executable, "-m", "jobs.tune", *flags, "--num-trials", "2", "--scheduler", "none"]
    with in_terminal(command, Path.cwd()) as (process, terminal):
        while len(list((tmp_path / "sweep").glob("trials/*/checkpoint.json"))) < 2:
            os.read(terminal.fileno(), 1 << 16)  # what is drawn again and again, until the job ends
        close(terminal, process)

        assert process.wait(60) == 130
    assert [row["status"] for row in read_rows(tmp_path / "sweep")] == ["interrupted"] * 2
    assert Checkpoint.load(tmp_path / "sweep" / "best").epoch >= 1
    assert (tmp_path / "sweep" / "report.html").exists()


def test_labels_of_a_file_with_a_header_are_tuned_and_reported(tmp_path: Path) -> None:
    training = write_named_csv(tmp_path / "train.csv", make_labels(40), labelled=True, seed=0)
    points = tmp_path / "space.json"
    points.write_text(json.dumps({**TINY.model_dump(), "lr": LEARNING_RATES, "epochs": 2}))
    flags = ("--training", training, "--output", tmp_path / "sweep", "--search-space", points)

    assert status_of(tune, *flags, "--task", "multilabel", "--num-trials", 2, "--ensemble", 2) == 0

    best = load_checkpoint(tmp_path / "sweep" / "best")
    assert isinstance(best, Ensemble)
    assert best.task == "multilabel"
    assert '<th scope="row" title="not y_2">' in (tmp_path / "sweep" / "report.html").read_text()


def test_series_of_several_channels_are_tuned(tmp_path: Path) -> None:
    training = write_csv(tmp_path / "train.csv", make_channels(20), labelled=True)
    ranges = {**TINY.model_dump(), "lr": LEARNING_RATES, "squeeze_excite": 1, "epochs": 2}
    (tmp_path / "space.yaml").write_text(json.dumps(ranges))
    flags = ("--training", training, "--channels", 3, "--search-space", tmp_path / "space.yaml")

    assert status_of(tune, *flags, "--output", tmp_path / "sweep", "--num-trials", 2, "--ensemble", 2) == 0

    best = load_checkpoint(tmp_path / "sweep" / "best")
    assert isinstance(best, Ensemble)
    assert (best.channels, best.length, best.num_values) == (3, 12, 36)
    assert Record.read(tmp_path / "sweep").plan.channels == 3


def test_trials_on_a_file_with_a_header_leave_the_same_as_a_training_without_one(tmp_path: Path) -> None:
    first = write_csv(tmp_path / "first.csv", make_beats(), labelled=True)
    named = write_named_csv(tmp_path / "named.csv", make_beats(), labelled=True, seed=0)
    plan = Plan(num_trials=2, scheduler="none", class_weight="balanced")
    channels, channels_of_named = (read_training(path).split(share=0.2, seed=0) for path in (first, named))

    trials = sweep(*channels_of_named, space(lr=LEARNING_RATES, epochs=2), plan, tmp_path / "sweep")

    for trial in trials:
        *_, last = fit(*channels, trial.hyperparameters, class_weight="balanced")
        assert trial.metrics == last.metrics
    best = Checkpoint.load(tmp_path / "sweep" / "best")
    assert best.classes.names == ("y_1", "y_2", "y_3", "y_4", "y_5")
