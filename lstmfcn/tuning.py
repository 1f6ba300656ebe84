"""Sweeps: trials in parallel over a search space, on Ray Tune."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.basic_variant import BasicVariantGenerator

from lstmfcn import cluster, storage
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.dataset import Dataset
from lstmfcn.errors import TrainingError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.scaling import ScalingMethod
from lstmfcn.search_space import Choice, Range, SearchSpace
from lstmfcn.storage import Location
from lstmfcn.training import Epoch, TrainingPrecision, fit

METRIC_NAMES = [
    prefix + name
    for prefix in ("", "best_")
    for name in ("epoch", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
]
"""Of the last epoch and, with the prefix, of the best."""

RESULT_NAMES = ("leaderboard.csv", "best", "trials")
"""What a sweep writes to its output folder."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial of a sweep, as it ended."""

    number: int
    """From 1, in the order in which they were drawn."""
    status: str
    """completed, stopped early, failed or interrupted."""
    hyperparameters: Hyperparameters
    metrics: dict[str, float]
    """By METRIC_NAMES; empty if no epoch was finished."""
    seconds: float
    error: str

    @property
    def rank(self) -> tuple[bool, float, float, int]:
        """Lesser is better: the trials that have a result by their best epoch, then the others."""
        failed = self.status == "failed" or not self.metrics
        accuracy = self.metrics.get("best_valid_accuracy", 0.0)
        return failed, -accuracy, self.metrics.get("best_valid_loss", math.inf), self.number


def _ignore(_: Trial) -> None:
    pass


def sweep(
    training: Dataset,
    validation: Dataset,
    space: SearchSpace,
    output: Location,
    *,
    num_trials: int,
    cpus_per_trial: float = 1,
    gpus_per_trial: float = 0,
    scaling: ScalingMethod = "series",
    precision: TrainingPrecision = "fp32",
    seed: int = 0,
    on_end: Callable[[Trial], None] = _ignore,
) -> list[Trial]:
    """Train `num_trials` random samples of the search space and rank them, best first.

    ASHA stops trials that fall behind. Writes to the output folder: best/, the best epoch of the best trial;
    leaderboard.csv; and trials/. `on_end` is called with every trial as it ends.

    Raises ResourceError when a trial fits no node, TrainingError when all trials fail, and, after it has
    written what there is, KeyboardInterrupt when it was interrupted.
    """
    cluster.refuse_unsatisfiable("a trial", cpus_per_trial, gpus_per_trial)
    output = output.resolve()
    ended = _TrialsAsTheyEnd(on_end)
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(
                _run_trial,
                training=training,
                validation=validation,
                checkpoints=output / "trials",
                scaling=scaling,
                precision=precision,
                seed=seed,
            ),
            {"cpu": cpus_per_trial, "gpu": gpus_per_trial},
        ),
        param_space={name: _tune_domain(domain) for name, domain in space.domains.items()},
        tune_config=tune.TuneConfig(
            metric="valid_accuracy",
            mode="max",
            num_samples=num_trials,
            search_alg=BasicVariantGenerator(random_state=seed),
            scheduler=ASHAScheduler(
                time_attr="epoch",
                max_t=space.most_epochs,
                grace_period=max(1, space.most_epochs // 10),
                reduction_factor=3,
            ),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="ray-tune", storage_path=str(output / "trials"), verbose=0, callbacks=[ended]
        ),
    )
    with _sigint_handler_kept():
        tuner.fit()
    ranked = _conclude(list(ended.trials.values()), output)
    if ended.interrupted:
        raise KeyboardInterrupt
    return ranked


