"""Training beside a plain module, DataLoader, Adam and `.item()`: `python -m benchmarks.training`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import naive
from benchmarks.networks import LENGTH, NETWORKS
from benchmarks.timing import interleaved, shares
from lstmfcn.classes import ClassLabels
from lstmfcn.dataset import Dataset
from lstmfcn.devices import CPU, supported_precision, use_threads
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.training import fit

CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "default": (256, {"batch_size": 128}),
    "small": (700, NETWORKS["small"] | {"batch_size": 64}),
}
"""Number of series in the training set and hyperparameters, by network."""


def main() -> None:
    """Print a table of series per second, profiles, and a line of JSON."""
    has_bf16 = supported_precision("auto", CPU) == "bf16"
    results: dict[str, float] = {}
    profiles: list[str] = []
    print(f"{'network':<8} {'threads':>7}  series/s (times as fast as naive)")
    for name, (num_series, chosen) in CASES.items():
        dataset = _dataset(num_series)
        hyperparameters = Hyperparameters(**chosen, epochs=1000)
        for threads in sorted({1, os.cpu_count() or 1}):
            use_threads(threads)
            runs: dict[str, Iterator[object]] = {
                "naive": naive.epochs(dataset, hyperparameters),
                "fp32": fit(dataset, hyperparameters=hyperparameters),
            }
            if name == "default" and (has_bf16 or threads == 1):
                runs["bf16"] = fit(dataset, hyperparameters=hyperparameters, precision="bf16")
            turns = {who: lambda run=run: next(run) for who, run in runs.items()}
            seconds = interleaved(turns, repeats=21 if name == "small" else 5)
            rates = {who: num_series / taken for who, taken in seconds.items()}
            cells = [f"{who} {rate:,.0f} ({rate / rates['naive']:.2f})" for who, rate in rates.items()]
            print(f"{name:<8} {threads:>7}  {'  '.join(cells)}", flush=True)
            if threads == 1:
                for who in rates.keys() - {"naive"}:
                    results[f"{who if name == 'default' else name}_vs_naive"] = round(
                        rates[who] / rates["naive"], 2
                    )
                profiles += [f"{name} network, fp32, one thread; shares of the time:"]
                profiles += [f"  {line}" for line in shares(turns["fp32"])]
    print(*profiles, sep="\n")
    if not has_bf16:
        print("this CPU has no instructions for bf16: PyTorch emulates it")
    print(json.dumps(results))


def _dataset(num_series: int) -> Dataset:
    random = np.random.default_rng(0)
    series = random.normal(size=(num_series, LENGTH)).astype(np.float32)
    return Dataset(series, random.integers(0, 5, num_series), ClassLabels(list("abcde")))


if __name__ == "__main__":
    main()
