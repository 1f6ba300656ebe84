"""A sweep from data to the best checkpoint, with files from which it can be resumed.

It writes to the output folder: best/, leaderboard.csv, sweep.json (what was computed from what) and trials/.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lstmfcn import capacity, memory_probe, output_folder, schedulers, storage
from lstmfcn.checkpoint import CHECKPOINT
from lstmfcn.dataset import Dataset, digest
from lstmfcn.errors import HyperparameterError, OutputError, TrainingError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.ledger import Ledger, View
from lstmfcn.ownership import OWNER
from lstmfcn.plan import Plan
from lstmfcn.recipe import RECIPES, RecipeName
from lstmfcn.record import RECORD, Record
from lstmfcn.results import BEST, Results
from lstmfcn.search import BayesianSearch, GridSearch, RandomSearch, Search
from lstmfcn.search_space import SearchSpace
from lstmfcn.start import Start
from lstmfcn.storage import Location
from lstmfcn.training import TrainingData
from lstmfcn.trials import LEADERBOARD, TRIALS, Trial, TrialFolders, ranked
from lstmfcn.tuning import run_trials
from lstmfcn.versions import installed

_log = logging.getLogger(__name__)

EVALUATION = "evaluation"
"""Folder with the scores of best/ on the validation set."""
REPORT = "report.html"
REFIT = "refit"
"""Folder with the networks of best/, trained on the validation set too."""
RESULT_NAMES = (LEADERBOARD, BEST, RECORD, TRIALS, EVALUATION, REPORT, REFIT)

_USUAL_NUM_TRIALS = 8


def sweep(
    training: Dataset,
    validation: Dataset,
    space: SearchSpace,
    plan: Plan,
    output: Location,
    *,
    start: Start | None = None,
    points: Sequence[Hyperparameters] = (),
    known: Sequence[tuple[Hyperparameters, dict[str, float]]] = (),
    resume: bool = False,
    overwrite: bool = False,
    view: View | None = None,
) -> list[Trial]:
    """Train networks of the search space in parallel and rank them, best first.

    With a `start` all trials start from its weights, with its network and scaling. `points` are tried first.
    The search learns from `known`, the hyperparameters of other trials and the metrics of their best epochs.
    With `resume` the sweep in the output folder goes on: trials that have ended are kept, those that were
    running go on from their last state. With `overwrite` it is replaced. The `view` is told of every trial.

    Raises HyperparameterError when the search, the scheduler or the start doesn't suit the space,
    ResourceError when a trial fits no node, OutputError when another sweep would go on or be replaced unasked
    or another run takes the folder over, TrainingError when all trials fail, and, after it has written what
    there is, KeyboardInterrupt when it was interrupted.
    """
    started = time.monotonic()
    output = output.resolve()
    if not resume:
        output_folder.check(output, *RESULT_NAMES, overwrite=overwrite)
    treatment = training.treatment.model_dump(exclude={"channels"})
    plan = plan.model_copy(update={"task": training.task, **treatment})
    if start is not None:
        plan = plan.model_copy(update={"scaling": start.checkpoint.scaling.method})
    space, points = settled(space, points, plan.recipe, len(training), start)
    folders = TrialFolders(output)
    record = Record(
        plan=plan,
        search_space=space.described(),
        points=points,
        data=digest(training, validation),
        checkpoint="" if start is None else start.checkpoint.digest(),
        description=str(training),
        versions=installed("torch", "ray"),
    )
    earlier: list[Trial] = []
    if resume:
        before = Record.read(output)
        before.refuse_other(record)
        record.seconds = before.seconds  # those of this run are added
        earlier = folders.read()
    schedulers.refuse_unsuitable(plan, space, points)
    search = _search(space, plan, len(earlier), known)
    data = TrainingData.scaled(training, validation, plan.scaling, start)
    if plan.gpus_per_trial == "auto":
        largest = space.largest(points)
        share = memory_probe.gpus_per_trial(data, largest, plan.precision, plan.cpus_per_trial)
        plan = record.plan = plan.model_copy(update={"gpus_per_trial": share})
    capacity.refuse_unsatisfiable("a trial", plan.cpus_per_trial, plan.known_gpus_per_trial)
    if overwrite:
        storage.remove(output, *RESULT_NAMES)
    folders.ownership.take()
    record.write(output)
    # refit/ may be of networks that are no longer the best, and another run may still be about to write it.
    storage.remove(output / REFIT, CHECKPOINT, f"{TRIALS}/{OWNER}")
    results = Results(record, folders, started)
    ledger = Ledger(
        folders,
        search,
        plan.objective,
        _num_trials(plan, search, space, len(points)),
        points=points,
        earlier=earlier,
        views=[results] if view is None else [results, view],
    )
    with writing(output):
        try:
            if ledger.num_left:
                storage.remove(output, EVALUATION, REPORT)  # they tell of a best that may be replaced
                scheduler = schedulers.build(plan, space, points)
                run_trials(data, plan, scheduler, ledger)
        finally:
            results.write(calibrate_on=validation if plan.calibrate else None)
            folders.remove_states([trial.number for trial in ledger.trials.values() if trial.has_ended])
            folders.ownership.give_up()
    best_first = ranked(ledger.trials.values(), plan.objective)
    if not best_first or not best_first[0].is_usable:
        raise TrainingError(_why_none_is_usable(best_first))
    return best_first


def settled(
    space: SearchSpace,
    points: Sequence[Hyperparameters],
    recipe_name: RecipeName,
    num_cases: int,
    start: Start | None,
) -> tuple[SearchSpace, list[Hyperparameters]]:
    """Return the search space and the points, completed by the start's network and by what the recipe chooses
    for `num_cases` training series. Raises HyperparameterError when they don't suit the start.
    """
    if start is not None:
        space = start.search_space(space)
        points = [start.hyperparameters(point) for point in points]
    recipe = RECIPES[recipe_name]
    completed = [recipe.completed(point, num_cases) for point in points]
    return space.completed(recipe.chosen(num_cases)), completed


@contextmanager
def writing(output: Location) -> Iterator[None]:
    """Raise OutputError when the output folder can't be written."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # not a disk's error, but Ray's about a connection
            raise
        raise OutputError(
            f"{output_folder.unwritable(output, error)}; --resume goes on when that is mended"
        ) from None


