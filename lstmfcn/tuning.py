"""Sweeps: trials in parallel over a search space, on Ray Tune.

Tune schedules the trials and judges them. What is known of a sweep lies in its output folder (trials.py,
training_state.py) and not in Tune's own state, so that a resumed sweep reads nothing that is pickled.
"""

from __future__ import annotations

import errno
import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ray import tune
from ray.air.execution._internal.tracked_actor import TrackedActor
from ray.exceptions import RayActorError
from ray.tune import tune as tune_loop
from ray.tune.execution import class_cache
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from lstmfcn import actors, capacity, schedulers, storage
from lstmfcn.errors import OutputError, ResourceError, is_of_full_memory
from lstmfcn.ledger import Ledger
from lstmfcn.object_storage import ObjectPath
from lstmfcn.plan import Plan
from lstmfcn.storage import Location
from lstmfcn.training import TrainingData
from lstmfcn.trial_process import NUMBER, TrialProcess, hyperparameters_of
from lstmfcn.trial_run import TrialSettings
from lstmfcn.trials import METRIC_NAMES, Trial

_TUNES_OWN = "ray-tune"
_SIGNS_OF_DEATH = (
    "The actor died",
    "The actor is dead",
    "The actor is temporarily unavailable",
    "NodeDiedError",
)
"""Texts in Ray's errors that mean that a process was lost."""
_PROCESS = "ResourceTrainable"
"""Name that Tune gives the class of its processes."""
_ERRNOS_OF_A_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
"""A full disk, and a user's full share of one."""
_RESOURCE_ERROR = f"{ResourceError.__name__}: "


def run_trials(
    data: TrainingData,
    plan: Plan,
    scheduler: TrialScheduler,
    ledger: Ledger,
) -> None:
    """Train the ledger's trials until it draws no more, or the plan's target or time is reached.

    Raises KeyboardInterrupt when it was interrupted, OutputError when another run took the folder over, and
    ResourceError when a node lacks the folder.
    """
    size = plan.cpus_per_trial, plan.known_gpus_per_trial
    _prepare_tune(most_pending=max(1, capacity.num_fitting(*size)), learns=plan.search == "bayesian")
    watcher = _Watcher(ledger, plan)
    if watcher.stop_all():
        watcher.on_experiment_end([])
    else:
        has_begun = partial(actors.have_begun, _PROCESS)
        waiting = capacity.telling_of_a_wait("a trial", *size, has_begun)
        with _sigint_handler_kept(), waiting:
            _tuner(data, plan, scheduler, ledger, watcher).fit()
    if not isinstance(watcher.error, OutputError):  # else the folder is another run's by now
        storage.remove(ledger.folders.root, _TUNES_OWN)
    if watcher.error is not None:
        raise watcher.error
    if watcher.was_interrupted:
        raise KeyboardInterrupt


def _prepare_tune(most_pending: int, *, learns: bool) -> None:
    """Set what Tune reads from its environment and its modules, for this process's sweeps."""
    # More actors than fit would be asked for in vain, and started anew instead of reused.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(most_pending)
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = str(10**9)  # between writes of Tune's state, which nobody reads
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"  # a trial that diverged at once has no metric
    # Tune would give its processes an environment of their own, with AWS's secrets for all to see in Ray's
    # dashboard; and Ray would have to start new ones, instead of taking those that wait.
    class_cache.DEFAULT_ENV_VARS.clear()
    class_cache.ENV_VARS_TO_PROPAGATE.clear()
    tune_loop.TuneController = _LateController if learns else _Controller  # type: ignore[attr-defined]


