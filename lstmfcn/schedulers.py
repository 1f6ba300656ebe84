"""What stops trials that fall behind, or lets them go on as copies of better ones: Tune's schedulers, judging
by epoch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ray import tune
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)
from ray.tune.schedulers.hyperband import _Bracket as RaysBracket
from ray.tune.schedulers.pbt import _PBTTrialState

from lstmfcn.errors import HyperparameterError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.plan import Plan
from lstmfcn.search_space import Choice, Range, SearchSpace

_JUDGEMENTS = 10
"""Of a trial with the most epochs: more would cost short trials more time than they train."""
_JUDGEMENT = "judgement"
"""Of a result: which one it is of its trial."""
_REDUCTION = 3
_OF_A_POPULATION = ("lr", "dropout", "batch_size")
"""What can change while a network trains."""


def refuse_unsuitable(plan: Plan, space: SearchSpace, points: Sequence[Hyperparameters] = ()) -> None:
    """Raise HyperparameterError when the plan's scheduler can't judge the trials of a search space, and
    these.
    """
    if plan.scheduler in ("pbt", "hyperband") and plan.max_concurrent_trials is not None:
        raise HyperparameterError(
            f"scheduler {plan.scheduler} compares trials that it pauses, of which --max-concurrent-trials"
            " would let it have too few; leave that out"
        )
    if plan.scheduler != "pbt":
        return
    fixed = [name for name in space.varied if name not in _OF_A_POPULATION]
    if fixed:
        raise HyperparameterError(
            f"scheduler pbt changes {', '.join(_OF_A_POPULATION)} while networks train; the search space also"
            f" varies {', '.join(fixed)}"
        )
    if not space.varied:
        raise HyperparameterError(
            f"scheduler pbt needs a search space that varies one of {', '.join(_OF_A_POPULATION)}"
        )
    network = space.largest().model_dump(exclude=set(_OF_A_POPULATION))
    for number, point in enumerate(points, 1):
        for fixed_name, value in network.items():
            if (own := getattr(point, fixed_name)) != value:
                raise HyperparameterError(
                    f"scheduler pbt trains copies of one network: point {number} has {fixed_name} {own:g},"
                    f" the search space {value:g}"
                )


def make(plan: Plan, space: SearchSpace, points: Sequence[Hyperparameters] = ()) -> TrialScheduler:
    """The plan's scheduler, for trials of the space and these points."""
    if plan.scheduler == "none":
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    most_epochs = space.largest(points).epochs
    every = max(1, most_epochs // _JUDGEMENTS)
    scheduler = _judge(plan, space, most_epochs, every)
    scheduler.every = every
    return scheduler


def judged_every(scheduler: TrialScheduler) -> int | None:
    """Epochs from one judgement to the next, the same for all trials; None if nobody judges."""
    return scheduler.every if isinstance(scheduler, _Epochwise) else None


def _judge(plan: Plan, space: SearchSpace, most_epochs: int, first: int) -> _Epochwise:
    metric, mode = plan.metric, plan.objective.mode
    by_metric: dict[str, Any] = {"time_attr": "epoch", "metric": metric, "mode": mode}
    match plan.scheduler:
        case "asha":
            return _ASHA(**by_metric, max_t=most_epochs, grace_period=first, reduction_factor=_REDUCTION)
        case "median":
            # A trial with too few others to be compared with goes on: a pause would end its process.
            without_pauses = {**by_metric, "min_time_slice": math.inf}
            return _Median(**without_pauses, grace_period=first, min_samples_required=3)
        case "hyperband":
            # The last in a bracket train on.
            in_judgements = {**by_metric, "time_attr": _JUDGEMENT, "max_t": _JUDGEMENTS}
            return _HyperBand(**in_judgements, reduction_factor=_REDUCTION, stop_last_trials=False)
        case "pbt":
            # By the best epoch so far, lest a trial give up a better one than it gets.
            by_best = {**by_metric, "metric": f"best_metrics/{metric}"}
            return _Population(space.varied, **by_best, perturbation_interval=first)
    raise AssertionError(plan.scheduler)


class _Epochwise(TrialScheduler):
    """Judges by the reports that all trials make after the same epochs, not by those in between."""

    every = 1

    def on_trial_result(
        self, tune_controller: TuneController, trial: TuneTrial, result: dict[str, Any]
    ) -> str:
        if result["epoch"] % self.every:
            return TrialScheduler.CONTINUE
        return super().on_trial_result(tune_controller, trial, result)


class _ASHA(_Epochwise, ASHAScheduler):
    """Asynchronous successive halving (Li et al., arXiv 1810.05934)."""


class _Median(_Epochwise, MedianStoppingRule):
    """The rule of Golovin et al., Google Vizier (KDD 2017)."""


class _HyperBand(_Epochwise, HyperBandScheduler):
    """Successive halving in brackets (Li et al., arXiv 1603.06560), in the paper's order: the one that halves
    most often comes first.
    """

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        self._num_judgements: Counter[TuneTrial] = Counter()

    def on_trial_result(
        self, tune_controller: TuneController, trial: TuneTrial, result: dict[str, Any]
    ) -> str:
        """One judgement after the other: all of a bracket would wait for ever at one that a trial, which goes
        on from an earlier sweep's state, has passed.
        """
        number, epochs_since = divmod(result["epoch"], self.every)
        if not epochs_since:
            self._num_judgements[trial] = min(number, self._num_judgements[trial] + 1)
        judged = {**result, _JUDGEMENT: self._num_judgements[trial]}
        return super().on_trial_result(tune_controller, trial, judged)

    def _create_bracket(self, s: int) -> _Bracket:
        num_halvings = self._s_max_1 - 1 - s
        return _Bracket(
            time_attr=self._time_attr,
            max_trials=self._get_n0(num_halvings),  # type: ignore[no-untyped-call]
            init_t_attr=self._get_r0(num_halvings),  # type: ignore[no-untyped-call]
            max_t_attr=self._max_t_attr,
            eta=self._eta,
            s=num_halvings,
            stop_last_trials=self._stop_last_trials,
        )

    def _process_bracket(self, tune_controller: TuneController, bracket: RaysBracket) -> str:
        """Ray's own never takes its mark off: the end of a trial that others wait for would wake nobody."""
        action: str = super()._process_bracket(tune_controller, bracket)
        bracket.is_being_processed = False
        return action


class _Bracket(RaysBracket):
    """Full when it has had all of its trials. Ray's counts those that live, which are too few for ever where
    few run at once.
    """

    def filled(self) -> bool:
        return len(self._all_trials) >= self._n0


class _Population(_Epochwise, PopulationBasedTraining):
    """Population-based training (Jaderberg et al., arXiv 1711.09846) of trials that a searcher draws, which
    Tune's own refuses.
    """

    def __init__(self, domains: Mapping[str, Range | Choice], **how: Any) -> None:
        mutations = {name: _mutation(domain) for name, domain in domains.items()}
        super().__init__(**how, hyperparam_mutations=mutations, require_attrs=False, log_config=False)
        self._domains = domains

    def on_trial_add(self, tune_controller: TuneController, trial: TuneTrial) -> None:
        self._trial_state[trial] = _PBTTrialState(trial)

    def _exploit(self, tune_controller: TuneController, trial: TuneTrial, trial_to_clone: TuneTrial) -> None:
        """Only of a better one: between equals trials would copy one another instead of training."""
        own: Any = self._trial_state[trial].last_score
        others: Any = self._trial_state[trial_to_clone].last_score
        if own < others:
            super()._exploit(tune_controller, trial, trial_to_clone)

    def _get_new_config(
        self, trial: TuneTrial, trial_to_clone: TuneTrial
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The trial's own, but for what is varied: that of the other, somewhat changed, within its bounds."""
        mutated, operations = super()._get_new_config(trial, trial_to_clone)
        varied = {name: domain.nearest(mutated[name]) for name, domain in self._domains.items()}
        return {**trial.config, **varied}, operations


def _mutation(domain: Range | Choice) -> Any:
    """A domain as Tune's mutation takes it."""
    match domain:
        case Choice(values):
            return sorted(values)
        case Range("integer", low, high):
            return tune.randint(int(low), int(high) + 1)
        case Range("log_uniform", low, high):
            return tune.loguniform(low, high)
        case Range(_, low, high):
            return tune.uniform(low, high)
