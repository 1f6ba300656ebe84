"""Training the networks of a sweep's best/ again, on the validation data too.

The sweep's folder gets refit/, a checkpoint like best/, and in it trials/ with what became of each network,
by the number of its trial in the sweep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lstmfcn import schedulers
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.dataset import Dataset
from lstmfcn.ensemble import load_checkpoint, networks, save_best
from lstmfcn.errors import TrainingError
from lstmfcn.ledger import Ledger, View
from lstmfcn.metrics import Objective
from lstmfcn.plan import Plan
from lstmfcn.recipe import RECIPES
from lstmfcn.record import Record
from lstmfcn.results import BEST, trials_in_best
from lstmfcn.search import RandomSearch
from lstmfcn.search_space import SearchSpace
from lstmfcn.start import Start
from lstmfcn.storage import Location
from lstmfcn.sweep import REFIT, writing
from lstmfcn.training import TrainingData
from lstmfcn.trials import Trial, TrialFolders, ranked
from lstmfcn.tuning import run_trials

OBJECTIVE = Objective.usual(has_validation=False)
"""How networks that are trained again are compared in the display; there is no validation data left."""


def refit(
    output: Location,
    training: Dataset,
    validation: Dataset,
    *,
    start: Start | None = None,
    view: View | None = None,
) -> None:
    """Train the networks of a sweep's best/ again, in parallel on Ray, on its training and validation data
    together. What an earlier call finished is kept, and what it began is resumed.

    Each is trained as its trial was, but for as many epochs as `Recipe.refitted` says. Probabilities are
    scaled as those in best/, since no data is left to calibrate with.

    Raises TrainingError when a network can't be trained, OutputError when another run takes the folder over,
    and KeyboardInterrupt when it was interrupted.
    """
    output = output.resolve()
    record = Record.read(output)
    plan = record.plan.model_copy(update={"scheduler": "none", "target": None, "time_budget": None})
    best = trials_in_best(ranked(TrialFolders(output).read(), plan.objective), record.plan)
    refitted = TrialFolders(output / REFIT)
    with writing(output):
        refitted.ownership.take()
        ledger = Ledger(
            refitted,
            RandomSearch(SearchSpace({}), plan.seed),
            OBJECTIVE,
            num_trials=0,
            earlier=_begun(best, refitted, plan),
            views=[] if view is None else [view],
        )
        if ledger.num_left:
            together = TrainingData.scaled(training.with_cases_of(validation), None, plan.scaling, start)
            data = replace(together, num_for_recipe=len(training))
            scheduler = schedulers.build(plan, SearchSpace({}))
            run_trials(data, plan, scheduler, ledger)
        for trial in ledger.trials.values():
            if trial.error:
                raise TrainingError(f"trial {trial.number} can't be trained again: {trial.error}")
        folders = [refitted.folder(trial.number) for trial in best]
        checkpoints = [Checkpoint.load(folder) for folder in folders]
        refitted.ownership.refuse_another()
        save_best(_with_temperatures_of(output / BEST, checkpoints), output / REFIT)
        refitted.remove_states([trial.number for trial in best])
        refitted.ownership.give_up()


def _begun(best: Sequence[Trial], refitted: TrialFolders, plan: Plan) -> list[Trial]:
    """Return what is known of each network's second training; one that failed begins anew, and those of other
    trials are removed.
    """
    recipe = RECIPES[plan.recipe]
    known = {trial.number: trial for trial in refitted.read()}
    begun = []
    for trial in best:
        wanted = recipe.refitted(trial.hyperparameters, trial.best_epoch)
        before = known.get(trial.number)
        if before is not None and before.hyperparameters == wanted and not before.error:
            begun.append(before)
        else:
            refitted.remove(trial.number)
            begun.append(Trial(number=trial.number, hyperparameters=wanted, status="interrupted"))
    for number in known.keys() - {trial.number for trial in best}:
        refitted.remove(number)
    return begun


def _with_temperatures_of(best: Location, checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    calibrated = networks(load_checkpoint(best))
    return [
        replace(checkpoint, temperature=one.temperature)
        for checkpoint, one in zip(checkpoints, calibrated, strict=True)
    ]
