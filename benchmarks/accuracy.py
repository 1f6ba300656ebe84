"""Accuracy on a folder of data sets, beside what others published:
`python -m benchmarks.accuracy --data DIR`.

The folder has `<name>/train.csv` and `<name>/test.csv` for each set, and may have `published.tsv`. Networks
are trained in parallel on Ray Tune, one for each set and seed, with the default hyperparameters; test files
are read after that, for the figures. The paper's code trains three for each, with 8, 64 and 128 LSTM cells,
and keeps the one with the lowest loss on the training series (hyperparameter_search.py at 0f258c7): so does
`--recipe paper`. With `--kernels`, the length of the first kernels is chosen for each set by cross-validation
within its training file. What is trained is kept in the output folder, so that a run goes on later.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cyclopts
import numpy as np
from ray import tune
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold

from benchmarks.published import BASELINE, Result, beside, mean, published_figures, table, write
from lstmfcn.cluster import allotted_devices, connection, set_up_worker
from lstmfcn.dataset import Dataset, read_labelled, read_training
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.predictor import Predictor
from lstmfcn.recipe import Recipe, RecipeName
from lstmfcn.training import TrainingPrecision, fit

LEFT_OUT = ("Trace", "ElectricDevices")
"""Trace's published figure is of a failed run; ElectricDevices has a goal of its own."""
CELLS: dict[RecipeName, tuple[int, ...]] = {"reference": (8,), "paper": (8, 64, 128), "fast": (8,)}
"""Sizes of the LSTM layer."""
FOLDS = 3
EPOCHS_OF_FOLD = 0.6
"""Share of the epochs that the recipe has, to save time."""
LENGTHS_KEPT = 2
"""Of the first kernels: the best ones take turns from seed to seed, since networks that differ are better
together, and few series can't tell near ones apart."""