def _search(
    space: SearchSpace,
    plan: Plan,
    num_drawn: int,
    known: Sequence[tuple[Hyperparameters, dict[str, float]]],
) -> Search:
    """Return the plan's search, which has learnt from `known`; raise HyperparameterError if it can't."""
    if known and plan.search != "bayesian":
        raise HyperparameterError(
            f"a {plan.search} search learns nothing by --warm-start; --search bayesian does"
        )
    match plan.search:
        case "random":
            return RandomSearch(space, plan.seed)
        case "grid":
            return GridSearch(space)
        case "bayesian":
            # With one seed it would draw the same again when it goes on.
            search = BayesianSearch(space, (plan.seed + num_drawn) % 2**32)
            for hyperparameters, metrics in known:
                search.learn(hyperparameters, plan.objective.score(metrics)[0])
            return search


def _num_trials(plan: Plan, search: Search, space: SearchSpace, num_points: int) -> int:
    if isinstance(search, GridSearch):
        most = num_points + len(search)
        return min(plan.num_trials or most, most)
    num_trials = plan.num_trials or max(_USUAL_NUM_TRIALS, num_points)
    if num_trials < num_points:
        _log.warning("of %d points %d are tried, as --num-trials says", num_points, num_trials)
    if (different := num_points + space.num_networks) < num_trials:
        _log.warning("%d trials train some networks again: only %d differ", num_trials, different)
    return num_trials


def _why_none_is_usable(trials: Sequence[Trial]) -> str:
    if not trials or any(not trial.has_ended for trial in trials):
        return "no trial finished an epoch"
    first = min(trials, key=lambda trial: trial.number)
    return f"none of {len(trials)} trials succeeded; the first failed with: {first.error}"