def _tuner(
    data: TrainingData,
    plan: Plan,
    scheduler: TrialScheduler,
    ledger: Ledger,
    watcher: _Watcher,
) -> tune.Tuner:
    settings = TrialSettings(
        objective=None if data.valid is None else plan.objective,
        training=plan.training,
        judged_every=schedulers.judged_every(scheduler),
    )
    trainable = tune.with_parameters(TrialProcess, data=data, folders=ledger.folders, settings=settings)
    resources = {"cpu": plan.cpus_per_trial, "gpu": plan.known_gpus_per_trial}
    return tune.Tuner(
        tune.with_resources(trainable, resources),
        tune_config=tune.TuneConfig(
            num_samples=ledger.num_left,
            search_alg=_Drawer(ledger),
            scheduler=scheduler,
            max_concurrent_trials=plan.max_concurrent_trials,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=_TUNES_OWN,
            storage_path=_as_uri(ledger.folders.root),
            verbose=0,
            callbacks=[watcher],
            stop=watcher,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=plan.max_failures),
        ),
    )


def _as_uri(folder: Location) -> str:
    """Return a folder as Tune takes it, which decodes a URI."""
    return quote(str(folder), safe=":/") if isinstance(folder, ObjectPath) else str(folder)


@contextmanager
def _sigint_handler_kept() -> Iterator[None]:
    """Restore the handler of SIGINT at the end: Tune installs one of its own, which it leaves behind."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)


class _Controller(TuneController):
    """Tune's controller with two defects mended."""

    def _maybe_reuse_cached_actor(self, trial: TuneTrial) -> bool:
        """Leave a trial the process that is being started for it. Tune would end that process as soon as
        another one is free, start one for the next trial, end that too, and so on, and short trials would
        never run in parallel.
        """
        if trial not in self._resetting_trials:
            own = self._trial_to_actor.get(trial)
            if own is not None and self._actor_manager.is_actor_started(own):
                return False
        return super()._maybe_reuse_cached_actor(trial)

    def _actor_failed(self, tracked_actor: TrackedActor, exception: Exception) -> None:
        """Count a process that is lost while it is reset for its next trial as one failure. Tune's own method
        counts two, the second of a trial that isn't running, which would then not be retried.
        """
        self._resetting_trials.discard(self._actor_to_trial[tracked_actor])
        super()._actor_failed(tracked_actor, exception)

    def _trial_task_failure(self, trial: TuneTrial, exception: Exception) -> None:
        is_told_already = trial.status == TuneTrial.PENDING and isinstance(exception, RayActorError)
        if not is_told_already:
            super()._trial_task_failure(trial, exception)


class _LateController(_Controller):
    """A controller that draws a trial only when there is a place for it, so that a search which learns knows
    all that has ended by then. Tune draws as many ahead as run at once.
    """

    def _update_trial_queue(self, blocking: bool = False, timeout: int = 600) -> bool:
        if len(self._pending_trials) + len(self._running_trials) >= self._max_pending_trials:
            return False
        is_drawn: bool = super()._update_trial_queue(blocking, timeout)
        return is_drawn


class _Drawer(Searcher):
    """Lets Tune ask the ledger for trials."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self._ledger = ledger

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Tune pickles this along with its own state, which nobody reads."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override]
        trial = self._ledger.draw()
        if trial is None:
            return self.FINISHED
        return {NUMBER: trial.number, **trial.hyperparameters.model_dump()}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: the watcher tells the ledger."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the ledger is on disk."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing, as in `save`."""


