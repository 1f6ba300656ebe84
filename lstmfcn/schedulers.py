"""Tune's schedulers, which stop trials that fall behind, or let them go on as copies of better ones; here
they judge by epoch.
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
from ray.tune.schedulers.async_hyperband import _Bracket as RaysRungs
from ray.tune.schedulers.hyperband import _Bracket as RaysBracket
from ray.tune.schedulers.pbt import _PBTTrialState

from lstmfcn.errors import HyperparameterError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.metrics import Objective
from lstmfcn.plan import Plan
from lstmfcn.search_space import Choice, Range, SearchSpace

_MOST_MUTATIONS = 20
"""Most attempts to draw values for a copy that differ from those of the trial that it is of."""
_JUDGEMENTS = 10
"""How many times the trial with the most epochs is judged. Where epochs are short, more judgements would take
longer than the training."""
_JUDGEMENT = "judgement"
"""Key in a result for the number of judgements that its trial has come to."""
_REDUCTION = 3
_CHANGEABLE_WHILE_TRAINING = ("lr", "dropout", "batch_size")
"""Hyperparameters that can change while a network trains."""


def refuse_unsuitable(plan: Plan, space: SearchSpace, points: Sequence[Hyperparameters] = ()) -> None:
    """Raise HyperparameterError if the plan's scheduler can't judge trials of this space and these points."""
    if plan.scheduler in ("pbt", "hyperband") and plan.max_concurrent_trials is not None:
        raise HyperparameterError(
            f"scheduler {plan.scheduler} compares trials that it pauses, of which --max-concurrent-trials"
            " would let it have too few; leave that out"
        )
    if plan.scheduler != "pbt":
        return
    if plan.search == "bayesian":
        raise HyperparameterError(
            "scheduler pbt changes the hyperparameters that --search bayesian proposes and learns from; leave"
            " one of them out"
        )
    fixed = [name for name in space.varied if name not in _CHANGEABLE_WHILE_TRAINING]
    if fixed:
        raise HyperparameterError(
            f"scheduler pbt changes {', '.join(_CHANGEABLE_WHILE_TRAINING)} while networks train; the search"
            f" space also varies {', '.join(fixed)}"
        )
    if not space.varied:
        raise HyperparameterError(
            f"scheduler pbt needs a search space that varies one of {', '.join(_CHANGEABLE_WHILE_TRAINING)}"
        )
    network = space.largest().model_dump(exclude=set(_CHANGEABLE_WHILE_TRAINING))
    for number, point in enumerate(points, 1):
        for fixed_name, value in network.items():
            if (own := getattr(point, fixed_name)) != value:
                raise HyperparameterError(
                    f"scheduler pbt trains copies of one network: point {number} has {fixed_name} {own:g},"
                    f" the search space {value:g}"
                )


def build(plan: Plan, space: SearchSpace, points: Sequence[Hyperparameters] = ()) -> TrialScheduler:
    """Return the plan's scheduler for trials of the space and these points."""
    if plan.scheduler == "none":
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    most_epochs = space.largest(points).epochs
    every = max(1, most_epochs // _JUDGEMENTS)
    metric, mode = plan.metric, plan.objective.mode
    by_metric: dict[str, Any] = {"time_attr": "epoch", "metric": metric, "mode": mode}
    scheduler: _Epochwise
    match plan.scheduler:
        case "asha":
            scheduler = _ASHA(**by_metric, max_t=most_epochs, grace_period=every, reduction_factor=_REDUCTION)
        case "median":
            # A trial with too few others to be compared with goes on: a pause would end its process.
            without_pauses = {**by_metric, "min_time_slice": math.inf}
            scheduler = _Median(**without_pauses, grace_period=every, min_samples_required=3)
        case "hyperband":
            # The last trials of a bracket train on.
            in_judgements = {**by_metric, "time_attr": _JUDGEMENT, "max_t": _JUDGEMENTS}
            in_judgements["objective"] = plan.objective
            scheduler = _HyperBand(**in_judgements, reduction_factor=_REDUCTION, stop_last_trials=False)
        case "pbt":
            # By the best epoch so far, so that no trial gives up a better one than it gets.
            by_best = {**by_metric, "metric": f"best_metrics/{metric}"}
            scheduler = _Population(space.varied, **by_best, perturbation_interval=every)
    scheduler.every = every
    return scheduler


def judged_every(scheduler: TrialScheduler) -> int | None:
    """Return the epochs from one judgement to the next, the same for all trials; None without judgements."""
    return scheduler.every if isinstance(scheduler, _Epochwise) else None


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

    def __init__(self, *, grace_period: int, max_t: int, reduction_factor: int, **how: Any) -> None:
        super().__init__(grace_period=grace_period, max_t=max_t, reduction_factor=reduction_factor, **how)
        self._brackets = [_Rungs(grace_period, max_t, reduction_factor, s=0)]

    def on_trial_result(
        self, tune_controller: TuneController, trial: TuneTrial, result: dict[str, Any]
    ) -> str:
        self._note_passed(trial, result)
        return super().on_trial_result(tune_controller, trial, result)

    def on_trial_complete(
        self, tune_controller: TuneController, trial: TuneTrial, result: dict[str, Any]
    ) -> None:
        self._note_passed(trial, result)
        super().on_trial_complete(tune_controller, trial, result)

    def _note_passed(self, trial: TuneTrial, result: dict[str, Any]) -> None:
        """Record NaN as the trial's score at each judgement that it passed in an earlier run. Its score there
        is unknown, and Ray would take what it reports now, at a later epoch, for it.
        """
        for epoch, scores in self._trial_info[trial.trial_id]._rungs:
            if epoch <= result.get("epoch", 0) - self.every:
                scores.setdefault(trial.trial_id, math.nan)


class _Rungs(RaysRungs):
    """Ray's rungs, in which a score may be NaN, which is unknown; NumPy would warn where all of them are."""

    def cutoff(self, recorded: Mapping[str, float]) -> Any:
        return super().cutoff({trial: score for trial, score in recorded.items() if not math.isnan(score)})


class _Median(_Epochwise, MedianStoppingRule):
    """The rule of Golovin et al., Google Vizier (KDD 2017)."""


class _HyperBand(_Epochwise, HyperBandScheduler):
    """Successive halving in brackets (Li et al., arXiv 1603.06560), in the paper's order: the bracket
    that halves most often comes first.
    """

    def __init__(self, *, objective: Objective, **how: Any) -> None:
        super().__init__(**how)
        self._objective = objective
        self._num_judgements: Counter[TuneTrial] = Counter()

    def on_trial_add(self, tune_controller: TuneController, trial: TuneTrial) -> None:
        """Take in a trial, also one that is tried again: its new bracket begins with its first judgement."""
        self._num_judgements.pop(trial, None)
        super().on_trial_add(tune_controller, trial)

    def on_trial_result(
        self, tune_controller: TuneController, trial: TuneTrial, result: dict[str, Any]
    ) -> str:
        """Judge a trial by the number of its judgements in this run, not by its epoch. Ray never unpauses one
        that is ahead of its bracket's next milestone, as one that resumes from an earlier run's state may be.
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
            objective=self._objective,
        )

    def _process_bracket(self, tune_controller: TuneController, bracket: RaysBracket) -> str:
        """Reset the flag that says the bracket is being processed. Ray never does, and would then ignore the
        end of a trial that others are waiting for.
        """
        action: str = super()._process_bracket(tune_controller, bracket)
        bracket.is_being_processed = False
        return action


class _Bracket(RaysBracket):
    """A bracket that is full once it has had all of its trials. Ray's counts only those that live, which may
    never be enough where few run at once.
    """

    def __init__(self, *, objective: Objective, **how: Any) -> None:
        super().__init__(**how)
        self._objective = objective

    def successive_halving(self, metric: str, metric_op: float) -> tuple[list[TuneTrial], list[TuneTrial]]:
        """Return the trials to go on and those to stop: of equal ones Ray keeps the last, so the better by
        the objective's second criterion has to come last.
        """
        worst_first = sorted(self._live_trials.items(), key=lambda item: self._objective.score(item[1]))
        self._live_trials = dict(worst_first)
        kept: tuple[list[TuneTrial], list[TuneTrial]] = super().successive_halving(metric, metric_op)
        return kept

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
        """Copy only a better trial: equal ones would copy one another instead of training."""
        own: Any = self._trial_state[trial].last_score
        others: Any = self._trial_state[trial_to_clone].last_score
        if own < others:
            super()._exploit(tune_controller, trial, trial_to_clone)

    def _get_new_config(
        self, trial: TuneTrial, trial_to_clone: TuneTrial
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the trial's configuration with the other's varied values, mutated within their domains."""
        known = {name: trial_to_clone.config[name] for name in self._domains}
        for _ in range(_MOST_MUTATIONS):
            mutated, operations = super()._get_new_config(trial, trial_to_clone)
            varied = {name: domain.nearest(mutated[name]) for name, domain in self._domains.items()}
            if varied != known:  # else the copy would repeat what the other one does
                break
        return {**trial.config, **varied}, operations


def _mutation(domain: Range | Choice) -> Any:
    """Return a domain in the form that Tune's mutations take."""
    match domain:
        case Choice(values):
            return sorted(values)
        case Range("integer", low, high):
            return tune.randint(int(low), int(high) + 1)
        case Range("log_uniform", low, high):
            return tune.loguniform(low, high)
        case Range(_, low, high):
            return tune.uniform(low, high)
