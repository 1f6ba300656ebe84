"""Trials that are judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from lstmfcn.checkpoint import Checkpoint
from lstmfcn.errors import HyperparameterError
from lstmfcn.plan import Plan, SchedulerName
from lstmfcn.sweep import sweep
from lstmfcn.trials import TrialFolders
from tests.ray.sweeps import LEARNING_RATES, TRAIN, VALID, space
from tests.samples import TINY

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.mark.parametrize(
    "scheduler",
    [
        "asha",
        "none",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("median", "hyperband", "pbt")),
    ],
)
def test_every_scheduler_ends_every_trial(scheduler: SchedulerName, tmp_path: Path) -> None:
    plan = Plan(num_trials=6, scheduler=scheduler)

    trials = sweep(TRAIN, VALID, space(lr=LEARNING_RATES, epochs=20), plan, tmp_path)

    assert len(trials) == 6
    statuses = {trial.status for trial in trials}
    assert statuses == {"completed", *(["stopped early"] if scheduler not in ("none", "pbt") else [])}
    assert all(trial.epoch == 20 for trial in trials if trial.status == "completed")
    assert all(trial.epoch % 2 == 0 for trial in trials)  # judged ten times


def test_in_a_population_the_worst_goes_on_as_a_copy_of_the_best(tmp_path: Path) -> None:
    rates, short = {"categorical": [1e-9, 0.01]}, {"epochs": 5, "batch_size": 2}
    points = [TINY.model_copy(update={"lr": lr, **short}) for lr in (0.01, 0.01, 0.01, 1e-9)]
    plan = Plan(num_trials=4, scheduler="pbt", metric="valid_loss")

    trials = sweep(TRAIN, VALID, space(lr=rates, **short), plan, tmp_path, points=points)

    assert {trial.status for trial in trials} == {"completed"}
    assert all(trial.best_metrics["valid_loss"] < 0.5 for trial in trials)  # at chance it is 0.69
    for trial in trials:
        kept = Checkpoint.load(TrialFolders(tmp_path).folder(trial.number))
        assert kept.epoch == trial.best_epoch
        assert kept.metrics["valid_loss"] == trial.best_metrics["valid_loss"]


def test_an_unsuitable_search_space_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(HyperparameterError, match=r"^scheduler pbt needs a search space that varies"):
        sweep(TRAIN, VALID, space(), Plan(scheduler="pbt"), tmp_path)

    assert list(tmp_path.iterdir()) == []