class _Watcher(tune.Callback, tune.Stopper):
    """Tells the ledger what becomes of trials, and ends them all when the target or the time is reached."""

    def __init__(self, ledger: Ledger, plan: Plan) -> None:
        self.was_interrupted = False
        self.is_ending = False
        """Whether the sweep ends before its trials do."""
        self.error: OSError | OutputError | ResourceError | None = None
        """Error about the output, if there was one; Tune would turn it into an error of its own."""
        self._ledger, self._plan = ledger, plan
        self._is_reached = any(map(self._reaches_target, ledger.trials.values()))
        self._deadline = math.inf if plan.time_budget is None else time.monotonic() + plan.time_budget

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing, as the drawer does."""
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Return False: the scheduler says which single trials end."""
        return False

    def stop_all(self) -> bool:
        """Return whether the sweep is to end: the target or the time is reached, or there was an error."""
        self.is_ending = self.is_ending or self._is_reached or time.monotonic() >= self._deadline
        return self.is_ending

    def _reaches_target(self, trial: Trial) -> bool:
        target = self._plan.target
        return (
            target is not None
            and trial.is_usable
            and not trial.error
            and self._plan.objective.reached(trial.best_metrics, target)
        )

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: dict[str, Any], **_: Any
    ) -> None:
        with self._ending_on_errors():
            updated = self._ledger.update(trial.config[NUMBER], **_known(trial, result))
            self._is_reached = self._is_reached or self._reaches_target(updated)

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **_: Any) -> None:
        ended = self._ledger.trials[trial.config[NUMBER]]
        with self._ending_on_errors():
            if ended.error:
                self._ledger.update(ended.number, status="failed")
            elif ended.epoch == ended.hyperparameters.epochs:
                self._ledger.update(ended.number, status="completed")
            elif not self.is_ending:
                self._ledger.update(ended.number, status="stopped early")

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **_: Any) -> None:
        with self._ending_on_errors():
            failure = self._last_failure(trial)
            for number in _ERRNOS_OF_A_FULL_DISK:
                if f"[Errno {number}]" in failure:  # no trial's fault: all can be resumed once there is room
                    raise OSError(number, os.strerror(number))
            self._ledger.update(
                trial.config[NUMBER], status="failed", error=_reason(failure), failures=trial.num_failures - 1
            )

    def on_trial_recover(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **_: Any) -> None:
        with self._ending_on_errors():
            self._last_failure(trial)

    def _last_failure(self, trial: TuneTrial) -> str:
        """Return Tune's text on why a trial has failed; raise ResourceError if its node is to blame, where
        every other trial would fail too.
        """
        failure = storage.read_bytes(Path(trial.error_file)).decode().rpartition("Failure # ")[2]
        if _RESOURCE_ERROR in (reason := _reason(failure)):
            self._ledger.folders.ownership.refuse_another()
            raise ResourceError(reason.partition(_RESOURCE_ERROR)[2])
        return failure

    def on_experiment_end(self, trials: list[TuneTrial], **_: Any) -> None:
        running = [trial for trial in self._ledger.trials.values() if trial.status == "running"]
        is_early = bool(running) or self._ledger.num_left > 0
        self.was_interrupted = is_early and not self.is_ending
        with self._ending_on_errors():
            for trial in running:
                self._ledger.interrupt(trial)

    @contextmanager
    def _ending_on_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, OutputError, ResourceError) as error:
            self.error, self.is_ending = error, True


def _known(trial: TuneTrial, result: dict[str, Any]) -> dict[str, Any]:
    """Return what Tune and a report say of a trial, as fields of `Trial`."""
    reported = ("epoch", "best_epoch", "seconds", "started", "ended", "worker", "error")
    known = {name: result[name] for name in reported if name in result}
    best = result.get("best_metrics", {})
    return {
        **known,
        "hyperparameters": hyperparameters_of(trial.config),
        "metrics": {name: result[name] for name in METRIC_NAMES if name in result},
        "best_metrics": {name: best[name] for name in METRIC_NAMES if name in best},
        "failures": trial.num_failures,
    }


def _reason(failure: str) -> str:
    """Return the reason for a trial's failure, from Tune's text on it, which ends with a traceback."""
    if is_of_full_memory(failure):
        return (
            "out of memory; run fewer trials at once, by more --cpus-per-trial, or use a smaller batch_size"
        )
    if "creation task" not in failure and any(sign in failure for sign in _SIGNS_OF_DEATH):
        return "its process or its node was lost"
    return failure.strip().splitlines()[-1]
