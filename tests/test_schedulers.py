from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from lstmfcn import schedulers
from lstmfcn.errors import HyperparameterError
from lstmfcn.plan import Plan
from lstmfcn.search_space import SearchSpace

SPACE = SearchSpace.from_mapping({"lr": {"uniform": [0.1, 0.2]}, "epochs": 20, "hidden_size": 4})


def test_trials_are_judged_by_the_epochs_that_all_of_them_report() -> None:
    judge = schedulers.make(Plan(scheduler="asha"), SPACE)
    controller: Any = None
    trials: list[Any] = [SimpleNamespace(trial_id=str(number)) for number in range(3)]
    for trial in trials:
        judge.on_trial_add(controller, trial)

    def decide(number: int, epoch: int, accuracy: float) -> str:
        return judge.on_trial_result(controller, trials[number], {"epoch": epoch, "valid_accuracy": accuracy})

    assert [decide(number, 2, 0.9 - number / 10) for number in (0, 1)] == ["CONTINUE", "STOP"]
    assert decide(2, 1, 0.1) == TrialScheduler.CONTINUE
    assert decide(2, 2, 0.1) == TrialScheduler.STOP


def test_by_the_median_rule_trials_go_on_until_three_others_have_come_as_far() -> None:
    judge = schedulers.make(Plan(scheduler="median"), SPACE)
    trials = [Trial("waits to run", stub=True) for _ in range(4)]
    controller: Any = SimpleNamespace(get_live_trials=lambda: trials)

    decisions = [
        judge.on_trial_result(controller, trial, {"epoch": 2, "valid_accuracy": accuracy})
        for trial, accuracy in zip(trials, (0.9, 0.1, 0.8, 0.5), strict=True)
    ]

    assert decisions == ["CONTINUE", "CONTINUE", "CONTINUE", "STOP"]


def test_a_population_takes_points_of_its_network_only() -> None:
    points = [
        SPACE.largest().model_copy(update={"lr": 0.5}),
        SPACE.largest().model_copy(update={"epochs": 30}),
    ]

    schedulers.refuse_unsuitable("pbt", SPACE, points[:1])
    with pytest.raises(HyperparameterError) as refused:
        schedulers.refuse_unsuitable("pbt", SPACE, points)

    assert str(refused.value) == (
        "scheduler pbt trains copies of one network: point 2 has epochs 30, the search space 20"
    )


def test_points_may_have_more_epochs_than_the_search_space() -> None:
    point = SPACE.largest().model_copy(update={"epochs": 200})
    judge = schedulers.make(Plan(scheduler="asha"), SPACE, [point])
    controller: Any = None
    trial: Any = SimpleNamespace(trial_id="1")
    judge.on_trial_add(controller, trial)

    decisions = [
        judge.on_trial_result(controller, trial, {"epoch": epoch, "valid_accuracy": 0.5})
        for epoch in (20, 180, 200)
    ]

    assert schedulers.judged_every(judge) == 20
    assert decisions == ["CONTINUE", "CONTINUE", "STOP"]
