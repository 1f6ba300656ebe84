"""Score a checkpoint on labelled data: `python -m jobs.evaluate --help`."""

from __future__ import annotations

from json import dumps

from jobs.place import run_in_place
from lstmfcn import evaluation, output_folder
from lstmfcn.command import Count, LocationFlag, OneOrNone
from lstmfcn.dataset import digest, read_labelled
from lstmfcn.devices import Precision, use_threads, visible_devices
from lstmfcn.ensemble import load_checkpoint
from lstmfcn.identifiers import Identifiers
from lstmfcn.predictor import Predictor


def evaluate(
    *,
    checkpoint: LocationFlag,
    data: LocationFlag,
    output: LocationFlag | None = None,
    id_columns: str = "",
    json: bool = False,
    num_cpus: Count | None = None,
    num_gpus: OneOrNone | None = None,
    precision: Precision = "fp32",
    resume: bool = False,
    overwrite: bool = False,
) -> None:
    """Score a checkpoint on labelled data: accuracy, and precision, recall and F1 of each class.

    With an output folder, also writes evaluation.json and confusion-matrix.png.

    ```
    python -m jobs.evaluate --checkpoint model --data test.csv --output evaluation
    ```

    Args:
        checkpoint: Folder written by jobs.train, or the best/ or refit/ folder of jobs.tune.
        data: CSV file, or folder of CSV files: the label first, then the series; or
            with a header, columns y_1, y_2, ... of labels and x_1, x_2, ... of series (of several channels
            x1_1, x1_2, ..., x2_1, ...).
        output: Folder for evaluation.json and confusion-matrix.png.
        id_columns: Positions, from 1, of columns that are neither label nor series, such as 1,2, or their
            names in a header, such as patient,visit; they are left out.
        json: Print one JSON object and nothing else.
        num_cpus: CPUs to compute with; by default all of this machine's or, on a cluster, one.
        num_gpus: GPUs to predict on, 0 or 1. One if there is one, by default; on a cluster, none.
        precision: What the convolutions compute in: fp32; bf16; fp16 (on GPUs); auto, which is bf16 where the
            hardware computes in it, else fp32.
        resume: Leave the result that the output folder holds, if it is of the same checkpoint, data and
            precision; else replace it.
        overwrite: Replace the result that the output folder holds.
    """
    use_threads(num_cpus)
    output_folder.refuse_resume_and_overwrite(resume=resume, overwrite=overwrite)
    if output is not None:
        output_folder.check(output, *evaluation.RESULT_NAMES, overwrite=overwrite or resume)
    loaded = load_checkpoint(checkpoint)
    predictor = Predictor(loaded, visible_devices(num_gpus)[0], precision)
    identifiers = Identifiers.parse(id_columns)
    labelled = read_labelled(data, predictor, identifiers)
    inputs = {"checkpoint": loaded.digest(), "data": digest(labelled)}
    if output is not None and resume:
        summary = evaluation.recorded(output, predictor.precision, **inputs)
        if summary is not None:
            held = f"{output} holds this evaluation already: accuracy {summary['accuracy']:.4f}"
            print(dumps(summary) if json else held)
            return
    scores = evaluation.evaluate(predictor, labelled)
    if output is not None:
        scores.save(output, **inputs)
    print(dumps(scores.summary) if json else scores.table())


if __name__ == "__main__":
    run_in_place(evaluate, "python -m jobs.evaluate")
