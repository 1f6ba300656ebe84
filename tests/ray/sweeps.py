"""What the tests of sweeps have in common."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lstmfcn.search_space import SearchSpace
from lstmfcn.trials import Trial
from tests.samples import TINY, make_dataset

TRAIN, VALID = make_dataset(40), make_dataset(21, seed=1)
LEARNING_RATES = {"log_uniform": [0.0001, 0.05]}


def space(**ranges: Any) -> SearchSpace:
    return SearchSpace.from_mapping({**TINY.model_dump(), **ranges})


def read_rows(output: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((output / "leaderboard.csv").read_text().splitlines()))


def results(trials: list[Trial]) -> list[tuple[Any, ...]]:
    """Return what must be the same of each trial whenever and wherever it runs."""
    return [
        (
            trial.number,
            trial.status,
            trial.hyperparameters,
            trial.metrics,
            trial.best_epoch,
            trial.best_metrics,
        )
        for trial in trials
    ]


class Told:
    """A view that keeps what a sweep tells it."""

    def __init__(self) -> None:
        self.num_trials = 0
        self.ended: list[int] = []

    def begin(self, trials: Sequence[Trial], num_trials: int) -> None:
        self.num_trials = num_trials

    def update(self, trial: Trial) -> None:
        if trial.has_ended:
            self.ended.append(trial.number)
