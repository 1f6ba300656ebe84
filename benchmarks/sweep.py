"""A sweep beside the same trials without a scheduler and on Ray Tune as it comes:
`python -m benchmarks.sweep`.

Trials of one small network (4/4/4 filters, kernels of 3, batch size 64) on data as large as the reference
sample: 559 series of length 100. The ideal is the time of their training in one plain, warm process for each
core that gets its next trial at once. All use a Ray that runs already. Takes about 15 minutes.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cyclopts
import numpy as np
import ray
from ray import tune

from benchmarks.networks import LENGTH, NETWORKS
from lstmfcn.classes import ClassLabels
from lstmfcn.cluster import connection
from lstmfcn.dataset import Dataset
from lstmfcn.devices import use_threads
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.plan import Plan
from lstmfcn.search_space import SearchSpace
from lstmfcn.sweep import sweep
from lstmfcn.training import fit

NETWORK = NETWORKS["small"] | {"batch_size": 64}
SHORT_EPOCHS = 30


def main(*, repeats: int = 3, long_trials: int = 4, long_epochs: int = 1400, with_tune: bool = True) -> None:
    """Print the seconds of each contestant, then a line of JSON.

    Args:
        repeats: Runs of each contestant.
        long_trials: Trials of the long sweep; 0 leaves it out.
        long_epochs: Epochs of each of these.
        with_tune: Whether Tune as it comes takes part.
    """
    data = _dataset(559, seed=0), _dataset(141, seed=1)
    contests: list[tuple[str, Callable[[], float]]] = []
    for name, trials, epochs in (
        ("16", 16, SHORT_EPOCHS),
        ("64", 64, SHORT_EPOCHS),
        ("long", long_trials, long_epochs),
    ):
        if trials:
            contests.append((f"ideal {name}", partial(_ideal, data, trials, epochs)))
            contests.append((f"ours {name}", partial(_ours, data, trials, epochs)))
    if with_tune:
        contests.append(("tune 16", partial(_tune, data, 16, SHORT_EPOCHS)))
    seconds: dict[str, list[float]] = {name: [] for name, _ in contests}
    with connection():
        ray.get(ray.remote(lambda: None).remote())
        for _ in range(repeats):
            for name, run in contests:
                seconds[name].append(run())
                print(f"{name:<10} {seconds[name][-1]:7.2f} s", flush=True)
    median = {name: statistics.median(taken) for name, taken in seconds.items()}
    over = {n: median[f"ours {n}"] - median[f"ideal {n}"] for n in ("16", "64")}
    results = {
        "short_overhead_seconds": round(over["16"], 2),
        "overhead_per_trial_seconds": round((over["64"] - over["16"]) / 48, 3),
    }
    if long_trials:
        results["long_overhead"] = round(median["ours long"] / median["ideal long"], 3)
    if with_tune:
        results["vs_tune_default_short"] = round(median["tune 16"] / median["ours 16"], 2)
    print(json.dumps(results))


def _dataset(num_cases: int, seed: int) -> Dataset:
    """Return series in three classes: a sine, a square wave and a ramp, in noise."""
    random = np.random.default_rng(seed)
    targets = np.arange(num_cases) % 3
    steps = np.linspace(0, 4 * np.pi, LENGTH) + random.uniform(0, 2 * np.pi, (num_cases, 1))
    shapes = np.stack([np.sin(steps), np.sign(np.sin(steps)), steps % (2 * np.pi) - np.pi])
    series = shapes[targets, np.arange(num_cases)] + random.normal(0, 0.5, steps.shape)
    return Dataset(series.astype(np.float32), targets, ClassLabels(["ramp", "sine", "square"]))


def _hyperparameters(epochs: int) -> Hyperparameters:
    return Hyperparameters(**NETWORK, epochs=epochs)


def _ideal(data: tuple[Dataset, Dataset], num_trials: int, epochs: int) -> float:
    """Return the seconds from the first trial's start to the last one's end, in plain processes."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(os.cpu_count(), use_threads, (1,)) as pool:
        warm = [(data, 1)] * (8 * (os.cpu_count() or 1))
        pool.map(_train, warm, chunksize=1)
        started = time.perf_counter()
        pool.map(_train, [(data, epochs)] * num_trials, chunksize=1)
        return time.perf_counter() - started


def _train(job: tuple[tuple[Dataset, Dataset], int]) -> None:
    (training, validation), epochs = job
    for _ in fit(training, validation, _hyperparameters(epochs)):
        pass


def _ours(data: tuple[Dataset, Dataset], num_trials: int, epochs: int) -> float:
    space = SearchSpace.from_mapping({**NETWORK, "epochs": epochs})
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        sweep(*data, space, Plan(num_trials=num_trials, scheduler="none"), Path(folder))
        return time.perf_counter() - started


def _tune(data: tuple[Dataset, Dataset], num_trials: int, epochs: int) -> float:
    """Return the seconds on Tune as its documentation has it: a function that reports every epoch."""

    def train(config: dict[str, Any], training: Dataset, validation: Dataset) -> None:
        use_threads(1)
        for epoch in fit(training, validation, Hyperparameters(**config)):
            tune.report(dict(epoch.metrics))

    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        trainable = tune.with_parameters(train, training=data[0], validation=data[1])
        tune.Tuner(
            trainable,
            param_space=_hyperparameters(epochs).model_dump(),
            tune_config=tune.TuneConfig(metric="valid_accuracy", mode="max", num_samples=num_trials),
            run_config=tune.RunConfig(storage_path=folder),
        ).fit()
        return time.perf_counter() - started


if __name__ == "__main__":
    cyclopts.run(main)
