"""A sweep from data to the best checkpoint, and what it leaves behind to go on from.

In the output folder: best/, leaderboard.csv, sweep.json (what was computed from what) and trials/.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

import lstmfcn
from lstmfcn import cluster, memory_probe, schedulers, storage
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.dataset import Dataset
from lstmfcn.ensemble import Ensemble
from lstmfcn.errors import DataError, OutputError, TrainingError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.ledger import Ledger, View
from lstmfcn.plan import Plan
from lstmfcn.recipe import Recipe
from lstmfcn.search import BayesianSearch, GridSearch, RandomSearch, Search
from lstmfcn.search_space import SearchSpace
from lstmfcn.storage import Location
from lstmfcn.training import TrainingData
from lstmfcn.training_state import FILE_NAME as STATE
from lstmfcn.trials import Trial, Trials, ranked, write_leaderboard
from lstmfcn.tuning import run_trials

RECORD = "sweep.json"
BEST = "best"

_USUAL_NUM_TRIALS = 8
_MAY_CHANGE = {
    "num_trials",
    "target",
    "time_budget",
    "max_concurrent_trials",
    "cpus_per_trial",
    "gpus_per_trial",
    "max_failures",
    "ensemble",
}
"""Of a plan, when its sweep goes on."""


class Record(BaseModel):
    """sweep.json."""

    model_config = ConfigDict(extra="forbid")

    plan: Plan
    search_space: dict[str, Any]
    data: str
    """Digest of the training and the validation set."""
    description: str
    """Of the training set, in words."""
    versions: dict[str, str]
    seconds: float = 0.0
    """From the call to the results, of all runs of the sweep together."""
    best_trial: int | None = None

    @classmethod
    def read(cls, output: Location) -> Self:
        """Raises OutputError where there is no sweep."""
        try:
            return cls.model_validate_json(storage.read_bytes(output / RECORD))
        except (DataError, ValidationError):
            raise OutputError(f"{output} holds no {RECORD} of a sweep") from None

    @staticmethod
    def digest(*datasets: Dataset) -> str:
        """The same for the same data."""
        content = hashlib.sha256()
        for dataset in datasets:
            content.update("\n".join(dataset.classes.names).encode())
            content.update(dataset.series.tobytes())
            content.update(dataset.targets.tobytes())
        return content.hexdigest()

    def write(self, output: Location) -> None:
        """Write sweep.json."""
        storage.write_bytes(output / RECORD, self.model_dump_json(indent=2).encode() + b"\n")

    def refuse_other(self, other: Record) -> None:
        """Raise OutputError if a sweep that goes on is to be another one."""
        before, now = (record.plan.model_dump(exclude=_MAY_CHANGE) for record in (self, other))
        before |= {"search_space": self.search_space, "training or validation data": self.data}
        now |= {"search_space": other.search_space, "training or validation data": other.data}
        for name, value in before.items():
            if now[name] != value:
                shown = "" if name.startswith("training") else f": it was {value}, now it is {now[name]}"
                raise OutputError(f"--resume: the sweep's {name} has changed{shown}")


def sweep(
    training: Dataset,
    validation: Dataset,
    space: SearchSpace,
    plan: Plan,
    output: Location,
    *,
    points: Sequence[Hyperparameters] = (),
    known: Sequence[tuple[Hyperparameters, dict[str, float]]] = (),
    resume: bool = False,
    view: View | None = None,
) -> list[Trial]:
    """Train networks of the search space in parallel and rank them, best first.

    `points` are tried first; the search learns from what is `known` of others, by the metrics of their best
    epochs. With `resume` a sweep in the output folder goes on: what has ended is kept, what was running goes
    on from its last state. The `view` is told of every trial.

    Raises HyperparameterError when the search or the scheduler doesn't suit the space, ResourceError when a
    trial fits no node, OutputError when another sweep would go on, TrainingError
    when all trials fail, and, after it has written what there is, KeyboardInterrupt when it was interrupted.
    """
    started = time.monotonic()
    output = output.resolve()
    recipe = Recipe(plan.recipe)
    space = space.completed(recipe.chosen(len(training)))
    points = [recipe.completed(point, len(training)) for point in points]
    trials = Trials(output)
    record = Record(
        plan=plan,
        search_space=space.described(),
        data=Record.digest(training, validation),
        description=str(training),
        versions={"lstmfcn": lstmfcn.__version__, **{name: version(name) for name in ("torch", "ray")}},
    )
    earlier = []
    if resume:
        before = Record.read(output)
        before.refuse_other(record)
        record.seconds = before.seconds
        earlier = trials.read()
    schedulers.refuse_unsuitable(plan.scheduler, space)
    search = _search(space, plan, len(earlier))
    for hyperparameters, metrics in known:
        search.learn(hyperparameters, plan.objective.score(metrics)[0])
    ledger = Ledger(
        trials,
        search,
        plan.objective,
        _num_trials(plan, search, len(points)),
        points=points,
        earlier=earlier,
        view=view,
    )
    data = TrainingData.scaled(training, validation, plan.scaling)
    gpus_per_trial = plan.gpus_per_trial
    if gpus_per_trial == "auto":
        gpus_per_trial = memory_probe.gpus_per_trial(data, space.largest, plan.precision, plan.cpus_per_trial)
        record.plan = plan.model_copy(update={"gpus_per_trial": gpus_per_trial})
    cluster.refuse_unsatisfiable("a trial", plan.cpus_per_trial, gpus_per_trial)
    record.write(output)
    try:
        if ledger.num_left:
            run_trials(data, plan, space, gpus_per_trial, ledger, output)
    finally:
        record.seconds += time.monotonic() - started
        _conclude(record, ledger, output)
    return ranked(ledger.trials.values(), plan.objective)


def _search(space: SearchSpace, plan: Plan, num_drawn: int) -> Search:
    match plan.search:
        case "random":
            return RandomSearch(space, plan.seed)
        case "grid":
            return GridSearch(space)
        case "bayesian":
            return BayesianSearch(space, plan.seed + num_drawn)  # lest it draw the same again


def _num_trials(plan: Plan, search: Search, num_points: int) -> int:
    if isinstance(search, GridSearch):
        most = num_points + len(search)
        return min(plan.num_trials or most, most)
    return plan.num_trials or _USUAL_NUM_TRIALS


def _conclude(record: Record, ledger: Ledger, output: Location) -> None:
    """Write the results. Raises TrainingError when there is no checkpoint to keep."""
    drawn = ranked(ledger.trials.values(), record.plan.objective)
    if not drawn:
        return
    trials = Trials(output)
    write_leaderboard(output, drawn)
    for trial in drawn:
        if trial.has_ended:
            storage.remove(trials.folder(trial.number), STATE)
    best = drawn[0]
    if not best.is_usable:
        if any(not trial.has_ended for trial in drawn):
            raise TrainingError("no trial finished an epoch")
        first = ledger.trials[min(ledger.trials)]
        raise TrainingError(f"none of {len(drawn)} trials succeeded; the first failed with: {first.error}")
    storage.remove(output, BEST)
    usable = [trial for trial in drawn[: record.plan.ensemble] if trial.is_usable]
    kept = [Checkpoint.load(trials.folder(trial.number)) for trial in usable]
    (kept[0] if len(kept) == 1 else Ensemble(tuple(kept))).save(output / BEST)
    record.best_trial = best.number
    record.write(output)
