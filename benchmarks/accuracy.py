"""Accuracy on a folder of data sets, beside what others published:
`python -m benchmarks.accuracy --data DIR`.

The folder has `<name>/train.csv` and `<name>/test.csv` for each set, and may have `published.tsv`. Networks
are trained in parallel on Ray Tune, one for each set and seed, with the default hyperparameters or those of a
file; test files are read after that, for the figures. The paper's code trains three for each, with 8, 64 and
128 LSTM cells, and keeps the one with the lowest loss on the training series (hyperparameter_search.py at
0f258c7): so does `--recipe paper`. What is trained is kept in the output folder, so that a run goes on later.
"""

from __future__ import annotations

import csv
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cyclopts
import numpy as np
import yaml
from matplotlib.figure import Figure
from ray import tune
from sklearn.metrics import log_loss

from lstmfcn.cluster import allotted_devices, connection, set_up_worker
from lstmfcn.dataset import read_labelled, read_training
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.predictor import Predictor
from lstmfcn.recipe import RecipeName
from lstmfcn.training import TrainingPrecision, fit

LEFT_OUT = ("Trace", "ElectricDevices")
"""Trace's published figure is of a failed run; ElectricDevices has a goal of its own."""
OURS, BASELINE = "ours", "lstm_fcn_lowest_train_loss"
CELLS: dict[RecipeName, tuple[int, ...]] = {"reference": (8,), "paper": (8, 64, 128), "fast": (8,)}
"""Sizes of the LSTM layer."""
OTHERS = (BASELINE, "lstm_fcn_best_on_test", "inceptiontime", "minirocket", "hivecote2")


@dataclass(frozen=True, slots=True)
class Job:
    """A network to train."""

    training: Path
    output: Path
    seed: int
    hyperparameters: Hyperparameters
    recipe: RecipeName
    precision: TrainingPrecision
    gpus: float

    @property
    def seconds(self) -> Path:
        """The file that says how long it took, written last."""
        return self.output / "seconds"


@dataclass(frozen=True, slots=True)
class Result:
    """Of one set."""

    name: str
    accuracies: list[float]
    """Of each seed."""
    together: float
    """Of the mean of all seeds' probabilities."""
    seconds: float
    """Of a processor, that the training of all seeds took: other work beside it doesn't count. On GPUs the
    time that passed, times the share of a GPU.
    """

    @property
    def accuracy(self) -> float:
        """The median over seeds."""
        return statistics.median(self.accuracies)


