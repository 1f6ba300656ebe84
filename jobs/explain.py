"""Show which parts of a series support its predicted class: `python -m jobs.explain --help`."""

from __future__ import annotations

from jobs.place import run_in_place
from lstmfcn import explanation, output_folder, storage
from lstmfcn.command import Count, LocationFlag
from lstmfcn.devices import use_threads
from lstmfcn.ensemble import load_checkpoint
from lstmfcn.errors import DataError, counted
from lstmfcn.series import parse_series


def explain(
    *,
    checkpoint: LocationFlag,
    data: LocationFlag,
    rows: str = "1",
    output: LocationFlag,
    num_cpus: Count | None = None,
    overwrite: bool = False,
) -> None:
    """Show which parts of a series support its predicted class, by a class activation map.

    Writes a picture of each series (row-1.png for row 1), red where a time step supports the class and blue
    where it counts against it, and explanation.csv with the values: how much each step, in all channels
    together, adds to the class's logit beyond the mean of all classes. The recurrent block sees whole
    channels at once, so it has one value. For an ensemble, the values are the mean over its networks.

    ```
    python -m jobs.explain --checkpoint sweep/best --data data.csv --rows 1,5,9 --output explanation
    ```

    Args:
        checkpoint: Folder written by jobs.train, or the best/ or refit/ folder of jobs.tune.
        data: CSV file of series without labels.
        rows: Which rows to show, from 1, separated by commas; a header isn't counted.
        output: Folder for the pictures and explanation.csv.
        num_cpus: CPUs to compute with; by default all of this machine's or, on a cluster, one.
        overwrite: Replace the result that the output folder holds.
    """
    use_threads(num_cpus)
    output_folder.check(output, *explanation.RESULT_PATTERNS, overwrite=overwrite)
    numbers = _row_numbers(rows)
    network = load_checkpoint(checkpoint)
    series = parse_series(
        storage.read_bytes(data), source=str(data), num_values=network.num_values, treatment=network.treatment
    )
    if max(numbers) > len(series):
        raise DataError(f"--rows names row {max(numbers)}; {data} has {counted(len(series), 'row')}")
    chosen = series[[number - 1 for number in numbers]]
    explanation.explain(network, chosen).save(output, numbers, chosen, network)
    print(f"{len(numbers)} series explained in {output}")


def _row_numbers(text: str) -> list[int]:
    """Return the row numbers in order, each once. Raises DataError."""
    try:
        numbers = sorted({int(part) for part in text.split(",")})
    except ValueError:
        numbers = [0]
    if numbers[0] < 1:
        raise DataError(f"--rows is {text!r}; it must be numbers from 1, separated by commas")
    return numbers


if __name__ == "__main__":
    run_in_place(explain, "python -m jobs.explain")
