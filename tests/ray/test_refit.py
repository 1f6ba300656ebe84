"""The best of a sweep once more, on all of the data."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from jobs.tune import tune
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.ensemble import Ensemble, load_checkpoint
from lstmfcn.errors import TrainingError
from lstmfcn.plan import Plan
from lstmfcn.recipe import RecipeName
from lstmfcn.refit import refit
from lstmfcn.start import Start
from lstmfcn.sweep import sweep
from lstmfcn.training import fit
from lstmfcn.trials import Trials
from tests.commands import status_of
from tests.ray.sweeps import LEARNING_RATES, TRAIN, VALID, Told, space
from tests.samples import TINY, make_dataset, write_csv

pytestmark = pytest.mark.usefixtures("cluster")

TINY_AND_SLOW, TINY_AND_FAST = (TINY.model_copy(update={"lr": lr, "epochs": 8}) for lr in (0.0001, 0.03))


def weights_of(checkpoint: Checkpoint | Ensemble) -> list[bytes]:
    members = checkpoint.members if isinstance(checkpoint, Ensemble) else (checkpoint,)
    return [tensor.numpy().tobytes() for member in members for _, tensor in sorted(member.weights.items())]


@pytest.mark.parametrize("recipe", ["reference", "fast"])
def test_the_best_is_trained_on_all_of_the_data(recipe: RecipeName, tmp_path: Path) -> None:
    plan = Plan(num_trials=2, scheduler="none", recipe=recipe)
    best, _ = sweep(TRAIN, VALID, space(lr=LEARNING_RATES, epochs=6), plan, tmp_path)

    refit(tmp_path, TRAIN, VALID)

    epochs = 6 if recipe == "fast" else best.best_epoch
    hyperparameters = best.hyperparameters.model_copy(update={"epochs": epochs})
    alone = [
        epoch.checkpoint
        for epoch in fit(TRAIN.with_cases_of(VALID), hyperparameters=hyperparameters, recipe=recipe)
        if epoch.checkpoint is not None
    ][-1]
    again = load_checkpoint(tmp_path / "refit")
    assert isinstance(again, Checkpoint)
    assert again.hyperparameters == hyperparameters
    assert again.metrics.keys() == {"train_loss", "train_accuracy"}
    assert weights_of(again) == weights_of(alone)


def test_an_ensemble_is_trained_again_as_sure_of_itself_as_the_best_was(tmp_path: Path) -> None:
    plan = Plan(num_trials=3, scheduler="none", ensemble=2, calibrate=True)
    ranked = sweep(TRAIN, VALID, space(lr=LEARNING_RATES, epochs=3), plan, tmp_path)

    refit(tmp_path, TRAIN, VALID)

    best, again = load_checkpoint(tmp_path / "best"), load_checkpoint(tmp_path / "refit")
    assert isinstance(best, Ensemble)
    assert isinstance(again, Ensemble)
    assert [member.hyperparameters.lr for member in again.members] == [
        trial.hyperparameters.lr for trial in ranked[:2]
    ]
    assert [member.temperature for member in again.members] == [member.temperature for member in best.members]
    assert all(member.temperature != 1 for member in again.members)


def test_only_another_best_is_trained_anew(tmp_path: Path) -> None:
    ranges, points = space(lr=LEARNING_RATES, epochs=8), [TINY_AND_SLOW, TINY_AND_FAST]
    told = Told()
    sweep(TRAIN, VALID, ranges, Plan(num_trials=1), tmp_path, points=points)
    refit(tmp_path, TRAIN, VALID, view=told)
    assert told.ended == [1]

    refit(tmp_path, TRAIN, VALID, view=told)
    assert told.ended == [1]
    assert learning_rate(tmp_path) == TINY_AND_SLOW.lr

    sweep(TRAIN, VALID, ranges, Plan(num_trials=2), tmp_path, points=points, resume=True)
    refit(tmp_path, TRAIN, VALID, view=told)
    assert told.ended == [1, 1]
    assert learning_rate(tmp_path) == TINY_AND_FAST.lr


def learning_rate(output: Path) -> float:
    return Checkpoint.load(output / "refit").hyperparameters.lr


def test_an_interrupted_refit_goes_on(tmp_path: Path) -> None:
    ranges, plan = space(epochs=800), Plan(num_trials=1, scheduler="none", recipe="fast")
    sweep(TRAIN, VALID, ranges, plan, tmp_path)

    def interrupt_when_there_is_a_network() -> None:
        while not (tmp_path / "refit" / "trials" / "1" / "checkpoint.json").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt_when_there_is_a_network).start()
    with pytest.raises(KeyboardInterrupt):
        refit(tmp_path, TRAIN, VALID)
    (interrupted,) = Trials(tmp_path / "refit").read()
    assert interrupted.status == "interrupted"
    assert 0 < interrupted.epoch < 800
    metrics = tmp_path / "refit" / "trials" / "1" / "metrics.csv"
    before = metrics.read_text()

    refit(tmp_path, TRAIN, VALID)

    (ended,) = Trials(tmp_path / "refit").read()
    assert (ended.status, ended.epoch) == ("completed", 800)
    assert Checkpoint.load(tmp_path / "refit").epoch == 800
    assert metrics.read_text().startswith(before)


def test_what_fails_on_all_data_is_an_error_with_the_reason_and_tried_again(
    trained: Checkpoint, tmp_path: Path
) -> None:
    start = Start(trained)
    diverging = Start(
        replace(
            trained,
            weights={
                name: torch.full_like(tensor, math.nan) if tensor.is_floating_point() else tensor
                for name, tensor in trained.weights.items()
            },
        )
    )
    sweep(TRAIN, VALID, space(lr=0.001, epochs=2), Plan(num_trials=1), tmp_path, start=start)

    with pytest.raises(TrainingError) as failed:
        refit(tmp_path, TRAIN, VALID, start=diverging)

    assert str(failed.value) == (
        "trial 1 can't be trained again: train_loss became nan in epoch 1; try an lr below 0.001"
    )
    refit(tmp_path, TRAIN, VALID, start=start)
    assert Checkpoint.load(tmp_path / "refit").hyperparameters.lr == 0.001


def test_the_job_trains_the_best_again_if_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(tmp_path / "train.csv", make_dataset(20), labelled=True)
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(TINY.model_dump()))
    output = tmp_path / "sweep"
    flags = (
        "--training",
        tmp_path / "train.csv",
        "--search-space",
        tmp_path / "space.yaml",
        "--output",
        output,
    )

    assert status_of(tune, *flags, "--num-trials", 1, "--refit") == 0

    assert f"trained again, on 20 series: {output}/refit\n" in capsys.readouterr().out
    assert json.loads((output / "evaluation" / "evaluation.json").read_text())["num_cases"] == 4
    assert load_checkpoint(output / "refit").digest() != load_checkpoint(output / "best").digest()

    assert status_of(tune, *flags, "--num-trials", 1, "--resume") == 0
    assert not (output / "refit").exists()


def test_what_changes_its_hyperparameters_is_not_trained_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = write_csv(tmp_path / "train.csv", make_dataset(20), labelled=True)
    flags = ("--training", training, "--output", tmp_path / "sweep", "--scheduler", "pbt")

    assert status_of(tune, *flags, "--refit") == 2

    assert capsys.readouterr().err == (
        "--refit trains by one set of hyperparameters; --scheduler pbt has several\n"
    )
    assert not (tmp_path / "sweep").exists()
