"""Accuracy on a folder of data sets, beside what others published:
`python -m benchmarks.accuracy --data DIR`.

The folder has `<name>/train.csv` and `<name>/test.csv` for each set, and may have `published.tsv`. Networks
are trained in parallel on Ray Tune, one for each set and seed, with the default hyperparameters; test files
are read after that, for the figures. The paper's code trains three for each, with 8, 64 and 128 LSTM cells,
and keeps the one with the lowest loss on the training series (hyperparameter_search.py at 0f258c7): so does
`--recipe paper`. With `--kernels`, two lengths of the first kernels are chosen for each set by
cross-validation within its training file. What is trained is kept in the output folder, so that a run goes on
later.
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
import numpy as np
from ray import tune
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold

from benchmarks.published import BASELINE, Result, pairs, published_figures, table, write
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
SHARE_OF_EPOCHS = 0.6
"""That a fold's network is trained for, to save time. A recipe that goes by the number of series goes by that
of the fold's, so `fast` moves the kernels of ECG200's folds (66 series) by Adam, of all 100 by Muon."""
LENGTHS_KEPT = 2
"""Of the first kernels, since few series can't tell near lengths apart."""


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
    precision: TrainingPrecision
    gpus: float

    def training(self, name: str) -> Path:
        """File of a set."""
        return self.data / name / "train.csv"

    def folds(self, name: str, lengths: Sequence[int]) -> dict[int, list[Job]]:
        """Of a set, by length of the first kernels; no fold where there is nothing to choose."""
        num_folds = FOLDS if len(lengths) > 1 else 0
        return {
            length: [
                self._job(name, Hyperparameters(kernel_size_1=length), 0, fold) for fold in range(num_folds)
            ]
            for length in lengths
        }

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
        kernels: Lengths of the first kernels, separated by commas, such as 8,16,32,64; what is longer than a
            set's series is left out. For each set the two with the lowest log-loss in cross-validation take
            turns from seed to seed.
    """
    names = sets.split(",") if sets else _names(data)
    kept = (output / f"{recipe}-{precision}{'-gpu' if gpus else ''}").resolve()
    benchmark = Benchmark(data.resolve(), kept, recipe, precision, gpus)
    tried = {name: _lengths(benchmark.training(name), kernels) for name in names}
    folds = {name: benchmark.folds(name, lengths) for name, lengths in tried.items()}
    _train([job for by_length in folds.values() for jobs in by_length.values() for job in jobs])
    taken = {name: _best(by_length) for name, by_length in folds.items()}
    chosen = {
        name: [benchmark.candidates(name, lengths, seed) for seed in range(seeds)]
        for name, lengths in taken.items()
    }
    _train([job for by_seed in chosen.values() for jobs in by_seed for job in jobs])
    if kernels:
        print(_table_of_kernels(folds, taken) + "\n")
    results = [_result(data / name, [*folds[name].values()], chosen[name]) for name in names]
    published = published_figures(data / "published.tsv")
    print(table(results, published))
    write(kept / f"kernels-{kernels}" if kernels else kept, results, published)
    summary: dict[str, Any] = {
        "recipe": recipe,
        "kernels": kernels,
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


def _lengths(training: Path, kernels: str | None) -> list[int]:
    """Of first kernels, to choose from: those that are no longer than the series, else the default."""
    default = [Hyperparameters().kernel_size_1]
    if kernels is None:
        return default
    longest = read_training(training).length
    return sorted({length for length in map(int, kernels.split(",")) if length <= longest}) or default


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
        network = network.model_copy(update={"epochs": round(SHARE_OF_EPOCHS * epochs_of_recipe)})
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
    if job.fold is None:
        best.save(job.output)
    else:
        probabilities = Predictor(best).probabilities(held_out.series)
        measured = {
            "accuracy": _share_right(probabilities, held_out),
            "log_loss": _log_loss(probabilities, held_out),
        }
        job.output.mkdir(parents=True, exist_ok=True)
        job.held_out.write_text(json.dumps(measured))
    job.seconds.write_text(f"{seconds:.3f}")


def _without_fold(training: Dataset, fold: int) -> tuple[Dataset, Dataset]:
    """The rest, and the fold: as large a share of each class as of all."""
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(training.series, training.targets)
    rest, held_out = list(folds)[fold]
    return training.where(rest), training.where(held_out)


def _best(by_length: dict[int, list[Job]]) -> list[int]:
    """The lengths with the lowest log-loss in cross-validation, best first; or the only one."""
    if len(by_length) == 1:
        return list(by_length)
    ranked = sorted(by_length, key=lambda length: _cross_validated(by_length[length])["log_loss"])
    return ranked[:LENGTHS_KEPT]


def _cross_validated(folds: Sequence[Job]) -> dict[str, float]:
    """Means over the folds."""
    measured = [json.loads(fold.held_out.read_text()) for fold in folds]
    return {name: float(np.mean([one[name] for one in measured])) for name in ("accuracy", "log_loss")}


def _table_of_kernels(folds: dict[str, dict[int, list[Job]]], taken: dict[str, list[int]]) -> str:
    """Of sets for which there was something to choose."""
    lines = ["| set | kernels: accuracy, log-loss in cross-validation | taken |", "|---|---|---|"]
    for name, by_length in folds.items():
        if len(by_length) == 1:
            continue
        measured = {length: _cross_validated(jobs) for length, jobs in by_length.items()}
        cells = [f"{length}: {of['accuracy']:.3f}, {of['log_loss']:.3f}" for length, of in measured.items()]
        lines.append(f"| {name} | {'; '.join(cells)} | {', '.join(map(str, taken[name]))} |")
    return "\n".join(lines)


def _result(data: Path, folds: Sequence[Sequence[Job]], seeds: Sequence[Sequence[Job]]) -> Result:
    predictors = [_chosen(candidates) for candidates in seeds]
    test = read_labelled(data / "test.csv", predictors[0].classes, predictors[0].length)
    probabilities = [predictor.probabilities(test.series) for predictor in predictors]
    jobs = [job for several in (*folds, *seeds) for job in several]
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


def _mean(values: Sequence[float]) -> float | None:
    return round(statistics.mean(values), 4) if values else None


def _share_right(probabilities: np.ndarray[Any, Any], data: Dataset) -> float:
    return float((probabilities.argmax(axis=1) == data.targets).mean())


def _log_loss(probabilities: np.ndarray[Any, Any], data: Dataset) -> float:
    return float(log_loss(data.targets, probabilities, labels=range(len(data.classes))))


if __name__ == "__main__":
    cyclopts.run(main)
