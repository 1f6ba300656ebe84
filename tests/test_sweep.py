from __future__ import annotations

import pytest

from lstmfcn import sweep
from lstmfcn.plan import Plan
from lstmfcn.search import RandomSearch
from lstmfcn.search_space import SearchSpace

SPACE = SearchSpace.from_mapping({"lr": {"uniform": [0.1, 0.2]}})


@pytest.mark.parametrize(
    ("asked", "num_points", "expected"), [(None, 0, 8), (None, 3, 8), (None, 12, 12), (20, 12, 20)]
)
def test_all_points_are_tried(asked: int | None, num_points: int, expected: int) -> None:
    search = RandomSearch(SPACE, seed=0)

    assert sweep._num_trials(Plan(num_trials=asked), search, SPACE, num_points) == expected


def test_fewer_trials_than_points_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    assert sweep._num_trials(Plan(num_trials=3), RandomSearch(SPACE, seed=0), SPACE, 12) == 3
    assert caplog.messages == ["of 12 points 3 are tried, as --num-trials says"]
