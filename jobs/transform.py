"""Predict CSV files of any size: `python -m jobs.transform --help`."""

from __future__ import annotations

from typing import Literal

from lstmfcn import output_folder
from lstmfcn.cluster import connection
from lstmfcn.command import Count, GpuShare, LocationFlag, NotNegativeCount, run
from lstmfcn.devices import Precision
from lstmfcn.ensemble import AnyCheckpoint, load_checkpoint
from lstmfcn.errors import DataError, OutputError
from lstmfcn.identifiers import Identifiers
from lstmfcn.journal import RESULT_PATTERNS, Journal
from lstmfcn.outcome import Summary, in_lines
from lstmfcn.prediction_format import PredictionFormat, parse_columns
from lstmfcn.progress import Progress
from lstmfcn.range_prediction import MARK, BadRows
from lstmfcn.ranges import find_inputs
from lstmfcn.storage import Location
from lstmfcn.transform import Advance, Options
from lstmfcn.transform import transform as transform_files

_MOST_SKIPPED = 10
"""Most skipped files that are named."""


def transform(
    *,
    checkpoint: LocationFlag,
    input: LocationFlag,
    output: LocationFlag | None = None,
    columns: str | None = None,
    id_columns: str = "",
    join: Literal["input"] | None = None,
    bad_rows: BadRows = "fail",
    max_bad_rows: NotNegativeCount | None = None,
    resume: bool = False,
    check: bool = False,
    predictors: Count | None = None,
    gpus_per_predictor: GpuShare = 0,
    precision: Precision = "fp32",
    overwrite: bool = False,
) -> None:
    """Predict the label of every series in CSV files of any size, on Ray.

    Writes one file `<relative input path>.out` for each input file, with one line for each row,
    in the order of the rows, and transform.json with counts and rates. The output of a file with a header
    begins with one too. A file with a fault gets no output; the others go on. What was interrupted goes on
    with --resume.

    ```
    python -m jobs.transform --checkpoint sweep/best --input data.csv --output predictions
    ```

    Args:
        checkpoint: Folder written by jobs.train, or the best/ or refit/ folder of jobs.tune.
        input: CSV file of series without labels, or a folder, of which all *.csv and *.csv.gz are taken.
        output: Folder for the predictions; on a cluster, one that all its nodes share.
        columns: What to write of each prediction: label, probabilities (one for each class, in the order of
            the classes), or label,probabilities. By default the label; for a file with a header, both.
        id_columns: Positions, from 1, of input columns that are no part of the series, such as 1,2, or their
            names in a header, such as patient,visit; they are copied to the output, before the prediction.
        join: With input, the whole input line is written before the prediction.
        bad_rows: fail, and the file gets no output; or mark: ERROR stands for the prediction, and
            `<relative input path>.rejects.csv` has row number, reason and line.
        max_bad_rows: With --bad-rows mark, a file with more gets no output.
        resume: Go on with a transform to this output folder that was interrupted; one that has ended stays
            as it is.
        check: Only read the input, and report rows, length and the faults of each file.
        predictors: Predictor processes. As many as fit the cluster, by default.
        gpus_per_predictor: GPUs for each predictor, at most 1; a fraction shares one.
        precision: What the convolutions compute in: fp32; bf16; fp16 (on GPUs); auto, which is bf16 where the
            hardware computes in it, else fp32.
        overwrite: Replace the result that the output folder holds.
    """
    line_format = PredictionFormat(
        None if columns is None else parse_columns(columns),
        Identifiers.parse(id_columns),
        join_input=join == "input",
    )
    if check:
        output = None
    elif output is None:
        raise OutputError("--output is missing; only --check works without it")
    elif not resume:
        _refuse_unfinished(output, overwrite=overwrite)
        output_folder.check(output, *RESULT_PATTERNS, overwrite=overwrite)
    output_folder.refuse_resume_and_overwrite(resume=resume, overwrite=overwrite)
    if max_bad_rows is not None and bad_rows == "fail":
        raise DataError("--max-bad-rows is for --bad-rows mark; --bad-rows fail takes none")
    loaded = load_checkpoint(checkpoint)
    if bad_rows == "mark" and MARK.decode() in loaded.classes.names:
        raise DataError("a class is named ERROR, which is what --bad-rows mark writes; use --bad-rows fail")
    files, skipped = find_inputs(input, output)
    if skipped:
        some = ", ".join(skipped[:_MOST_SKIPPED]).encode(errors="backslashreplace").decode()
        more = f" and {len(skipped) - _MOST_SKIPPED:,} more" if len(skipped) > _MOST_SKIPPED else ""
        print(f"skipped (neither *.csv nor *.csv.gz, or a list of bad rows): {some}{more}")
    options = Options(
        format=line_format,
        bad_rows=bad_rows,
        max_bad_rows=max_bad_rows,
        precision=precision,
        num_predictors=predictors,
        gpus_per_predictor=gpus_per_predictor,
    )
    megabytes = sum(file.size for file in files) / 1e6
    with connection(), Progress("checked" if check else "predicted", megabytes, "MB") as progress:

        def on_advance(advance: Advance) -> None:
            megabytes_done, progress.state = advance.num_bytes / 1e6, advance.files
            if advance.is_new:
                progress.count("rows", advance.num_rows)
                progress.advance(work=megabytes_done)
            else:
                progress.skip(megabytes_done)

        try:
            summary = transform_files(loaded, files, output, options, resume=resume, on_advance=on_advance)
        except KeyboardInterrupt:
            if output is not None and Journal(output).can_go_on():
                print(f"{output} keeps what is done; the same command with --resume goes on", flush=True)
            raise
    _report(summary, loaded, output, gpus_per_predictor)


def _refuse_unfinished(output: Location, *, overwrite: bool) -> None:
    if not overwrite and Journal(output).is_unfinished():
        raise OutputError(
            f"--output {output} holds an unfinished transform;"
            " --resume goes on with it, --overwrite starts over"
        )


def _report(
    summary: Summary, checkpoint: AnyCheckpoint, output: Location | None, gpus_per_predictor: float
) -> None:
    sound = [file for file in summary.files if file.is_sound]
    if sound:
        num_rows = sum(file.num_rows for file in sound)
        files = "1 file" if len(sound) == 1 else f"{len(sound):,} files"
        outcome = "found sound" if output is None else f"predicted in {summary.precision} to {output}"
        took = f"{summary.seconds:.1f} s"
        channels = "" if checkpoint.channels == 1 else f" in {checkpoint.channels} channels"
        rows = "1 row" if num_rows == 1 else f"{num_rows:,} rows"
        print(f"{rows} of length {checkpoint.length}{channels} in {files} {outcome} in {took}")
    if output is not None and gpus_per_predictor > 0:
        wanted = f"it takes {summary.cpus_per_predictor:.1f} CPUs that read to keep one busy"
        print(f"predictors were busy {summary.predictor_busy:.0%} of the time; {wanted}")
    marked = sum(file.num_bad for file in sound)
    if marked:
        become = "would be" if output is None else "are" if marked > 1 else "is"
        rows = "1 bad row" if marked == 1 else f"{marked:,} bad rows"
        print(f"{rows} {become} marked ERROR and listed in *.rejects.csv")
    faults = [file.faults for file in summary.files if not file.is_sound]
    if faults:
        raise DataError(in_lines(faults))


if __name__ == "__main__":
    run(transform, "python -m jobs.transform")
