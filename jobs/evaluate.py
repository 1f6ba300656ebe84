"""Score a checkpoint on labelled data: `python -m jobs.evaluate --help`."""

from __future__ import annotations

from json import dumps

from lstmfcn import evaluation, storage
from lstmfcn.command import LocationFlag, run
from lstmfcn.dataset import read_labelled
from lstmfcn.devices import Precision, visible_devices
from lstmfcn.identifiers import Identifiers
from lstmfcn.predictor import Predictor


def evaluate(
    *,
    checkpoint: LocationFlag,
    data: LocationFlag,
    output: LocationFlag | None = None,
    id_columns: str = "",
    json: bool = False,
    num_gpus: int | None = None,
    precision: Precision = "fp32",
    overwrite: bool = False,
) -> None:
    """Score a checkpoint on labelled data: accuracy, and precision, recall and F1 of each class.

    With an output folder, also writes evaluation.json and confusion-matrix.png.

    ```
    python -m jobs.evaluate --checkpoint model --data test.csv --output evaluation
    ```

    Args:
        checkpoint: Folder written by jobs.train, or the best/ folder of jobs.tune.
        data: CSV file, or folder of CSV files: the label first, then the series; or
            with a header, columns y_1, y_2, ... of labels and x_1, x_2, ... of series (of several channels
            x1_1, x1_2, ..., x2_1, ...).
        output: Folder for evaluation.json and confusion-matrix.png.
        id_columns: Positions, from 1, of columns that are neither label nor series, such as 1,2, or their
            names in a header, such as patient,visit; they are left out.
        json: Print one JSON object and nothing else.
        num_gpus: GPUs to predict on, 0 or 1. One if there is one, by default.
        precision: What the convolutions compute in: fp32; bf16; fp16 (on GPUs); auto, which is bf16 where the
            hardware computes in it, else fp32.
        overwrite: Replace the result that the output folder holds.
    """
    if output is not None:
        storage.check_output(output, "evaluation.json", overwrite=overwrite)
    predictor = Predictor.load(checkpoint, visible_devices(num_gpus)[0], precision)
    identifiers = Identifiers.parse(id_columns)
    labelled = read_labelled(
        data, predictor.classes, predictor.length, predictor.task, identifiers, predictor.treatment
    )
    scores = evaluation.evaluate(predictor, labelled)
    if output is not None:
        scores.save(output)
    print(dumps(scores.summary) if json else scores.table())


if __name__ == "__main__":
    run(evaluate, "python -m jobs.evaluate")
