"""The results of a sweep, updated at intervals while it runs, since it may be killed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

from lstmfcn import storage
from lstmfcn.calibration import calibrated
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.dataset import Dataset
from lstmfcn.ensemble import save_best
from lstmfcn.errors import CheckpointError
from lstmfcn.plan import Plan
from lstmfcn.record import Record
from lstmfcn.trials import Trial, TrialFolders, ranked, write_leaderboard

BEST = "best"

_SECONDS_BETWEEN_WRITES = 10.0
_PAUSE_PER_SECOND = 20.0
"""Seconds to wait before the next write for each second that the last one took; with 100,000 trials that is
several."""


def trials_in_best(best_first: Sequence[Trial], plan: Plan) -> list[Trial]:
    """Return the trials whose networks best/ is to hold; of equal networks, such as copies, one, and of those
    that train alike, too, though one of them was stopped at an earlier epoch.
    """
    different: list[Trial] = []
    for trial in best_first:
        if len(different) == plan.ensemble or not trial.is_usable:
            break
        is_copy = any(trial.fingerprint == other.fingerprint for other in different)
        # In a population the hyperparameters change on the way, to those of copies.
        trains_alike = plan.scheduler != "pbt" and any(
            trial.hyperparameters == other.hyperparameters for other in different
        )
        if not is_copy and not trains_alike:
            different.append(trial)
    return different


class Results:
    """Keeps leaderboard.csv, best/ and sweep.json up to date with the trials."""

    def __init__(self, record: Record, folders: TrialFolders, started: float) -> None:
        """`started` is the monotonic clock's time at which the sweep, or its resumption, began."""
        self._record, self._folders, self._started = record, folders, started
        self._output = folders.output
        self._trials: dict[int, Trial] = {}
        self._kept: list[tuple[int, tuple[object, ...]]] = []
        self._earlier_seconds = record.seconds
        self._written = time.monotonic()
        self._took = 0.0

    def begin(self, trials: Sequence[Trial], num_trials: int) -> None:
        """Take in the trials that a resumed sweep begins with."""
        self._trials = {trial.number: trial for trial in trials}

    def update(self, trial: Trial) -> None:
        """Take in what is now known of a trial, and write the results if it is time."""
        self._trials[trial.number] = trial
        pause = max(_SECONDS_BETWEEN_WRITES, _PAUSE_PER_SECOND * self._took)
        if time.monotonic() >= self._written + pause:
            self._written = time.monotonic()
            # A process may be replacing a checkpoint by a better one, and storage may fail for a moment.
            with suppress(CheckpointError, OSError):
                self.write()

    def write(self, calibrate_on: Dataset | None = None) -> None:
        """Write all of the results. What best/ held stays whole until its new checkpoint is.

        Raises OutputError when another run took over.
        """
        self._folders.ownership.refuse_another()
        began = time.monotonic()
        best_first = ranked(self._trials.values(), self._record.plan.objective)
        if best_first:
            write_leaderboard(self._output, best_first)
        self._keep(trials_in_best(best_first, self._record.plan), calibrate_on)
        self._record.seconds = self._earlier_seconds + began - self._started
        self._record.write(self._output)
        self._written = time.monotonic()
        self._took = self._written - began

    def _keep(self, best: Sequence[Trial], calibrate_on: Dataset | None) -> None:
        wanted = [(trial.number, trial.fingerprint) for trial in best]
        if not wanted:  # the trials that it held, if any, have failed since
            storage.remove(self._output, BEST)
            self._kept, self._record.best_trial = [], None
            return
        if wanted == self._kept and calibrate_on is None:
            return
        checkpoints = [Checkpoint.load(self._folders.folder(trial.number)) for trial in best]
        if calibrate_on is not None:
            checkpoints = [calibrated(checkpoint, calibrate_on) for checkpoint in checkpoints]
        save_best(checkpoints, self._output / BEST)
        self._kept = wanted
        self._record.best_trial = best[0].number
