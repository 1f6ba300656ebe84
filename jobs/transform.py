"""Predict CSV files of any size: `python -m jobs.transform --help`."""

from __future__ import annotations

import time
from pathlib import Path

from lstmfcn import storage
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.cluster import connection
from lstmfcn.command import Count, NotNegative, run
from lstmfcn.devices import Precision
from lstmfcn.errors import DataError, OutputError
from lstmfcn.progress import Progress
from lstmfcn.transform import RESULT_PATTERNS, FileResult, find_inputs
from lstmfcn.transform import transform as transform_files


def transform(
    *,
    checkpoint: Path,
    input: Path,
    output: Path | None = None,
    check: bool = False,
    predictors: Count | None = None,
    gpus_per_predictor: NotNegative = 0,
    precision: Precision = "fp32",
    overwrite: bool = False,
) -> None:
    """Predict the label of every series in CSV files of any size, on Ray.

    Writes one file `<relative input path>.out` for each input file, with one line for each row,
    in the order of the rows. A file with a fault gets none; the others go on.

    ```
    python -m jobs.transform --checkpoint sweep/best --input data.csv --output predictions
    ```

    Args:
        checkpoint: Folder written by jobs.train, or the best/ folder of jobs.tune.
        input: CSV file of series without labels, or a folder, of which all *.csv and *.csv.gz are taken.
        output: Folder for the predictions; on a cluster, one that all its nodes share.
        check: Only read the input, and report rows, length and the first fault of each file.
        predictors: Predictor processes. As many as fit the cluster, by default.
        gpus_per_predictor: GPUs for each predictor; a fraction shares one.
        precision: What the convolutions compute in: fp32; bf16; fp16 (on GPUs); auto, which is bf16 where the
            hardware computes in it, else fp32.
        overwrite: Replace the result that the output folder holds.
    """
    if check:
        output = None
    elif output is None:
        raise OutputError("--output is missing; only --check works without it")
    else:
        storage.check_output(output, *RESULT_PATTERNS, overwrite=overwrite)
    loaded = Checkpoint.load(checkpoint)
    files, skipped = find_inputs(input, output)
    if skipped:
        names = ", ".join(str(file.relative_to(input)) for file in skipped)
        print(f"skipped, for they are not *.csv or *.csv.gz: {names}")
    started = time.monotonic()
    megabytes = sum(file.size for file in files) / 1e6
    with connection(), Progress("checked" if check else "predicted", megabytes, "MB") as progress:
        results = transform_files(
            loaded,
            files,
            output,
            num_predictors=predictors,
            gpus_per_predictor=gpus_per_predictor,
            precision=precision,
            on_range=lambda done: progress.advance(work=(done.end - done.start) / 1e6),
        )
    _report(results, loaded.length, output, time.monotonic() - started)


def _report(results: list[FileResult], length: int, output: Path | None, seconds: float) -> None:
    sound = [result for result in results if not result.fault]
    num_rows = sum(result.num_rows for result in sound)
    if sound:
        files = "1 file" if len(sound) == 1 else f"{len(sound):,} files"
        computed_in = ", ".join(sorted(set.union(*(result.precisions for result in sound))))
        outcome = "found sound" if output is None else f"predicted in {computed_in} to {output}"
        print(f"{num_rows:,} rows of length {length} in {files} {outcome} in {seconds:.1f} s")
    faults = [result.fault for result in results if result.fault]
    if faults:
        raise DataError("\n".join(faults))


if __name__ == "__main__":
    run(transform, "python -m jobs.transform")
