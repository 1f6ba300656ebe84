from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from lstmfcn import schedulers
from lstmfcn.errors import HyperparameterError
from lstmfcn.plan import Plan, SchedulerName
from lstmfcn.search_space import SearchSpace

SPACE = SearchSpace.from_mapping({"lr": {"uniform": [0.1, 0.2]}, "epochs": 20, "hidden_size": 4})


def asha_of(num_trials: int) -> Callable[[int, int, float], str]:
    """Return what decides on a trial by its epoch and accuracy: ASHA, at the epochs 2, 6 and 18."""
    judge = schedulers.build(Plan(scheduler="asha"), SPACE)
    controller: Any = None
    trials: list[Any] = [SimpleNamespace(trial_id=str(number)) for number in range(num_trials)]
    for trial in trials:
        judge.on_trial_add(controller, trial)

    def decide(number: int, epoch: int, accuracy: float) -> str:
        return judge.on_trial_result(controller, trials[number], {"epoch": epoch, "valid_accuracy": accuracy})

    return decide


def test_trials_are_judged_by_the_epochs_that_all_of_them_report() -> None:
    decide = asha_of(3)

    assert [decide(number, 2, 0.9 - number / 10) for number in (0, 1)] == ["CONTINUE", "STOP"]
    assert decide(2, 1, 0.1) == TrialScheduler.CONTINUE
    assert decide(2, 2, 0.1) == TrialScheduler.STOP


def test_what_a_resumed_trial_has_is_not_taken_for_what_it_had_at_earlier_epochs() -> None:
    decide = asha_of(3)

    assert [decide(0, epoch, 0.9) for epoch in (12, 14, 16, 18)] == ["CONTINUE"] * 4
    assert [decide(1, epoch, 0.5) for epoch in (2, 4, 6)] == ["CONTINUE"] * 3
    assert decide(2, 2, 0.4) == TrialScheduler.STOP
    assert decide(1, 18, 0.8) == TrialScheduler.STOP


def test_nor_is_what_a_resumed_trial_ends_with() -> None:
    judge = schedulers.build(Plan(scheduler="asha"), SPACE)
    controller: Any = None
    resumed, new = (SimpleNamespace(trial_id=name) for name in ("resumed", "new"))
    for trial in (resumed, new):
        judge.on_trial_add(controller, cast(Any, trial))

    judge.on_trial_complete(controller, cast(Any, resumed), {"epoch": 20, "valid_accuracy": 0.9})
    decisions = [
        judge.on_trial_result(controller, cast(Any, new), {"epoch": epoch, "valid_accuracy": 0.5})
        for epoch in (2, 6, 18)
    ]

    assert decisions == ["CONTINUE"] * 3


def test_by_the_median_rule_trials_go_on_until_three_others_have_come_as_far() -> None:
    judge = schedulers.build(Plan(scheduler="median"), SPACE)
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

    plan = Plan(scheduler="pbt")
    schedulers.refuse_unsuitable(plan, SPACE, points[:1])
    with pytest.raises(HyperparameterError) as refused:
        schedulers.refuse_unsuitable(plan, SPACE, points)

    assert str(refused.value) == (
        "scheduler pbt trains copies of one network: point 2 has epochs 30, the search space 20"
    )


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        (
            {"hidden_size": {"integer": [2, 3]}, "lr": {"log_uniform": [0.001, 0.1]}},
            "scheduler pbt changes lr, dropout, batch_size while networks train; the search space also varies"
            " hidden_size",
        ),
        ({}, "scheduler pbt needs a search space that varies one of lr, dropout, batch_size"),
    ],
)
def test_a_population_needs_a_space_of_what_can_change(space: dict[str, Any], sentence: str) -> None:
    with pytest.raises(HyperparameterError) as refused:
        schedulers.refuse_unsuitable(Plan(scheduler="pbt"), SearchSpace.from_mapping(space))

    assert str(refused.value) == sentence


def test_a_population_is_not_drawn_by_a_search_that_would_learn_from_it() -> None:
    with pytest.raises(HyperparameterError) as refused:
        schedulers.refuse_unsuitable(Plan(scheduler="pbt", search="bayesian"), SPACE)

    assert str(refused.value) == (
        "scheduler pbt changes the hyperparameters that --search bayesian proposes and learns from; leave one"
        " of them out"
    )


