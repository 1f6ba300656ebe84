"""The best of a sweep once more, on all of the data."""

from __future__ import annotations

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
from lstmfcn import storage
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.ensemble import Ensemble, load_checkpoint, networks
from lstmfcn.errors import TrainingError
from lstmfcn.plan import Plan
from lstmfcn.recipe import RecipeName
from lstmfcn.refit import refit
from lstmfcn.search_space import SearchSpace
from lstmfcn.start import Start
from lstmfcn.sweep import sweep
from lstmfcn.training import Trainer, TrainingData, TrainingSettings
from lstmfcn.trials import TrialFolders
from tests.commands import status_of
from tests.ray.sweeps import LEARNING_RATES, TRAIN, VALID, Told, space
from tests.samples import TINY, make_dataset, write_csv

pytestmark = pytest.mark.usefixtures("cluster")

TINY_AND_SLOW, TINY_AND_FAST = (TINY.model_copy(update={"lr": lr, "epochs": 8}) for lr in (0.0001, 0.03))


def weights_of(checkpoint: Checkpoint | Ensemble) -> list[bytes]:
    return [
        tensor.numpy().tobytes()
        for network in networks(checkpoint)
        for _, tensor in sorted(network.weights.items())
    ]


@pytest.mark.parametrize("recipe", ["reference", "fast"])
def test_the_best_is_trained_on_all_of_the_data(recipe: RecipeName, tmp_path: Path) -> None:
    train, valid = make_dataset(90), make_dataset(20, seed=1)  # by fast, 110 would be trained by Muon
    plan = Plan(num_trials=2, scheduler="none", recipe=recipe)
    best, _ = sweep(train, valid, space(lr=LEARNING_RATES, epochs=6), plan, tmp_path)
    TrialFolders(tmp_path).write(best.model_copy(update={"best_epoch": 4}))

    refit(tmp_path, train, valid)

    epochs = 6 if recipe == "fast" else 4
    hyperparameters = best.hyperparameters.model_copy(update={"epochs": epochs})
    data = TrainingData.scaled(train.with_cases_of(valid), None, "series")
    trainer = Trainer(replace(data, num_for_recipe=90), hyperparameters, TrainingSettings(recipe))
    *_, alone = [kept for _ in range(epochs) if (kept := trainer.step().checkpoint)]
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
    refit(tmp_path, TRAIN, VALID, view=told)
    assert told.ended == [1]
    assert Checkpoint.load(tmp_path / "refit").hyperparameters.lr == TINY_AND_SLOW.lr

    sweep(TRAIN, VALID, ranges, Plan(num_trials=2), tmp_path, points=points, resume=True)
    refit(tmp_path, TRAIN, VALID, view=told)
    assert told.ended == [1, 2]
    assert Checkpoint.load(tmp_path / "refit").hyperparameters.lr == TINY_AND_FAST.lr
    assert storage.names(tmp_path / "refit" / "trials") == ["2"]

    plan = Plan(num_trials=2, ensemble=2)
    sweep(TRAIN, VALID, ranges, plan, tmp_path, points=points, resume=True)
    refit(tmp_path, TRAIN, VALID, view=told)
    assert told.ended == [1, 2, 1]
    again = load_checkpoint(tmp_path / "refit")
    assert isinstance(again, Ensemble)
    assert [member.hyperparameters.lr for member in again.members] == [TINY_AND_FAST.lr, TINY_AND_SLOW.lr]


def test_a_sweeps_target_does_not_end_a_refit(tmp_path: Path) -> None:
    plan = Plan(num_trials=1, target=0.5, recipe="fast")
    sweep(TRAIN, VALID, space(epochs=20), plan, tmp_path)

    refit(tmp_path, TRAIN, VALID)

    (again,) = TrialFolders(tmp_path / "refit").read()
    assert (again.status, again.epoch) == ("completed", 20)


def test_an_interrupted_refit_goes_on(tmp_path: Path) -> None:
    (trial,) = sweep(TRAIN, VALID, space(epochs=2), Plan(num_trials=1, recipe="fast"), tmp_path)
    longer = trial.hyperparameters.model_copy(update={"epochs": 1200})
    TrialFolders(tmp_path).write(trial.model_copy(update={"hyperparameters": longer}))

    def interrupt_when_there_is_a_network() -> None:
        while not (tmp_path / "refit" / "trials" / "1" / "checkpoint.json").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt_when_there_is_a_network, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        refit(tmp_path, TRAIN, VALID)
    (interrupted,) = TrialFolders(tmp_path / "refit").read()
    assert interrupted.status == "interrupted"
    assert 0 < interrupted.epoch < 1200
    metrics = tmp_path / "refit" / "trials" / "1" / "metrics.csv"
    before = metrics.read_text()

    refit(tmp_path, TRAIN, VALID)

    (ended,) = TrialFolders(tmp_path / "refit").read()
    assert (ended.status, ended.epoch) == ("completed", 1200)
    assert Checkpoint.load(tmp_path / "refit").epoch == 1200
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
    ranges = SearchSpace.from_mapping({"lr": {"categorical": [0.002, 0.001]}, "epochs": 2})
    best, _ = sweep(TRAIN, VALID, ranges, Plan(num_trials=2, search="grid"), tmp_path, start=start)

    with pytest.raises(TrainingError) as failed:
        refit(tmp_path, TRAIN, VALID, start=diverging)

    lr = best.hyperparameters.lr
    assert str(failed.value) == (
        f"trial {best.number} can't be trained again:"
        f" train_loss became nan in epoch 1; try an lr below {lr:g}"
    )
    refit(tmp_path, TRAIN, VALID, start=start)
    assert Checkpoint.load(tmp_path / "refit").hyperparameters.lr == lr


def test_the_job_trains_the_best_again_if_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(tmp_path / "train.csv", make_dataset(20), labelled=True)
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(TINY.model_dump()))
    data, output = tmp_path / "train.csv", tmp_path / "sweep"
    flags = ("--training", data, "--output", output, "--search-space", tmp_path / "space.yaml")
    assert status_of(tune, *flags, "--num-trials", 1) == 0
    before = contents(output / "best"), contents(output / "evaluation")
    capsys.readouterr()

    assert status_of(tune, *flags, "--num-trials", 1, "--resume", "--refit") == 0

    log = capsys.readouterr().out
    assert "refit: what best/ holds is trained again, on 20 series\n" in log
    assert log.endswith(f"refit: {output}/refit\n")
    assert (contents(output / "best"), contents(output / "evaluation")) == before
    assert load_checkpoint(output / "refit").digest() != load_checkpoint(output / "best").digest()

    assert status_of(tune, *flags, "--num-trials", 1, "--resume") == 0
    assert not (output / "refit" / "checkpoint.json").exists()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


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
