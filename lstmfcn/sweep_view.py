"""The display of a running sweep: a live table above a progress bar on a terminal, lines elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from rich.table import Table

from lstmfcn.errors import counted
from lstmfcn.metrics import Objective
from lstmfcn.progress import Progress
from lstmfcn.trials import Trial, ranked

_MOST_ROWS = 15


class SweepView:
    """Shows the progress of the trials of a sweep or of its refit."""

    def __init__(self, objective: Objective, what: str = "sweep") -> None:
        self._objective, self._what = objective, what
        self._running: dict[int, Trial] = {}
        self._best: Sequence[Trial] = []
        """The best of the other trials, no more than are shown: to rank all of 100,000 would take long."""
        self._shown = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shown.close()

    def begin(self, trials: Sequence[Trial], num_trials: int) -> None:
        """Show the trials that a resumed sweep begins with, of `num_trials` in all."""
        shown = [trial for trial in trials if trial.has_ended or trial.is_usable]
        self._best = ranked(shown, self._objective)[:_MOST_ROWS]
        progress = Progress(self._what, num_trials, "trials", above=self.table)
        self._progress = self._shown.enter_context(progress)
        self._progress.skip(sum(trial.has_ended for trial in trials))

    def update(self, trial: Trial) -> None:
        """Show what is now known of a trial."""
        self._best = [one for one in self._best if one.number != trial.number]
        if trial.status == "running":
            self._running[trial.number] = trial
        else:
            self._running.pop(trial.number, None)
            self._best = ranked([*self._best, trial], self._objective)[:_MOST_ROWS]
            self._progress.advance(_line(trial), work=int(trial.has_ended))

    def table(self) -> Table:
        """Return a table of running trials, then the best others, with the metric of their last and of their
        best epoch; it fits a terminal of 80 columns.
        """
        metric = self._objective.metric
        running = sorted(list(self._running.values()), key=lambda trial: trial.number)  # noqa: C414 (a copy)
        columns = ("trial", "status", "epoch", metric, "best", "seconds")
        table = Table(*columns, box=None, pad_edge=False)
        for column in table.columns:
            column.no_wrap = True
            column.justify = "left" if column.header == "status" else "right"
        for trial in [*running, *self._best][:_MOST_ROWS]:
            table.add_row(
                str(trial.number),
                trial.status,
                f"{trial.epoch}/{trial.hyperparameters.epochs}",
                _cell(trial.metrics, metric),
                _cell(trial.best_metrics, metric),
                f"{trial.seconds:.1f}",
            )
        return table


def _cell(metrics: Mapping[str, float], name: str) -> str:
    return f"{metrics[name]:.4f}" if name in metrics else ""


def _line(trial: Trial) -> str:
    if trial.error:
        return f"trial {trial.number} failed: {trial.error}"
    if trial.best_epoch == 0:
        return f"trial {trial.number} {trial.status} before its first epoch ended"
    best = "".join(f" {name}: {value:.8f}" for name, value in trial.best_metrics.items())
    return (
        f"trial {trial.number} {trial.status} after {counted(trial.epoch, 'epoch')}, {trial.seconds:.1f} s;"
        f" best epoch: {trial.best_epoch}{best}"
    )