def test_points_may_have_more_epochs_than_the_search_space() -> None:
    point = SPACE.largest().model_copy(update={"epochs": 200})
    judge = schedulers.build(Plan(scheduler="asha"), SPACE, [point])
    controller: Any = None
    trial: Any = SimpleNamespace(trial_id="1")
    judge.on_trial_add(controller, trial)

    decisions = [
        judge.on_trial_result(controller, trial, {"epoch": epoch, "valid_accuracy": 0.5})
        for epoch in (20, 180, 200)
    ]

    assert schedulers.judged_every(judge) == 20
    assert decisions == ["CONTINUE", "CONTINUE", "STOP"]


class Slots:
    """As Tune's controller runs trials: so many at once, and as many drawn ahead, in random turns."""

    def __init__(
        self,
        judge: TrialScheduler,
        num_slots: int,
        random: Random,
        accuracy: Callable[[float], float] = lambda quality: quality,
    ) -> None:
        """`accuracy` is what trials report of their quality, from 0 to 1, beside their loss."""
        self._judge, self._num_slots, self._random = judge, num_slots, random
        self.accuracy = accuracy
        self._trials: list[Trial] = []

    def with_status(self, status: str) -> list[Trial]:
        return [trial for trial in self._trials if trial.status == status]

    def stop_trial(self, trial: Trial) -> None:
        if trial.status == Trial.RUNNING:
            self._judge.on_trial_complete(cast(Any, self), trial, {})
        else:
            self._judge.on_trial_remove(cast(Any, self), trial)
        trial.status = Trial.TERMINATED

    def run(self, lengths: Sequence[int], every: int, before: Sequence[int] = ()) -> list[int]:
        """Epochs that each trial trained, of at most so many; a better one has the higher number. The first
        go on from so many that they did before.
        """
        epochs: dict[Trial, int] = {}
        left = [Trial("x", stub=True, trial_id=str(number)) for number in range(len(lengths))]
        epochs.update(zip(left, before, strict=False))
        while True:
            self._draw(left)
            while len(self.with_status(Trial.RUNNING)) < self._num_slots:
                chosen = self._judge.choose_trial_to_run(cast(Any, self))
                if chosen is None:
                    break
                chosen.status = Trial.RUNNING
            self._draw(left)
            if not (running := self.with_status(Trial.RUNNING)):
                return [epochs[trial] for trial in self._trials]
            self._report(self._random.choice(running), lengths, every, epochs)

    def _draw(self, left: list[Trial]) -> None:
        while left and len(self.with_status(Trial.PENDING)) < self._num_slots:
            self._trials.append(left.pop(0))
            self._judge.on_trial_add(cast(Any, self), self._trials[-1])

    def _report(self, trial: Trial, lengths: Sequence[int], every: int, epochs: dict[Trial, int]) -> None:
        number = int(trial.trial_id)
        epochs[trial] = min(lengths[number], epochs.get(trial, 0) + every)
        if epochs[trial] == lengths[number]:
            self.stop_trial(trial)
            return
        accuracy = self.accuracy(number / len(lengths))
        result = {"epoch": epochs[trial], "valid_accuracy": accuracy, "valid_loss": number / len(lengths)}
        decision = self._judge.on_trial_result(cast(Any, self), trial, result)
        if decision == TrialScheduler.STOP:
            self.stop_trial(trial)
        elif decision == TrialScheduler.PAUSE:
            trial.status = Trial.PAUSED


@pytest.mark.parametrize("num_slots", [1, 2, 4, 8])
@pytest.mark.parametrize("most_epochs", [7, 50, 538])
@pytest.mark.parametrize("share_of_short", [0, 0.1])
def test_hyperband_lets_every_sweep_end(num_slots: int, most_epochs: int, share_of_short: float) -> None:
    space = SearchSpace.from_mapping({"lr": {"uniform": [0.1, 0.2]}, "epochs": most_epochs})
    for seed in range(20 if share_of_short else 3):  # else only the turns are random
        random = Random(seed)
        judge = schedulers.build(Plan(scheduler="hyperband"), space)
        every = schedulers.judged_every(judge)
        assert every is not None
        is_short = [random.random() < share_of_short for _ in range(40)]  # as one that fails
        slots = Slots(judge, num_slots, random)

        slots.run([random.randint(1, most_epochs) if short else most_epochs for short in is_short], every)

        assert slots.with_status(Trial.PAUSED) == []


