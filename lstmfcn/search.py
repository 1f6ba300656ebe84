"""Which hyperparameters to try next: at random, all of a grid, or where others did well."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np

from lstmfcn.errors import HyperparameterError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.search_space import Choice, Range, SearchSpace

SearchName: TypeAlias = Literal["random", "grid", "bayesian"]

_MOST_COMBINATIONS = 10**9


class Search(Protocol):
    """Proposes hyperparameters and learns what became of them."""

    def propose(self, number: int) -> Hyperparameters:
        """Return hyperparameters for the trial with this number, from 1."""

    def learn(self, hyperparameters: Hyperparameters, value: float | None) -> None:
        """Take in the result of a trial: greater is better; None for a trial that failed."""


class RandomSearch:
    """Draws each trial from the space by its number and the seed alone, whatever became of others."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._space, self._seed = space, seed

    def propose(self, number: int) -> Hyperparameters:
        """Return the sample of the space that belongs to this number."""
        return self._space.sample(np.random.default_rng([self._seed, number]))

    def learn(self, hyperparameters: Hyperparameters, value: float | None) -> None:
        """Do nothing: results have no influence."""


class GridSearch:
    """Proposes every combination of the space's values, the last hyperparameter changing fastest."""

    def __init__(self, space: SearchSpace) -> None:
        """Raises HyperparameterError if a range is continuous, or for too many combinations."""
        self._values = {name: _values(name, domain) for name, domain in space.domains.items()}
        self._shape = [len(values) for values in self._values.values()]
        if (combinations := math.prod(self._shape)) > _MOST_COMBINATIONS:
            raise HyperparameterError(
                f"search space: a grid of {combinations:.2g} combinations; at most"
                f" {_MOST_COMBINATIONS:,} can be counted, or use another search"
            )

    def __len__(self) -> int:
        return math.prod(self._shape)

    def propose(self, number: int) -> Hyperparameters:
        """Return the combination with this number, from 1 to the length."""
        places = np.unravel_index(number - 1, self._shape)
        chosen = zip(self._values.items(), places, strict=True)
        return Hyperparameters(**{name: values[place] for (name, values), place in chosen})

    def learn(self, hyperparameters: Hyperparameters, value: float | None) -> None:
        """Do nothing: results have no influence."""


def _values(name: str, domain: Range | Choice) -> tuple[float, ...]:
    match domain:
        case Choice(values):
            return values
        case Range("integer", low, high):
            return tuple(range(int(low), int(high) + 1))
    wanted = f"a grid needs a categorical or integer {name}"
    raise HyperparameterError(f"search space: {wanted}, got {domain.kind}; or use another search")


class BayesianSearch:
    """Tree-structured Parzen estimators (Bergstra et al., NeurIPS 2011), as Optuna has them: draws more often
    where the better trials lie. Until it knows of ten trials it draws at random.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        import optuna  # noqa: PLC0415 (takes half a second, which other searches need not wait for)

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = space
        self._create_trial = optuna.create_trial
        self._failed = optuna.trial.TrialState.FAIL
        self._distributions = {name: optuna_distribution(domain) for name, domain in space.varied.items()}
        # A running trial counts as a bad one (constant_liar), lest trials that run at once be alike.
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._asked: dict[Hyperparameters, list[Any]] = defaultdict(list)

    def propose(self, number: int) -> Hyperparameters:
        """Return a proposal; it repeats an earlier one only where there is little to choose from."""
        trial = self._study.ask(self._distributions)
        hyperparameters = Hyperparameters(**self._space.constants, **trial.params)
        self._asked[hyperparameters].append(trial)
        return hyperparameters

    def learn(self, hyperparameters: Hyperparameters, value: float | None) -> None:
        """Take in a result, also of what wasn't proposed here, if it lies in the space in all that varies."""
        if asked := self._asked.get(hyperparameters):
            self._study.tell(asked.pop(0), value, state=self._failed if value is None else None)
            return
        values = {name: getattr(hyperparameters, name) for name in self._distributions}
        is_inside = all(values[name] in domain for name, domain in self._space.varied.items())
        if value is not None and is_inside:
            self._study.add_trial(
                self._create_trial(params=values, distributions=self._distributions, value=value)
            )


def optuna_distribution(domain: Range | Choice) -> Any:
    """Return a domain as Optuna's distribution."""
    from optuna import distributions  # noqa: PLC0415 (as above)

    match domain:
        case Choice(values):
            return distributions.CategoricalDistribution(values)
        case Range("integer", low, high):
            return distributions.IntDistribution(int(low), int(high))
        case Range(kind, low, high):
            return distributions.FloatDistribution(low, high, log=kind == "log_uniform")
