"""Tune hyperparameters: `python -m jobs.tune --help`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Group, Parameter

from jobs.channels import read_channels
from lstmfcn import evaluation, output_folder, storage
from lstmfcn.cluster import connection
from lstmfcn.command import LocationFlag, run
from lstmfcn.dataset import Dataset, digest
from lstmfcn.ensemble import Ensemble, load_checkpoint
from lstmfcn.errors import DataError, HyperparameterError, OutputError, TrainingError
from lstmfcn.evaluation import EnsembleComparison
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.plan import Plan
from lstmfcn.predictor import Predictor
from lstmfcn.progress import say
from lstmfcn.record import Record
from lstmfcn.refit import OBJECTIVE
from lstmfcn.refit import refit as train_again
from lstmfcn.report import write_report
from lstmfcn.results import BEST
from lstmfcn.search_space import DEFAULT_RANGES, SearchSpace, read_points
from lstmfcn.start import CHOSEN, Start
from lstmfcn.storage import Location
from lstmfcn.sweep import EVALUATION, REFIT, REPORT, RESULT_NAMES, settled, sweep
from lstmfcn.sweep_view import SweepView
from lstmfcn.trials import LEADERBOARD, read_leaderboard

PlanFlags = Annotated[Plan, Parameter(name="*", group=Group("Sweep", sort_key=1))]


def tune(
    *,
    training: LocationFlag | None = None,
    validation: LocationFlag | None = None,
    output: LocationFlag | None = None,
    id_columns: str = "",
    checkpoint: LocationFlag | None = None,
    new_classes: bool = False,
    refit: bool = False,
    search_space: LocationFlag | None = None,
    points: LocationFlag | None = None,
    warm_start: tuple[LocationFlag, ...] = (),
    plan: PlanFlags = Plan(),
    resume: bool = False,
    overwrite: bool = False,
    print_search_space: bool = False,
    report: LocationFlag | None = None,
) -> None:
    """Tune hyperparameters: train many networks in parallel on Ray and keep the best.

    Writes to the output folder: best/ (the checkpoint of the best epoch of the best trial),
    leaderboard.csv (a row for each trial), report.html (all of it in pictures), evaluation/ (the best
    on the validation data), sweep.json and trials/. Without validation data, a fifth of every class of
    the training data is held out (of a multilabel training file, a fifth of all series); --refit then trains
    the best again on all of it, for refit/. Ctrl-C ends the sweep and keeps what there is; the same command
    with --resume goes on.

    ```
    python -m jobs.tune --training train.csv --validation valid.csv --output sweep --num-trials 20
    ```

    Args:
        training: CSV file, or folder of CSV files: the label first, then the series; or
            with a header, columns y_1, y_2, ... of labels and x_1, x_2, ... of series (of several channels
            x1_1, x1_2, ..., x2_1, ...). Needed, as --output is, except with --print-search-space or
            --report.
        validation: The same, for comparing epochs and trials.
        output: Folder for the results; on a cluster, one that all its nodes share.
        id_columns: Positions, from 1, of columns that are neither label nor series, such as 1,2, or their
            names in a header, such as patient,visit; they are left out.
        checkpoint: Let every trial start from the weights of this checkpoint, with its network and scaling
            and a fresh optimiser; the search space may then vary lr, batch_size and epochs only.
        new_classes: Add classes that the training data has and the checkpoint doesn't know.
        refit: Then train the networks of best/ again, on the training and the validation data together, and
            write them to refit/, the checkpoint to use where series are few. Resuming without it removes the
            checkpoint in refit/, which may no longer be of the best, and keeps its trials.
        search_space: YAML file of what to try; --print-search-space prints one to begin from. By default
            hidden size, dropout, the first kernels' length and the learning rate, by the fast recipe.
        points: YAML file with a list of hyperparameters to try first. By default, for the default search
            space without --checkpoint, the default network.
        warm_start: Output folder of an earlier sweep for --search bayesian to learn from; may be repeated.
        plan: How the sweep goes.
        resume: Go on with the sweep in the output folder, after a crash, an interruption or for more trials.
        overwrite: Replace the result that the output folder holds.
        print_search_space: Print what would be tried, as YAML to begin from, with the recipe that goes
            with it, and end.
        report: Draw report.html again in this output folder of a sweep, and end.
    """
    start = None if checkpoint is None else Start.load(checkpoint)
    space, plan = what_to_try(search_space, plan, start)
    if print_search_space:
        print(f"# to be tried with --recipe {plan.recipe}\n{space.as_yaml()}", end="")
        return
    if report is not None:
        write_report(report)
        print(f"report: {report / REPORT}")
        return
    if training is None or output is None:
        raise DataError("--training and --output are needed; --help has an example")
    output_folder.refuse_resume_and_overwrite(resume=resume, overwrite=overwrite)
    if refit and plan.scheduler == "pbt":
        raise HyperparameterError("--refit trains by one set of hyperparameters; --scheduler pbt has several")
    if not resume:
        output_folder.check(output, *RESULT_NAMES, overwrite=overwrite)
    output_folder.refuse_within(output, training, validation)
    first = to_try_first(points, space, of_default=search_space is None and start is None)
    known = [trial for folder in warm_start for trial in read_leaderboard(folder)]
    train_set, valid_set = read_channels(
        training, validation, id_columns, plan, start, new_classes=new_classes
    )
    held_out = ""
    if valid_set is None:
        train_set, valid_set = train_set.split(share=0.2, seed=plan.seed)
        held_out = f"; held out for validation: {len(valid_set):,} series"
    settled_space, settled_points = settled(space, first, plan.recipe, len(train_set), start)
    most = settled_space.largest(settled_points).epochs
    print(f"training: {train_set}{held_out}; trials of at most {most} epochs", flush=True)
    with connection():
        try:
            with SweepView(plan.objective) as view:
                ranked = sweep(
                    train_set,
                    valid_set,
                    space,
                    plan,
                    output,
                    start=start,
                    points=first,
                    known=known,
                    resume=resume,
                    overwrite=overwrite,
                    view=view,
                )
        except (KeyboardInterrupt, TrainingError) as error:
            if _holds_sweep_of(output, train_set, valid_set):
                _conclude(output, valid_set)
                if isinstance(error, KeyboardInterrupt):
                    say(f"{output} keeps what is done, and the sweep can be resumed")
            raise
        _conclude(output, valid_set)
        say(f"best trial: {ranked[0].number}, checkpoint in {output / BEST}")
        say(f"all trials: {output / LEADERBOARD}, in pictures: {output / REPORT}")
        if refit:
            num_series = len(train_set) + len(valid_set)
            say(f"refit: what {BEST}/ holds is trained again, on {num_series:,} series")
            with SweepView(OBJECTIVE, "refit") as view:
                train_again(output, train_set, valid_set, start=start, view=view)
            say(f"refit: {output / REFIT}")


def what_to_try(search_space: Location | None, plan: Plan, start: Start | None) -> tuple[SearchSpace, Plan]:
    """Return the search space in the file and the plan; without a file, the default space and a plan with the
    fast recipe if none is asked for. With a start, the space has its network.
    """
    if search_space is not None:
        space = SearchSpace.read(search_space)
    else:
        names = DEFAULT_RANGES if start is None else DEFAULT_RANGES.keys() & CHOSEN
        space = SearchSpace.from_mapping({name: DEFAULT_RANGES[name] for name in names})
        if "recipe" not in plan.model_fields_set:
            plan = plan.model_copy(update={"recipe": "fast"})
    return (space if start is None else start.search_space(space)), plan


def to_try_first(points: Location | None, space: SearchSpace, *, of_default: bool) -> list[Hyperparameters]:
    """Return the points in the file or, without one, the default network for the default search space."""
    if points is not None:
        return read_points(points, space)
    return [Hyperparameters()] if of_default else []


def _holds_sweep_of(output: Location, training: Dataset, validation: Dataset) -> bool:
    """Return whether the output has a sweep of these data; else it has none, or one yet to be replaced."""
    try:
        return Record.read(output).data == digest(training, validation)
    except OutputError:
        return False


def _conclude(output: Location, validation: Dataset) -> None:
    """Score the best checkpoint and write the report, as far as the sweep has results."""
    results = storage.names(output)
    if BEST in results:
        checkpoint = load_checkpoint(output / BEST)
        predictor = Predictor(checkpoint)
        evaluation.evaluate(predictor, validation).save(output / EVALUATION)
        if isinstance(checkpoint, Ensemble):
            alone, num_networks = Predictor(checkpoint.members[0]), len(checkpoint.members)
            comparison = EnsembleComparison.of(predictor, alone, num_networks, validation)
            comparison.save(output / EVALUATION)
            print(comparison)
    if LEADERBOARD in results:
        write_report(output)


if __name__ == "__main__":
    run(tune, "python -m jobs.tune")
