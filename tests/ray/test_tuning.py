from __future__ import annotations

import csv
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from jobs.tune import tune
from lstmfcn import tuning
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.errors import ResourceError, TrainingError
from lstmfcn.search_space import SearchSpace
from lstmfcn.tuning import Trial, sweep
from tests.samples import TINY, make_dataset, write_csv
from tests.test_jobs import status_of

run_trial = tuning._run_trial
pytestmark = pytest.mark.usefixtures("cluster")


def space(**ranges: Any) -> SearchSpace:
    return SearchSpace.from_mapping({**TINY.model_dump(), **ranges})


def read_leaderboard(output: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((output / "leaderboard.csv").read_text().splitlines()))


def test_a_sweep_ranks_its_trials_and_keeps_the_best_epoch_of_the_best(tmp_path: Path) -> None:
    ended: list[Trial] = []
    ranges = space(lr={"log_uniform": [0.0001, 0.05]}, hidden_size={"integer": [2, 4]}, epochs=6)

    ranked = sweep(
        make_dataset(40),
        make_dataset(21, seed=1),
        ranges,
        tmp_path,
        num_trials=4,
        seed=0,
        on_end=ended.append,
    )

    assert sorted(trial.number for trial in ranked) == sorted(trial.number for trial in ended) == [1, 2, 3, 4]
    assert ranked == sorted(ranked, key=lambda trial: trial.rank)
    assert all(trial.status in ("completed", "stopped early") for trial in ranked)
    best = Checkpoint.load(tmp_path / "best")
    assert best.hyperparameters == ranked[0].hyperparameters
    assert best.epoch == ranked[0].metrics["best_epoch"]
    assert best.metrics["valid_accuracy"] == max(trial.metrics["best_valid_accuracy"] for trial in ranked)
    rows = read_leaderboard(tmp_path)
    assert [int(row["trial"]) for row in rows] == [trial.number for trial in ranked]
    assert rows[0]["lr"] == str(ranked[0].hyperparameters.lr)
    assert {"seconds", "error", "epoch", "valid_loss", "best_epoch", "best_valid_loss"} <= rows[0].keys()


def test_the_same_seed_draws_the_same_trials_with_the_same_results(tmp_path: Path) -> None:
    def run(output: Path) -> list[tuple[Any, dict[str, float]]]:
        ranges = space(lr={"log_uniform": [0.001, 0.05]}, epochs=1)
        trials = sweep(make_dataset(20), make_dataset(10), ranges, output, num_trials=3, seed=7)
        return [(trial.hyperparameters, trial.metrics) for trial in trials]

    assert run(tmp_path / "first") == run(tmp_path / "second")


def fail_if_slow(config: dict[str, Any], **parameters: Any) -> None:
    """A trial that fails for one of the learning rates."""
    if config["lr"] == 0.001:
        raise TrainingError("train_loss became nan in epoch 1; try an lr below 0.001")
    run_trial(config, **parameters)


def test_a_failed_trial_is_listed_and_does_not_fail_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "_run_trial", fail_if_slow)
    ranges = space(lr={"categorical": [0.001, 0.01]}, epochs=2)

    ranked = sweep(make_dataset(20), make_dataset(10), ranges, tmp_path, num_trials=6, seed=1)

    statuses = {(trial.hyperparameters.lr, trial.status == "failed") for trial in ranked}
    assert statuses == {(0.001, True), (0.01, False)}
    assert ranked[-1].error == "train_loss became nan in epoch 1; try an lr below 0.001"
    assert read_leaderboard(tmp_path)[-1]["error"] == ranked[-1].error
    assert Checkpoint.load(tmp_path / "best").hyperparameters.lr == 0.01


def test_a_sweep_in_which_all_trials_fail_is_an_error_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "_run_trial", fail_if_slow)

    with pytest.raises(TrainingError) as failed:
        sweep(make_dataset(20), make_dataset(10), space(lr=0.001), tmp_path, num_trials=2)

    assert str(failed.value) == (
        "none of 2 trials succeeded; the first failed with: "
        "train_loss became nan in epoch 1; try an lr below 0.001"
    )
    assert [row["status"] for row in read_leaderboard(tmp_path)] == ["failed", "failed"]
    assert not (tmp_path / "best").exists()


def test_a_trial_that_fits_no_node_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(
        ResourceError, match=r"^a trial asks for 1 CPUs and 8 GPUs; the nodes have 2 CPUs and 2 GPUs$"
    ):
        sweep(make_dataset(20), make_dataset(10), space(), tmp_path, num_trials=1, gpus_per_trial=8)

    assert list(tmp_path.iterdir()) == []


def test_the_job_holds_out_a_share_when_there_is_no_validation_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = write_csv(tmp_path / "train.csv", make_dataset(20), labelled=True)
    search_space = tmp_path / "space.yaml"
    search_space.write_text("epochs: 2\nfilters_1: 4\nfilters_2: 4\nfilters_3: 4\n")
    flags = ("--training", training, "--output", tmp_path / "sweep", "--search-space", search_space)

    assert status_of(tune, *flags, "--num-trials", 2) == 0

    log = capsys.readouterr().out
    assert log.count("trial ") == 2
    assert f"checkpoint in {tmp_path}/sweep/best" in log
    assert "valid_accuracy" in Checkpoint.load(tmp_path / "sweep" / "best").metrics
    assert status_of(tune, *flags) == 2


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_keeps_what_it_has(
    sent: signal.Signals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = write_csv(tmp_path / "train.csv", make_dataset(20), labelled=True)
    search_space = tmp_path / "space.yaml"
    search_space.write_text("epochs: 100000\nfilters_1: 4\nfilters_2: 4\nfilters_3: 4\n")
    flags = ("--training", training, "--output", tmp_path / "sweep", "--search-space", search_space)

    def interrupt_when_a_trial_has_a_checkpoint() -> None:
        while not list((tmp_path / "sweep").glob("trials/*/checkpoint.json")):
            time.sleep(0.1)
        time.sleep(2)
        os.kill(os.getpid(), sent)

    threading.Thread(target=interrupt_when_a_trial_has_a_checkpoint).start()
    assert status_of(tune, *flags, "--num-trials", 3) == 130

    assert "interrupted" in {row["status"] for row in read_leaderboard(tmp_path / "sweep")}
    assert Checkpoint.load(tmp_path / "sweep" / "best").epoch >= 1
    assert capsys.readouterr().err == "interrupted\n"
