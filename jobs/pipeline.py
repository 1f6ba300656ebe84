"""The whole route in one job: `python -m jobs.pipeline --help`."""

from __future__ import annotations

import os
import sys

from jobs.evaluate import evaluate
from jobs.place import placed
from jobs.transform import transform
from jobs.tune import PlanFlags, tune
from lstmfcn import output_folder, storage
from lstmfcn.command import GpuShare, LocationFlag, run
from lstmfcn.ensemble import load_checkpoint
from lstmfcn.environment import cluster_is_given
from lstmfcn.journal import Journal
from lstmfcn.plan import Plan
from lstmfcn.record import RECORD
from lstmfcn.results import BEST
from lstmfcn.storage import Location
from lstmfcn.sweep import REFIT


def pipeline(
    *,
    training: LocationFlag,
    validation: LocationFlag | None = None,
    test: LocationFlag | None = None,
    input: LocationFlag | None = None,
    output: LocationFlag,
    id_columns: str = "",
    refit: bool = False,
    search_space: LocationFlag | None = None,
    plan: PlanFlags = Plan(),
    columns: str | None = None,
    gpus_per_predictor: GpuShare = 0,
    deploy: bool = False,
    overwrite: bool = False,
) -> None:
    """Tune, evaluate the best, transform files with it, and serve it if asked: jobs.tune, jobs.evaluate,
    jobs.transform and the endpoint, one after the other.

    Writes to the output folder: sweep/, evaluation/ and predictions/, as those jobs do. The same command goes
    on with what was interrupted and leaves what is done; predictions and scores of a checkpoint that is no
    longer the best are replaced, and so are scores of other test data. Any other change is refused unless
    jobs.tune --resume would take it, or --overwrite is given.

    ```
    python -m jobs.pipeline --training train.csv --test test.csv --input data.csv --output route
    ```

    Args:
        training: CSV file, or folder of CSV files, to tune with: the label first, then the series; or
            with a header.
        validation: The same, for comparing epochs and trials; else a fifth of the training data is held out.
        test: The same, to evaluate the best with; without it that is left out.
        input: CSV file of series without labels, or a folder of such files, to transform; without it that is
            left out.
        output: Folder for the results; on a cluster, one that all its nodes share.
        id_columns: Positions, from 1, of columns that are neither label nor series, such as 1,2, or their
            names in a header, such as patient,visit.
        refit: Train the best again on the validation data too, as jobs.tune --refit does, and go on with
            that.
        search_space: YAML file of what to try, as of jobs.tune.
        plan: How the sweep goes.
        columns: What to write of each prediction, as of jobs.transform.
        gpus_per_predictor: GPUs for each process of the transform, at most 1; a fraction shares one.
        deploy: Then serve the best: on this machine, on port 8080, until Ctrl-C; or, when a cluster is given,
            on the cluster, where it stays after the job and replaces what Ray Serve serves there.
        overwrite: Replace the results that the output folder holds.
    """
    output_folder.refuse_within(output, training, validation, test, input)
    sweep = output / "sweep"
    best = sweep / (REFIT if refit else BEST)
    print("sweep", flush=True)
    tune(
        training=training,
        validation=validation,
        output=sweep,
        id_columns=id_columns,
        refit=refit,
        search_space=search_space,
        plan=plan,
        resume=not overwrite and RECORD in storage.names(sweep),
        overwrite=overwrite,
    )
    if test is not None:
        _evaluate(best, test, output / "evaluation", id_columns)
    if input is not None:
        _transform(
            best, input, output / "predictions", id_columns, columns, gpus_per_predictor, overwrite=overwrite
        )
    if deploy:
        _deploy(best)


def _evaluate(best: Location, test: Location, output: Location, id_columns: str) -> None:
    print("\nevaluation", flush=True)
    given = {"checkpoint": best, "data": test, "output": output}
    flags = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    if id_columns:
        flags += ["--id-columns", id_columns]
    placed(evaluate, [*flags, "--resume"])(**given, id_columns=id_columns, resume=True)


def _transform(
    best: Location,
    input: Location,
    output: Location,
    id_columns: str,
    columns: str | None,
    gpus_per_predictor: float,
    *,
    overwrite: bool,
) -> None:
    print("\ntransform", flush=True)
    journal = Journal(output)
    is_of_best = not overwrite and journal.checkpoint() == load_checkpoint(best).digest()
    transform(
        checkpoint=best,
        input=input,
        output=output,
        id_columns=id_columns,
        columns=columns,
        gpus_per_predictor=gpus_per_predictor,
        resume=is_of_best,
        overwrite=overwrite or (journal.holds_something() and not is_of_best),
    )


def _deploy(best: Location) -> None:
    print("\nendpoint", flush=True)
    path = str(best.resolve())
    if cluster_is_given():
        from serve_app.deployment import deploy  # noqa: PLC0415 (Ray Serve, which the others don't need)

        print(deploy(path, load_checkpoint(best)))
    else:
        os.execv(sys.executable, [sys.executable, "-m", "serve_app", "--checkpoint", path])  # noqa: S606


if __name__ == "__main__":
    run(pipeline, "python -m jobs.pipeline")