@dataclass(frozen=True, slots=True)
class Job:
    """A network to train."""

    training: Path
    output: Path
    seed: int
    network: Hyperparameters
    recipe: RecipeName
    precision: TrainingPrecision
    gpus: float
    fold: int | None = None
    """That is held out, to be predicted."""

    @property
    def seconds(self) -> Path:
        """The file that says how long it took, written last."""
        return self.output / "seconds"

    @property
    def held_out(self) -> Path:
        """The file with the accuracy and the log-loss on the fold."""
        return self.output / "held-out.json"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What all jobs have in common."""

    data: Path
    kept: Path
    recipe: RecipeName
    seeds: int
    precision: TrainingPrecision
    gpus: float

    def training(self, name: str) -> Path:
        """File of a set."""
        return self.data / name / "train.csv"

    def folds(self, name: str, network: Hyperparameters) -> list[Job]:
        """Of one set and network: a job for each fold."""
        return [self._job(name, network, 0, fold) for fold in range(FOLDS)]

    def candidates(self, name: str, lengths: Sequence[int], seed: int) -> list[Job]:
        """One for each size of the LSTM layer, of which one will be chosen."""
        length = lengths[seed % len(lengths)]
        return [
            self._job(name, Hyperparameters(hidden_size=cells, kernel_size_1=length), seed)
            for cells in CELLS[self.recipe]
        ]

    def _job(self, name: str, network: Hyperparameters, seed: int, fold: int | None = None) -> Job:
        part = str(seed) if fold is None else f"fold-{fold}"
        folder = f"{network.hidden_size}-cells"
        if network.kernel_size_1 != Hyperparameters().kernel_size_1:
            folder += f"-kernels-of-{network.kernel_size_1}"
        return Job(
            self.training(name),
            self.kept / name / part / folder,
            seed,
            network,
            self.recipe,
            self.precision,
            self.gpus,
            fold,
        )


def main(
    *,
    data: Path,
    output: Path = Path("accuracy-results"),
    sets: str | None = None,
    recipe: RecipeName = "fast",
    seeds: int = 3,
    precision: TrainingPrecision = "fp32",
    gpus: float = 0,
    kernels: str | None = None,
) -> None:
    """Print a table, then a line of JSON; write accuracy.csv and accuracy.png beside the networks.

    Args:
        data: Folder with a folder for each data set.
        output: Where what is trained is kept, and looked for.
        sets: Names, separated by commas; else all but Trace and ElectricDevices.
        recipe: How the networks are trained.
        seeds: Networks for each set.
        precision: Of the training step.
        gpus: For each network, also a share of one, such as 0.125; otherwise a CPU trains it.
        kernels: Lengths of the first kernels, separated by commas, such as 8,16,32,64: for each set the two
            with the lowest log-loss in cross-validation take turns.
    """
    names = sets.split(",") if sets else _names(data)
    kept = (output / f"{recipe}-{precision}{'-gpu' if gpus else ''}").resolve()
    benchmark = Benchmark(data.resolve(), kept, recipe, seeds, precision, gpus)
    tried = {name: _networks(data / name / "train.csv", kernels) for name in names}
    folds = {
        name: [benchmark.folds(name, network) for network in tried[name] if len(tried[name]) > 1]
        for name in names
    }
    _train([job for of_set in folds.values() for of_network in of_set for job in of_network])
    lengths = {}
    for name in names:
        ranked = sorted(folds[name], key=lambda jobs: _cross_validated(jobs)["log_loss"])
        lengths[name] = [jobs[0].network.kernel_size_1 for jobs in ranked[:LENGTHS_KEPT]]
        lengths[name] = lengths[name] or [tried[name][0].kernel_size_1]
    chosen = {
        name: [benchmark.candidates(name, lengths[name], seed) for seed in range(seeds)] for name in names
    }
    _train([job for of_set in chosen.values() for of_seed in of_set for job in of_seed])
    if kernels:
        print(_table_of_kernels(folds, lengths) + "\n")
    results = [_result(data / name, chosen[name], folds[name]) for name in names]
    published = published_figures(data / "published.tsv")
    print(table(results, published))
    write(kept, results, published)
    summary: dict[str, Any] = {
        "recipe": recipe,
        "sets": len(results),
        "seeds": seeds,
        "mean": mean([result.accuracy for result in results]),
        "mean_together": mean([result.together for result in results]),
        "published_mean": mean([other for _, other in beside(results, published, BASELINE)]),
        "train_seconds": round(sum(result.seconds for result in results), 1),
    }
    print(json.dumps(summary))


def _names(data: Path) -> list[str]:
    found = sorted(path.parent.name for path in data.glob("*/train.csv"))
    return [name for name in found if name not in LEFT_OUT]


def _networks(training: Path, kernels: str | None) -> list[Hyperparameters]:
    """To choose from: kernels no longer than the series."""
    if kernels is None:
        return [Hyperparameters()]
    longest = read_training(training).length
    return [
        Hyperparameters(kernel_size_1=length) for length in map(int, kernels.split(",")) if length <= longest
    ]


def _train(jobs: Sequence[Job]) -> None:
    jobs = [job for job in jobs if not job.seconds.is_file()]
    if not jobs:
        return
    largest_first = sorted(jobs, key=lambda job: -job.training.stat().st_size)
    with connection():
        tune.Tuner(
            tune.with_resources(_train_one, {"cpu": 1, "gpu": jobs[0].gpus}),
            param_space={"job": tune.grid_search(largest_first)},
            run_config=tune.RunConfig(verbose=0),
        ).fit()


def _train_one(config: dict[str, Job]) -> None:
    """In a process of its own."""
    set_up_worker()
    job, best = config["job"], None
    training = read_training(job.training)
    network = job.network
    if job.fold is not None:
        training, held_out = _without_fold(training, job.fold)
        epochs_of_recipe = Recipe(job.recipe).completed(network, len(training)).epochs
        network = network.model_copy(update={"epochs": round(EPOCHS_OF_FOLD * epochs_of_recipe)})
    clock = time.perf_counter if job.gpus else time.process_time
    started = clock()
    epochs = fit(
        training,
        hyperparameters=network,
        recipe=job.recipe,
        seed=job.seed,
        devices=allotted_devices(),
        precision=job.precision,
    )
    for epoch in epochs:
        best = epoch.checkpoint or best
    seconds = (clock() - started) * (job.gpus or 1)
    assert best is not None
    best.save(job.output)
    if job.fold is not None:
        probabilities = Predictor(best).probabilities(held_out.series)
        measured = {
            "accuracy": _share_right(probabilities, held_out),
            "log_loss": _log_loss(probabilities, held_out),
        }
        job.held_out.write_text(json.dumps(measured))
    job.seconds.write_text(f"{seconds:.3f}")


def _without_fold(training: Dataset, fold: int) -> tuple[Dataset, Dataset]:
    """The rest, and the fold: as large a share of each class as of all."""
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(training.series, training.targets)
    rest, held_out = list(folds)[fold]
    return (
        replace(training, series=training.series[rest], targets=training.targets[rest]),
        replace(training, series=training.series[held_out], targets=training.targets[held_out]),
    )


def _cross_validated(jobs: Sequence[Job]) -> dict[str, float]:
    """Mean over the folds of one network."""
    folds = [json.loads(job.held_out.read_text()) for job in jobs]
    return {name: float(np.mean([fold[name] for fold in folds])) for name in ("accuracy", "log_loss")}


def _table_of_kernels(folds: dict[str, list[list[Job]]], lengths: dict[str, list[int]]) -> str:
    """Accuracy and log-loss in cross-validation."""
    lines = ["| set | kernels: accuracy, log-loss in cross-validation | taken |", "|---|---|---|"]
    for name, of_set in folds.items():
        measured = [(jobs[0].network.kernel_size_1, _cross_validated(jobs)) for jobs in of_set]
        cells = "; ".join(f"{length}: {of['accuracy']:.3f}, {of['log_loss']:.3f}" for length, of in measured)
        lines.append(f"| {name} | {cells} | {', '.join(map(str, lengths[name]))} |")
    return "\n".join(lines)


def _result(data: Path, seeds: Sequence[Sequence[Job]], folds: Sequence[Sequence[Job]]) -> Result:
    predictors = [_chosen(candidates) for candidates in seeds]
    test = read_labelled(data / "test.csv", predictors[0].classes, predictors[0].length)
    probabilities = [predictor.probabilities(test.series) for predictor in predictors]
    jobs = [job for several in (*seeds, *folds) for job in several]
    return Result(
        data.name,
        [_share_right(one, test) for one in probabilities],
        _share_right(np.mean(probabilities, axis=0), test),
        sum(float(job.seconds.read_text()) for job in jobs),
    )


def _chosen(candidates: Sequence[Job]) -> Predictor:
    """The network with the lowest loss on the training series."""
    predictors = [Predictor.load(job.output) for job in candidates]
    if len(predictors) == 1:
        return predictors[0]
    train = read_labelled(candidates[0].training, predictors[0].classes, predictors[0].length)
    return min(predictors, key=lambda one: _log_loss(one.probabilities(train.series), train))


def _share_right(probabilities: np.ndarray[Any, Any], data: Dataset) -> float:
    return float((probabilities.argmax(axis=1) == data.targets).mean())


def _log_loss(probabilities: np.ndarray[Any, Any], data: Dataset) -> float:
    return float(log_loss(data.targets, probabilities, labels=range(len(data.classes))))


if __name__ == "__main__":
    cyclopts.run(main)
