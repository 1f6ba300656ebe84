"""The parser beside numpy and pandas: `python -m benchmarks.parser`."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd

from benchmarks.networks import LENGTH
from benchmarks.timing import interleaved
from lstmfcn.series import parse_series
from lstmfcn.treatment import Treatment

TREATED = Treatment(missing="interpolate", length="resample")


def with_gaps(data: bytes, random: np.random.Generator) -> bytes:
    """Return the data with about every fiftieth cell, at random, left empty."""
    lines = [line.split(b",") for line in data.splitlines()]
    return b"".join(
        [b",".join([cell if random.random() > 0.02 else b"" for cell in line]) + b"\n" for line in lines]
    )


def cut(data: bytes, random: np.random.Generator) -> bytes:
    """Return the data with every row but the first ending somewhere in its second half."""
    first, *others = [line.split(b",") for line in data.splitlines()]
    lines = [first, *[line[: random.integers(LENGTH // 2, LENGTH)] for line in others]]
    return b"".join([b",".join(line) + b"\n" for line in lines])


def main() -> None:
    """Print seconds and rates for one row, 150 rows and 32 MB, also with every fiftieth value missing or with
    series that end early; then a line of JSON.
    """
    random = np.random.default_rng(0)
    results: dict[str, float] = {}
    for name, num_rows in (("1_row", 1), ("150_rows", 150), ("32_mb", 16_500)):
        lines = [",".join(map(repr, row)) for row in random.normal(size=(num_rows, LENGTH)).tolist()]
        data = ("\n".join(lines) + "\n").encode()
        treated = {"missing": with_gaps(data, random), "unequal": cut(data, random)}
        contestants = {
            "ours": lambda data=data: parse_series(data, source="benchmark"),
            **{
                kind: lambda data=one: parse_series(data, source="benchmark", treatment=TREATED)
                for kind, one in treated.items()
            },
            "pandas": lambda data=data: pd.read_csv(io.BytesIO(data), header=None, dtype=np.float32),
        }
        if num_rows < 1000:
            contestants["numpy"] = lambda data=data: np.loadtxt(
                io.BytesIO(data), np.float32, delimiter=",", ndmin=2
            )
        repeats = 5 if num_rows > 1000 else 101
        seconds = interleaved(contestants, repeats)
        for contestant, taken in seconds.items():
            rate = len(treated.get(contestant, data)) / taken / 1e6
            print(f"{name:>9}  {contestant:<7} {taken * 1e3:9.3f} ms {rate:7.0f} MB/s")
            if contestant != "ours":
                results[f"{name}_vs_{contestant}"] = round(taken / seconds["ours"], 2)
        results[f"{name}_ms"] = round(seconds["ours"] * 1e3, 3)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
