from __future__ import annotations

from pathlib import Path

from lstmfcn import tuning
from lstmfcn.ledger import Ledger
from lstmfcn.plan import Plan
from lstmfcn.search import RandomSearch
from lstmfcn.search_space import SearchSpace
from lstmfcn.trials import Trials


def test_a_sweep_that_ends_between_two_trials_was_interrupted(tmp_path: Path) -> None:
    plan, trials = Plan(), Trials(tmp_path)
    ledger = Ledger(trials, RandomSearch(SearchSpace({}), seed=0), plan.objective, num_trials=2)
    watcher = tuning._Watcher(ledger, plan, trials, asked=(1, 0))

    ended = []
    for number in (1, 2):
        ledger.draw()
        ledger.update(number, status="completed")
        watcher.on_experiment_end([])
        ended.append(watcher.was_interrupted)

    assert ended == [True, False]