@pytest.mark.parametrize("num_slots", [1, 2, 4])
@pytest.mark.parametrize("before", [[40], [30, 30, 20], [95, 50, 20], [10] * 6 + [30] * 3])
def test_hyperband_lets_a_sweep_end_that_goes_on(num_slots: int, before: list[int]) -> None:
    space = SearchSpace.from_mapping({"lr": {"uniform": [0.1, 0.2]}, "epochs": 100})
    slots = Slots(schedulers.build(Plan(scheduler="hyperband"), space), num_slots, Random(0))

    slots.run([100] * len(before), 10, before)

    assert slots.with_status(Trial.PAUSED) == []


@pytest.mark.parametrize("num_slots", [1, 2, 8])
def test_hyperband_stops_the_lower_two_thirds_again_and_again(num_slots: int) -> None:
    space = SearchSpace.from_mapping({"lr": {"uniform": [0.1, 0.2]}, "epochs": 100})
    judge = schedulers.build(Plan(scheduler="hyperband"), space)

    epochs = Slots(judge, num_slots, Random(0)).run([100] * 9, every=10)

    assert epochs == [10] * 6 + [30] * 2 + [100]


def test_of_equal_accuracies_hyperband_stops_those_with_the_higher_loss() -> None:
    space = SearchSpace.from_mapping({"lr": {"uniform": [0.1, 0.2]}, "epochs": 100})
    judge = schedulers.build(Plan(scheduler="hyperband"), space)
    slots = Slots(judge, 2, Random(0), accuracy=lambda quality: 0.9)

    assert slots.run([100] * 9, every=10) == [100] + [30] * 2 + [10] * 6


def test_hyperband_lets_a_trial_end_that_is_tried_again_alone() -> None:
    space = SearchSpace.from_mapping({"lr": {"uniform": [0.1, 0.2]}, "epochs": 100})
    judge = schedulers.build(Plan(scheduler="hyperband"), space)
    slots = Slots(judge, 2, Random(0))
    slots.run([100] * 16, every=10)  # of 9, 5 and 3 that three brackets hold
    controller: Any = slots
    trial = Trial("x", stub=True, trial_id="16")
    trial.status = Trial.RUNNING
    judge.on_trial_add(controller, trial)
    for epoch in (10, 20):
        judge.on_trial_result(controller, trial, {"epoch": epoch, "valid_accuracy": 0.9, "valid_loss": 0.1})

    judge.on_trial_error(controller, trial)
    judge.on_trial_add(controller, trial)

    decisions = [
        judge.on_trial_result(controller, trial, {"epoch": epoch, "valid_accuracy": 0.9, "valid_loss": 0.1})
        for epoch in range(30, 100, 10)
    ]
    assert decisions == [TrialScheduler.CONTINUE] * 7


def test_a_copy_in_a_population_never_trains_as_the_trial_that_it_is_of() -> None:
    space = SearchSpace.from_mapping({"batch_size": {"categorical": [16, 32]}, "epochs": 100})
    judge: Any = schedulers.build(Plan(scheduler="pbt"), space)
    own, other = (
        SimpleNamespace(config={"number": number, "batch_size": 16}, trial_id=str(number))
        for number in (1, 2)
    )

    assert [judge._get_new_config(own, other)[0] for _ in range(20)] == [{"number": 1, "batch_size": 32}] * 20


@pytest.mark.parametrize("scheduler", ["pbt", "hyperband"])
def test_trials_that_are_paused_take_no_part_of_those_at_once(scheduler: SchedulerName) -> None:
    plan = Plan(scheduler=scheduler, max_concurrent_trials=2)

    with pytest.raises(HyperparameterError, match=f"^scheduler {scheduler} compares trials that it pauses"):
        schedulers.refuse_unsuitable(plan, SPACE)
