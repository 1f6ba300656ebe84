"""Accuracy on a folder of data sets, beside what others published:
`python -m benchmarks.accuracy --data DIR`.

The folder has `<name>/train.csv` and `<name>/test.csv` for each set, and may have `published.tsv`. Networks
are trained in parallel on Ray Tune, one for each set and seed, with the default hyperparameters or, by
`--recipe paper`, those of the paper's scripts; test files are read after that, for the figures. With
`--num-trials` the networks of a set are the best of a sweep over the default search space, judged by a fifth
of the training series, and trained again on all of them. What is trained is kept in the output folder, where
a later run finds it.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cyclopts
from ray.tune import RunConfig, Tuner, grid_search, with_resources

from benchmarks import paper
from benchmarks.published import BASELINE, Result, pairs, published_figures, table, write
from jobs.tune import tune
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.cluster import allotted_devices, connection, set_up_worker
from lstmfcn.dataset import Dataset, read_labelled, read_training
from lstmfcn.ensemble import Ensemble, load_checkpoint, networks
from lstmfcn.evaluation import evaluate
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.plan import Plan
from lstmfcn.predictor import Predictor
from lstmfcn.recipe import RecipeName
from lstmfcn.record import RECORD, Record
from lstmfcn.sweep import REFIT
from lstmfcn.training import TrainingPrecision, fit
from lstmfcn.trials import TrialFolders

LEFT_OUT = ("Trace", "ElectricDevices")
"""Data sets left out: Trace's published figure is of a failed run, ElectricDevices has a goal of its own."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings that all networks have in common."""

    recipe: RecipeName
    precision: TrainingPrecision
    gpus: float


@dataclass(frozen=True, slots=True)
class Job:
    """A network to train."""

    training: Path
    output: Path
    seed: int
    hyperparameters: Hyperparameters
    settings: Settings

    @property
    def seconds(self) -> Path:
        """The file that says how long it took, written last."""
        return self.output / "seconds"


def main(
    *,
    data: Path,
    output: Path = Path("accuracy-results"),
    sets: str | None = None,
    recipe: RecipeName = "fast",
    seeds: int = 3,
    precision: TrainingPrecision = "fp32",
    gpus: float = 0,
    num_trials: int | None = None,
) -> None:
    """Print a table, then a line of JSON; write accuracy.csv and accuracy.png beside the networks.

    Args:
        data: Folder with a folder for each data set.
        output: Where what is trained is kept, and looked for.
        sets: Names of data sets, separated by commas; by default all but Trace and ElectricDevices.
        recipe: How the networks are trained.
        seeds: Networks for each set; with a sweep, how many of its best.
        precision: Precision of the training step.
        gpus: GPUs for each network, or a share of one such as 0.125; by default a CPU trains it.
        num_trials: Trials of a sweep for each set, in place of networks with the default hyperparameters.
    """
    names = sets.split(",") if sets else _names(data)
    kept = (output / f"{recipe}-{precision}{'-gpu' if gpus else ''}").resolve()
    if num_trials is None:
        settings = Settings(recipe, precision, gpus)
        by_seed = {
            name: [_candidates(data / name, kept / name, seed, settings) for seed in range(seeds)]
            for name in names
        }
        _train([job for of_set in by_seed.values() for candidates in of_set for job in candidates])
        results = [_of_seeds(data / name, by_seed[name]) for name in names]
    else:
        kept = kept / f"sweeps-of-{num_trials}"
        plan = Plan(
            num_trials=num_trials, ensemble=seeds, recipe=recipe, precision=precision, gpus_per_trial=gpus
        )
        with connection():
            for name in names:
                training, output = data / name / "train.csv", kept / name
                resume = (output / RECORD).is_file()
                tune(training=training, output=output, refit=True, plan=plan, resume=resume)
        results = [_of_sweep(data / name, kept / name) for name in names]
    published = published_figures(data / "published.tsv")
    print(table(results, published))
    write(kept, results, published)
    summary: dict[str, Any] = {
        "recipe": recipe,
        "num_trials": num_trials,
        "sets": len(results),
        "seeds": seeds,
        "mean": _mean([result.accuracy for result in results]),
        "mean_together": _mean([result.together for result in results]),
        "published_mean": _mean([other for _, other in pairs(results, published, BASELINE)]),
        "train_seconds": round(sum(result.seconds for result in results), 1),
    }
    print(json.dumps(summary))