@contextmanager
def _sigint_handler_kept() -> Iterator[None]:
    """Tune installs a handler of its own, which it leaves behind."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)


def _run_trial(
    config: dict[str, Any],
    *,
    training: Dataset,
    validation: Dataset,
    checkpoints: Location,
    scaling: ScalingMethod,
    precision: TrainingPrecision,
    seed: int,
) -> None:
    # Tune reuses this process for the next trial, and by default fails it when this one is still
    # in an epoch two seconds after it was told to stop.
    os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"] = "3600"
    cluster.set_up_worker()
    directory = checkpoints / str(_number(tune.get_context().get_trial_id()))
    best: dict[str, float] = {}
    for epoch in fit(
        training,
        validation,
        Hyperparameters.from_mapping(config),
        scaling=scaling,
        seed=seed,
        devices=cluster.allotted_devices(),
        precision=precision,
    ):
        if epoch.checkpoint is not None:
            epoch.checkpoint.save(directory)
            best = {f"best_{name}": value for name, value in _metrics(epoch).items()}
        tune.report({**_metrics(epoch), **best})


def _metrics(epoch: Epoch) -> dict[str, float]:
    return {"epoch": epoch.number, **epoch.metrics}


def _number(trial_id: str) -> int:
    """From Tune's `<experiment>_<index>`."""
    return int(trial_id.rpartition("_")[2]) + 1


def _tune_domain(domain: Range | Choice) -> Any:
    match domain:
        case Range("uniform", low, high):
            return tune.uniform(low, high)
        case Range("log_uniform", low, high):
            return tune.loguniform(low, high)
        case Range("integer", low, high):
            return tune.randint(int(low), int(high) + 1)  # Tune leaves out the upper end
        case Choice(values):
            return tune.choice(list(values))
    raise AssertionError(domain)


class _TrialsAsTheyEnd(tune.Callback):
    def __init__(self, on_end: Callable[[Trial], None]) -> None:
        self.trials: dict[int, Trial] = {}
        self.interrupted = False
        self._on_end = on_end

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its callbacks along with its own state; `on_end` may hold what can't be."""
        return {**self.__dict__, "_on_end": _ignore}

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **_: Any) -> None:
        self._add(trial)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **_: Any) -> None:
        self._add(trial)

    def on_experiment_end(self, trials: list[TuneTrial], **_: Any) -> None:
        for trial in trials:
            if _number(trial.trial_id) not in self.trials:
                self.interrupted = True
                if "epoch" in trial.last_result:
                    self._add(trial)

    def _add(self, tune_trial: TuneTrial) -> None:
        trial = _as_it_ended(tune_trial, self.interrupted)
        self.trials[trial.number] = trial
        self._on_end(trial)


def _as_it_ended(trial: TuneTrial, interrupted: bool) -> Trial:
    hyperparameters = Hyperparameters.from_mapping(trial.config)
    metrics = {name: trial.last_result[name] for name in METRIC_NAMES if name in trial.last_result}
    status, error = "stopped early", ""
    if trial.error_file is not None:
        status, error = "failed", _reason(storage.read_bytes(Path(trial.error_file)).decode())
    elif metrics.get("epoch") == hyperparameters.epochs:
        status = "completed"
    elif interrupted:
        status = "interrupted"
    seconds = trial.last_result.get("time_total_s", 0.0)
    return Trial(_number(trial.trial_id), status, hyperparameters, metrics, seconds, error)


def _reason(traceback: str) -> str:
    """The last line of a traceback, without the class of our own errors."""
    last_line = traceback.strip().splitlines()[-1]
    return last_line.removeprefix(f"{TrainingError.__module__}.{TrainingError.__name__}: ")


def _conclude(trials: list[Trial], output: Location) -> list[Trial]:
    """Rank the trials and write the results. The checkpoint in best/ is the last thing written."""
    if not trials:
        raise TrainingError("no trial finished an epoch")
    ranked = sorted(trials, key=lambda trial: trial.rank)
    rows = [
        {
            "trial": trial.number,
            "status": trial.status,
            **trial.hyperparameters.model_dump(),
            **{name: trial.metrics.get(name) for name in METRIC_NAMES},
            "seconds": trial.seconds,
            "error": trial.error,
        }
        for trial in ranked
    ]
    storage.write_table(output / "leaderboard.csv", rows)
    best = ranked[0]
    if best.status == "failed" or not best.metrics:
        raise TrainingError(
            f"none of {len(trials)} trials succeeded; the first failed with: {trials[0].error}"
        )
    Checkpoint.load(output / "trials" / str(best.number)).save(output / "best")
    return ranked
