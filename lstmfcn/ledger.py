"""What a sweep knows of its trials, and which one comes next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.metrics import Objective
from lstmfcn.search import Search
from lstmfcn.trials import Trial, TrialFolders


class View(Protocol):
    """An observer of a sweep's trials."""

    def begin(self, trials: Sequence[Trial], num_trials: int) -> None:
        """Take in the trials that a resumed sweep begins with, and the number of trials in all."""

    def update(self, trial: Trial) -> None:
        """Take in what is now known of a trial."""


class Ledger:
    """Draws trials, and keeps what became of them in memory and in their folders."""

    def __init__(
        self,
        folders: TrialFolders,
        search: Search,
        objective: Objective,
        num_trials: int,
        *,
        points: Sequence[Hyperparameters] = (),
        earlier: Sequence[Trial] = (),
        views: Sequence[View] = (),
    ) -> None:
        """`points` are tried first. `earlier` are the trials of a sweep that is resumed."""
        self.trials = {trial.number: trial for trial in earlier}
        self.folders, self._search, self._objective, self._views = folders, search, objective, views
        self._num_trials, self._points = num_trials, points
        self._last = max(self.trials, default=0)
        self._unfinished = [trial for trial in earlier if not trial.has_ended]
        for trial in earlier:
            if trial.has_ended:
                self._learn(trial)
        for view in views:
            view.begin(earlier, max(num_trials, len(earlier)))

    @property
    def num_left(self) -> int:
        """Number of trials that are to be drawn or resumed."""
        return len(self._unfinished) + max(0, self._num_trials - self._last)

    def draw(self) -> Trial | None:
        """Return the next trial, first those that were interrupted; None when there are enough."""
        if self._unfinished:
            trial = self._unfinished.pop(0).model_copy(update={"status": "running"})
        elif self._last < self._num_trials:
            self._last += 1
            trial = Trial(number=self._last, hyperparameters=self._hyperparameters(self._last))
        else:
            return None
        self.folders.write(trial)
        self._note(trial)
        return trial

    def _note(self, trial: Trial) -> None:
        self.trials[trial.number] = trial
        for view in self._views:
            view.update(trial)

    def _hyperparameters(self, number: int) -> Hyperparameters:
        if number <= len(self._points):
            return self._points[number - 1]
        return self._search.propose(number - len(self._points))

    def update(self, number: int, **known: Any) -> Trial:
        """Note what is now known of a trial; on disk too once it has stopped or has other hyperparameters.

        Raises OutputError when a trial has stopped after another run took over, for it may be that one's now.
        """
        before = self.trials[number]
        trial = before.model_copy(update=known)
        if trial.status != "running":
            self.folders.ownership.refuse_another()
        if trial.status != "running" or trial.hyperparameters != before.hyperparameters:
            self.folders.write(trial)
        self._note(trial)
        if trial.has_ended:
            self._learn(trial)
        return trial

    def interrupt(self, trial: Trial) -> None:
        """Note that a running trial was interrupted, and what its process saved after its last report."""
        self.update(trial.number, status="interrupted", **self.folders.saved(trial))

    def _learn(self, trial: Trial) -> None:
        value = None
        if trial.is_usable:
            value, _ = self._objective.score(trial.best_metrics)
        self._search.learn(trial.hyperparameters, value)
