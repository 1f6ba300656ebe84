"""The networks of a sweep's best/ once more, trained on the validation data too.

In the sweep's folder: refit/, a checkpoint as best/ is, and in it trials/ with what became of each network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lstmfcn import storage
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.dataset import Dataset
from lstmfcn.ensemble import Ensemble, load_checkpoint, save_best
from lstmfcn.errors import TrainingError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.ledger import Ledger, View
from lstmfcn.metrics import Objective
from lstmfcn.plan import Plan
from lstmfcn.recipe import Recipe
from lstmfcn.record import Record
from lstmfcn.results import BEST
from lstmfcn.search import RandomSearch
from lstmfcn.search_space import SearchSpace
from lstmfcn.start import Start
from lstmfcn.storage import Location
from lstmfcn.sweep import REFIT, writing
from lstmfcn.training import TrainingData
from lstmfcn.training_state import FILE_NAME as STATE
from lstmfcn.trials import Trial, Trials, ranked
from lstmfcn.tuning import run_trials


def refit(
    output: Location,
    training: Dataset,
    validation: Dataset,
    *,
    start: Start | None = None,
    view: View | None = None,
) -> None:
    """Train the networks of a sweep's best/ again, in parallel on Ray, on its training and validation data
    together. Networks that an earlier call has trained, or begun, are not trained again.

    Each has the hyperparameters of its trial, but as many epochs as `Recipe.refitted` says. Its probabilities
    are scaled as those in best/, since no data is left to calibrate with.

    Raises TrainingError when a network can't be trained, and KeyboardInterrupt when it was interrupted.
    """
    output = output.resolve()
    folder = output / REFIT
    record = Record.read(output)
    plan = record.plan.model_copy(update={"scheduler": "none", "target": None, "time_budget": None})
    assert plan.gpus_per_trial != "auto"  # the sweep has noted what that came to
    best = _best(output, plan)
    recipe = Recipe(plan.recipe)
    wanted = [recipe.refitted(trial.hyperparameters, trial.best_epoch) for trial in best]
    space = SearchSpace.from_mapping(record.search_space)
    trials = Trials(folder)
    with writing(output):
        ledger = Ledger(
            trials,
            RandomSearch(space, plan.seed),
            Objective.usual(has_validation=False),
            len(wanted),
            points=wanted,
            earlier=_earlier(folder, wanted),
            views=[] if view is None else [view],
        )
        if ledger.num_left:
            data = TrainingData.scaled(training.with_cases_of(validation), None, plan.scaling, start)
            run_trials(data, plan, space, plan.gpus_per_trial, ledger, folder)
        for number, trial in enumerate(best, 1):
            if error := ledger.trials[number].error:
                raise TrainingError(f"trial {trial.number} can't be trained again: {error}")
        numbers = range(1, len(best) + 1)
        save_best(_as_sure([Checkpoint.load(trials.folder(n)) for n in numbers], output / BEST), folder)
        for number in numbers:
            storage.remove(trials.folder(number), STATE)


def _best(output: Location, plan: Plan) -> list[Trial]:
    """The trials whose networks best/ holds."""
    best_first = ranked(Trials(output).read(), plan.objective)
    return [trial for trial in best_first[: plan.ensemble] if trial.is_usable]


def _earlier(folder: Location, wanted: Sequence[Hyperparameters]) -> list[Trial]:
    """What was trained before of these; what failed, or is of others, is removed."""
    earlier = Trials(folder).read()[: len(wanted)]
    if any(trial.error or trial.hyperparameters != wanted[trial.number - 1] for trial in earlier):
        storage.remove(folder.parent, folder.name)
        return []
    return earlier


def _as_sure(checkpoints: Sequence[Checkpoint], best: Location) -> list[Checkpoint]:
    """The checkpoints with the temperatures of those in best/."""
    calibrated = load_checkpoint(best)
    members = calibrated.members if isinstance(calibrated, Ensemble) else (calibrated,)
    return [
        replace(checkpoint, temperature=member.temperature)
        for checkpoint, member in zip(checkpoints, members, strict=True)
    ]
