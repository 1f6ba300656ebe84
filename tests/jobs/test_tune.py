"""Sweeps as a user runs them, but for those parts that need Ray."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.tune import to_try_first, tune, what_to_try
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.plan import Plan
from lstmfcn.record import Record
from lstmfcn.search_space import SearchSpace
from lstmfcn.trials import Trial, write_leaderboard
from tests.commands import refused, status_of
from tests.samples import LENGTH, TINY


def test_tune_refuses_new_classes_and_another_network_than_the_checkpoints(
    train_csv: Path, checkpoint_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--training", train_csv, "--checkpoint", checkpoint_folder)
    (tmp_path / "space.yaml").write_text("hidden_size: {categorical: [8, 64]}\n")
    output = tmp_path / "output"

    told = refused(capsys, output, tune, *flags, "--search-space", tmp_path / "space.yaml")
    assert "hyperparameter hidden_size is 3 in the checkpoint" in told
    train_csv.write_text(train_csv.read_text() + "flat," + ",".join(["1"] * LENGTH) + "\n")
    assert "--new-classes adds it" in refused(capsys, output, tune, *flags)


def test_the_default_search_trains_by_the_fast_recipe_unless_another_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("lr: {uniform: [0.1, 0.2]}\n")

    assert what_to_try(None, Plan(), None)[1].recipe == "fast"
    assert what_to_try(None, Plan(recipe="paper"), None)[1].recipe == "paper"
    assert what_to_try(tmp_path / "space.yaml", Plan(), None)[1].recipe == "reference"


def test_the_default_search_begins_with_the_default_network_unless_points_are_given(tmp_path: Path) -> None:
    (tmp_path / "points.yaml").write_text("[{lr: 0.01}]")
    space = SearchSpace({})

    assert to_try_first(None, space, of_default=True) == [Hyperparameters()]
    assert to_try_first(None, space, of_default=False) == []
    assert to_try_first(tmp_path / "points.yaml", space, of_default=True) == [Hyperparameters(lr=0.01)]


def test_the_default_search_from_a_checkpoint_varies_what_can_be_chosen(
    checkpoint_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(tune, "--checkpoint", checkpoint_folder, "--print-search-space") == 0

    space = SearchSpace.from_mapping(yaml.safe_load(capsys.readouterr().out))
    assert list(space.varied) == ["lr"]
    assert space.constants == TINY.model_dump(exclude={"lr", "batch_size", "epochs"})


def test_tune_refuses_another_treatment_than_the_checkpoints(
    train_csv: Path, checkpoint_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--training", train_csv, "--output", tmp_path / "sweep", "--checkpoint", checkpoint_folder)

    assert status_of(tune, *flags, "--length", "pad") == 2

    assert capsys.readouterr().err.startswith("length is equal in the checkpoint that training starts from")


def test_what_is_to_be_replaced_is_not_scored_on_the_new_data(
    train_csv: Path, checkpoint_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jobs.tune.connection", nullcontext)
    monkeypatch.setattr("jobs.tune.sweep", interrupted)
    Record(plan=Plan(), search_space={}, data="of others", description="", versions={}).write(tmp_path)
    Checkpoint.load(checkpoint_folder).save(tmp_path / "best")

    assert status_of(tune, "--training", train_csv, "--output", tmp_path, "--overwrite") == 130

    assert not (tmp_path / "evaluation").exists()


def test_points_and_trials_of_an_earlier_sweep_reach_the_sweep(
    train_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def interrupted(*_: Any, **how: Any) -> None:
        given.update(how)
        raise KeyboardInterrupt

    monkeypatch.setattr("jobs.tune.connection", nullcontext)
    monkeypatch.setattr("jobs.tune.sweep", interrupted)
    (tmp_path / "points.yaml").write_text("[{lr: 0.5}]")
    metrics = {"valid_loss": 0.5, "valid_accuracy": 0.75}
    for number in (1, 2):
        done = Trial(
            number=1,
            hyperparameters=TINY.model_copy(update={"hidden_size": number}),
            status="completed",
            best_epoch=1,
            best_metrics=metrics,
        )
        write_leaderboard(tmp_path / str(number), [done])
    flags = ("--training", train_csv, "--output", tmp_path / "sweep", "--search", "bayesian")
    others = ("--warm-start", tmp_path / "1", "--warm-start", tmp_path / "2")

    assert status_of(tune, *flags, "--points", tmp_path / "points.yaml", *others) == 130

    assert given["points"] == [Hyperparameters(lr=0.5)]
    assert given["known"] == [(TINY.model_copy(update={"hidden_size": number}), metrics) for number in (1, 2)]