def main(
    *,
    data: Path,
    output: Path = Path("accuracy-results"),
    sets: str | None = None,
    recipe: RecipeName = "fast",
    seeds: int = 3,
    precision: TrainingPrecision = "fp32",
    gpus: float = 0,
    hyperparameters: Path | None = None,
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
        hyperparameters: YAML file of what some sets have in place of the defaults, such as
            {CBF: {kernel_size_1: 16}}.
    """
    names = sets.split(",") if sets else _names(data)
    kept = (output / f"{recipe}-{precision}{'-gpu' if gpus else ''}").resolve()
    given = {} if hyperparameters is None else yaml.safe_load(hyperparameters.read_text())
    networks = {
        name: [
            Hyperparameters.from_mapping({"hidden_size": cells, **given.get(name, {})})
            for cells in CELLS[recipe]
        ]
        for name in names
    }
    jobs = [
        Job(
            data.resolve() / name / "train.csv",
            _folder(kept / name, seed, network),
            seed,
            network,
            recipe,
            precision,
            gpus,
        )
        for name in names
        for seed in range(seeds)
        for network in networks[name]
    ]
    _train([job for job in jobs if not job.seconds.is_file()])
    results = [_result(data / name, kept / name, seeds, networks[name]) for name in names]
    published = _published(data / "published.tsv")
    print(_table(results, published))
    _write(kept, results, published)
    summary: dict[str, Any] = {
        "recipe": recipe,
        "sets": len(results),
        "seeds": seeds,
        "mean": _mean([result.accuracy for result in results]),
        "mean_together": _mean([result.together for result in results]),
        "published_mean": _mean([other for _, other in _both(results, published, BASELINE)]),
        "train_seconds": round(sum(result.seconds for result in results), 1),
    }
    print(json.dumps(summary))


def _folder(kept: Path, seed: int, network: Hyperparameters) -> Path:
    """Of a network of a data set."""
    others = network.model_dump(exclude_defaults=True, exclude={"hidden_size"})
    return (
        kept
        / str(seed)
        / "-".join([f"{network.hidden_size}-cells", *(f"{name}={value:g}" for name, value in others.items())])
    )


def _names(data: Path) -> list[str]:
    found = sorted(path.parent.name for path in data.glob("*/train.csv"))
    return [name for name in found if name not in LEFT_OUT]


def _train(jobs: Sequence[Job]) -> None:
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
    clock = time.perf_counter if job.gpus else time.process_time
    started = clock()
    epochs = fit(
        training,
        hyperparameters=job.hyperparameters,
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
    job.seconds.write_text(f"{seconds:.3f}")


def _result(data: Path, kept: Path, seeds: int, networks: Sequence[Hyperparameters]) -> Result:
    folders = [[_folder(kept, seed, network) for network in networks] for seed in range(seeds)]
    predictors = [_chosen(data / "train.csv", candidates) for candidates in folders]
    test = read_labelled(data / "test.csv", predictors[0].classes, predictors[0].length)
    probabilities = [predictor.probabilities(test.series) for predictor in predictors]

    def share_right(probability: np.ndarray[Any, Any]) -> float:
        return float((probability.argmax(axis=1) == test.targets).mean())

    return Result(
        data.name,
        [share_right(one) for one in probabilities],
        share_right(np.mean(probabilities, axis=0)),
        sum(float((folder / "seconds").read_text()) for candidates in folders for folder in candidates),
    )


def _chosen(training: Path, candidates: Sequence[Path]) -> Predictor:
    """The network with the lowest loss on the training series."""
    predictors = [Predictor.load(folder) for folder in candidates]
    if len(predictors) == 1:
        return predictors[0]
    train = read_labelled(training, predictors[0].classes, predictors[0].length)
    positions = range(len(train.classes))
    return min(
        predictors,
        key=lambda one: log_loss(train.targets, one.probabilities(train.series), labels=positions),
    )


def _published(path: Path) -> dict[str, dict[str, float]]:
    """Accuracy by set and method."""
    if not path.is_file():
        return {}
    rows = csv.DictReader(path.read_text().splitlines(), delimiter="\t")
    return {row["dataset"]: {name: float(row[name]) for name in OTHERS if row.get(name)} for row in rows}


def _both(
    results: Sequence[Result], published: dict[str, dict[str, float]], method: str
) -> list[tuple[Result, float]]:
    """Ours and the published figure, where there is one."""
    return [(one, published[one.name][method]) for one in results if method in published.get(one.name, {})]


def _mean(values: Sequence[float]) -> float | None:
    return round(statistics.mean(values), 4) if values else None


def _table(results: Sequence[Result], published: dict[str, dict[str, float]]) -> str:
    lines = ["| set | ours | seeds | together | " + " | ".join(OTHERS) + " | seconds |"]
    lines.append("|" + "---|" * (len(OTHERS) + 5))
    for result in results:
        others = [published.get(result.name, {}).get(name) for name in OTHERS]
        cells = [
            result.name,
            f"{result.accuracy:.4f}",
            " ".join(f"{accuracy:.4f}" for accuracy in result.accuracies),
            f"{result.together:.4f}",
            *("" if other is None else f"{other:.4f}" for other in others),
            f"{result.seconds:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    for name in OTHERS:
        both = _both(results, published, name)
        wins = sum(one.accuracy > other for one, other in both)
        ties = sum(one.accuracy == other for one, other in both)
        lines.append(f"against {name}: {wins} wins, {ties} ties, {len(both) - wins - ties} losses")
    return "\n".join(lines)


def _write(kept: Path, results: Sequence[Result], published: dict[str, dict[str, float]]) -> None:
    with (kept / "accuracy.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["set", OURS, "together", *OTHERS, "seconds"])
        for one in results:
            others = [published.get(one.name, {}).get(name, "") for name in OTHERS]
            rows.writerow([one.name, one.accuracy, one.together, *others, round(one.seconds, 1)])
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    both = _both(results, published, BASELINE)
    least = min([0.9, *(min(one.accuracy, other) for one, other in both)]) - 0.02
    axes.plot([least, 1], [least, 1], color="0.7")
    axes.scatter([other for _, other in both], [one.accuracy for one, _ in both])
    by_place: dict[tuple[int, int], list[tuple[Result, float]]] = {}
    for one, other in both:
        by_place.setdefault((round(200 * other), round(200 * one.accuracy)), []).append((one, other))
    for pairs in by_place.values():
        first, published_of_first = pairs[0]
        axes.annotate(
            ", ".join(one.name for one, _ in pairs),
            (published_of_first, first.accuracy),
            xytext=(-7, 0),  # to the left, where the picture has room: most sets are near the right edge
            textcoords="offset points",
            fontsize=8,
            ha="right",
            va="center",
        )
    axes.set_xlabel(f"published: {BASELINE}")
    axes.set_ylabel("ours, median over seeds")
    figure.savefig(kept / "accuracy.png", dpi=120)


if __name__ == "__main__":
    cyclopts.run(main)
