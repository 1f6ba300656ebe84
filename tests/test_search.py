from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmfcn.errors import HyperparameterError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.search import BayesianSearch, GridSearch, RandomSearch
from lstmfcn.search_space import DEFAULT_RANGES, SearchSpace

SPACE = SearchSpace.from_mapping(
    {
        "lr": {"log_uniform": [0.0001, 0.01]},
        "dropout": {"uniform": [0.5, 0.9]},
        "hidden_size": {"integer": [3, 5]},
        "batch_size": {"categorical": [32, 64]},
        "epochs": 7,
    }
)


def assert_inside(hyperparameters: Hyperparameters) -> None:
    assert 0.0001 <= hyperparameters.lr <= 0.01
    assert 0.5 <= hyperparameters.dropout <= 0.9
    assert hyperparameters.hidden_size in (3, 4, 5)
    assert hyperparameters.batch_size in (32, 64)
    assert hyperparameters.epochs == 7
    assert hyperparameters.filters_1 == 128


@given(seed=st.integers(0, 2**32 - 1), number=st.integers(1, 10_000))
def test_a_random_trial_lies_in_the_space_and_depends_on_seed_and_number_alone(
    seed: int, number: int
) -> None:
    search = RandomSearch(SPACE, seed)

    drawn = search.propose(number)

    assert_inside(drawn)
    search.propose(number + 1)
    assert RandomSearch(SPACE, seed).propose(number) == search.propose(number) == drawn
    assert RandomSearch(SPACE, seed).propose(number + 1) != drawn


def test_random_trials_take_both_ends_of_integers_and_all_choices() -> None:
    drawn = [RandomSearch(SPACE, 0).propose(number) for number in range(1, 60)]

    assert {one.hidden_size for one in drawn} == {3, 4, 5}
    assert {one.batch_size for one in drawn} == {32, 64}


def test_log_uniform_is_uniform_in_the_logarithm() -> None:
    below = sum(RandomSearch(SPACE, 0).propose(number).lr < 0.001 for number in range(1, 1001))

    assert 450 < below < 550


def test_a_grid_is_every_combination_once() -> None:
    space = SearchSpace.from_mapping(
        {"hidden_size": {"integer": [3, 5]}, "lr": {"categorical": [0.001, 0.01]}, "epochs": 4}
    )

    search = GridSearch(space)
    drawn = [search.propose(number) for number in range(1, len(search) + 1)]

    assert [(one.hidden_size, one.lr) for one in drawn] == list(itertools.product((3, 4, 5), (0.001, 0.01)))
    assert {one.epochs for one in drawn} == {4}


def test_a_grid_over_a_range_without_end_is_refused() -> None:
    sentence = (
        "search space: a grid needs a categorical or integer dropout, got uniform; or use another search"
    )
    with pytest.raises(HyperparameterError, match=f"^{sentence}$"):
        GridSearch(SearchSpace.from_mapping(DEFAULT_RANGES))


def test_a_grid_that_nobody_could_count_is_refused() -> None:
    names = ("hidden_size", "filters_1", "filters_2", "filters_3", "batch_size", "epochs")
    space = SearchSpace.from_mapping({name: {"integer": [1, 2000]} for name in names})

    with pytest.raises(
        HyperparameterError, match=r"^search space: a grid of 6\.4e\+19 combinations; at most "
    ):
        GridSearch(space)


def distances(search: BayesianSearch, num_trials: int) -> list[float]:
    """From the best dropout, which a trial is the better the nearer it is to."""
    found = []
    for number in range(1, num_trials + 1):
        drawn = search.propose(number)
        assert_inside(drawn)
        found.append(abs(drawn.dropout - 0.6))
        search.learn(drawn, -found[-1])
    return found


def test_bayesian_search_draws_where_the_good_trials_lie() -> None:
    after_ten = distances(BayesianSearch(SPACE, seed=0), 40)[10:]

    assert np.mean(after_ten) < 0.06  # at random it would be 0.125


def test_bayesian_search_learns_from_the_trials_of_others() -> None:
    search = BayesianSearch(SPACE, seed=0)
    for number in range(1, 31):
        other = RandomSearch(SPACE, seed=1).propose(number)
        search.learn(other.model_copy(update={"epochs": 8}), -abs(other.dropout - 0.6))
    search.learn(Hyperparameters(hidden_size=1, batch_size=32), 1.0)  # outside: nothing to learn
    search.learn(RandomSearch(SPACE, seed=2).propose(1), None)  # failed

    assert np.mean(distances(search, 10)) < 0.06


def test_what_bayesian_search_proposed_twice_is_learnt_twice() -> None:
    search = BayesianSearch(SearchSpace.from_mapping({"hidden_size": {"categorical": [3, 4]}}), seed=0)
    drawn = [search.propose(number) for number in range(1, 9)]
    assert len(set(drawn)) == 2

    for one in drawn:
        search.learn(one, one.hidden_size)

    assert Counter(trial.state.name for trial in search._study.trials) == {"COMPLETE": 8}
