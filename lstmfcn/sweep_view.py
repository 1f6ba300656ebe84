"""What is seen of a sweep while it runs: a live table over a bar on a terminal, lines elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from rich.table import Table

from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.metrics import Objective
from lstmfcn.progress import Progress
from lstmfcn.trials import Trial, ranked

_MOST_ROWS = 15


class SweepView:
    """Follows the trials of one sweep."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._trials: dict[int, Trial] = {}
        self._shown = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shown.close()

    def begin(self, trials: Sequence[Trial], num_trials: int) -> None:
        """What is known of a sweep that goes on, and how many trials there are to be."""
        self._trials = {trial.number: trial for trial in trials}
        self._progress = self._shown.enter_context(Progress("sweep", num_trials, "trials", above=self.table))
        self._progress.skip(sum(trial.has_ended for trial in trials))

    def update(self, trial: Trial) -> None:
        """What is known of a trial now."""
        self._trials[trial.number] = trial
        if trial.status != "running":
            self._progress.advance(_line(trial), work=int(trial.has_ended))

    def table(self) -> Table:
        """The trials that run, then the best of the others."""
        metric = self._objective.metric
        trials = sorted(list(self._trials.values()), key=lambda trial: trial.number)  # noqa: C414 (a copy)
        running = [trial for trial in trials if trial.status == "running"]
        others = ranked([trial for trial in trials if trial.status != "running"], self._objective)
        varied = [
            name
            for name in Hyperparameters.model_fields
            if len({getattr(trial.hyperparameters, name) for trial in trials}) > 1
        ]
        table = Table(
            "trial", "status", "epoch", f"best {metric}", "seconds", *varied, box=None, pad_edge=False
        )
        for column in table.columns[2:]:
            column.justify = "right"
        for trial in (running + others)[:_MOST_ROWS]:
            best = f"{trial.best_metrics[metric]:.4f}" if metric in trial.best_metrics else ""
            values = [f"{getattr(trial.hyperparameters, name):.4g}" for name in varied]
            epochs = f"{trial.epoch}/{trial.hyperparameters.epochs}"
            table.add_row(str(trial.number), trial.status, epochs, best, f"{trial.seconds:.1f}", *values)
        return table


def _line(trial: Trial) -> str:
    if trial.error:
        return f"trial {trial.number} failed: {trial.error}"
    best = "".join(f" {name}: {value:.8f}" for name, value in trial.best_metrics.items())
    return (
        f"trial {trial.number} {trial.status} after {trial.epoch} epochs, {trial.seconds:.1f} s;"
        f" best epoch: {trial.best_epoch}{best}"
    )