def _names(data: Path) -> list[str]:
    found = sorted(path.parent.name for path in data.glob("*/train.csv"))
    return [name for name in found if name not in LEFT_OUT]


def _candidates(data: Path, kept: Path, seed: int, settings: Settings) -> list[Job]:
    """Return the networks to train for a set and a seed; one of them will be chosen."""
    training, folder = (data / "train.csv").resolve(), kept / str(seed)
    tried = paper.candidates(data.name) if settings.recipe == "paper" else [Hyperparameters()]
    return [Job(training, folder / _given(values), seed, values, settings) for values in tried]


def _given(hyperparameters: Hyperparameters) -> str:
    """Return the given hyperparameters as a folder's name."""
    given = hyperparameters.model_dump(exclude_unset=True)
    return ",".join(f"{name}={value}" for name, value in given.items()) or "default"


def _train(jobs: Sequence[Job]) -> None:
    jobs = [job for job in jobs if not job.seconds.is_file()]
    if not jobs:
        return
    largest_first = sorted(jobs, key=lambda job: -job.training.stat().st_size)
    with connection():
        Tuner(
            with_resources(_train_one, {"cpu": 1, "gpu": jobs[0].settings.gpus}),
            param_space={"job": grid_search(largest_first)},
            run_config=RunConfig(verbose=0),
        ).fit()


def _train_one(config: dict[str, Job]) -> None:
    """Train a network in a process of its own, and save it with the seconds that it took."""
    set_up_worker()
    job, best = config["job"], None
    settings = job.settings
    clock = time.perf_counter if settings.gpus else time.process_time
    started = clock()
    epochs = fit(
        read_training(job.training),
        hyperparameters=job.hyperparameters,
        recipe=settings.recipe,
        seed=job.seed,
        devices=allotted_devices(),
        precision=settings.precision,
    )
    for epoch in epochs:
        best = epoch.checkpoint or best
    seconds = (clock() - started) * (settings.gpus or 1)
    assert best is not None
    best.save(job.output)
    job.seconds.write_text(f"{seconds:.3f}")


def _of_seeds(data: Path, by_seed: Sequence[Sequence[Job]]) -> Result:
    chosen = [_chosen(candidates) for candidates in by_seed]
    seconds = sum(float(job.seconds.read_text()) for candidates in by_seed for job in candidates)
    return _result(data, chosen, seconds)


def _chosen(candidates: Sequence[Job]) -> Checkpoint:
    """Return the network with the lowest loss on the training series."""
    trained = [Checkpoint.load(job.output) for job in candidates]
    if len(trained) == 1:
        return trained[0]
    train = read_training(candidates[0].training)
    return min(trained, key=lambda network: evaluate(Predictor(network), train).summary["log_loss"])


def _of_sweep(data: Path, output: Path) -> Result:
    again = networks(load_checkpoint(output / REFIT))
    trials = TrialFolders(output).read() + TrialFolders(output / REFIT).read()
    gpus = Record.read(output).plan.known_gpus_per_trial
    return _result(data, again, sum(trial.seconds for trial in trials) * (gpus or 1))


def _result(data: Path, chosen: Sequence[Checkpoint], seconds: float) -> Result:
    test = read_labelled(data / "test.csv", chosen[0])
    alone = [_accuracy(Predictor(network), test) for network in chosen]
    return Result(data.name, alone, _accuracy(Predictor(Ensemble(tuple(chosen))), test), seconds)


def _accuracy(predictor: Predictor, data: Dataset) -> float:
    accuracy: float = evaluate(predictor, data).summary["accuracy"]
    return accuracy


def _mean(values: Sequence[float]) -> float | None:
    return round(statistics.mean(values), 4) if values else None


if __name__ == "__main__":
    cyclopts.run(main)
