"""The scores of a checkpoint on labelled data."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict
from sklearn import metrics

from lstmfcn import plots, storage, tasks
from lstmfcn.calibration import expected_calibration_error
from lstmfcn.dataset import Dataset, refuse_unlike
from lstmfcn.predictor import Predictor
from lstmfcn.storage import Location

SUMMARY = "evaluation.json"
ENSEMBLE = "ensemble.json"
_PICTURE = "confusion-matrix.png"
RESULT_NAMES = (SUMMARY, ENSEMBLE, _PICTURE)

_COMPARED_SERIES = 256
_COMPARED_TIMES = 5


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Predictions against labels."""

    summary: dict[str, Any]
    """accuracy, num_cases, log_loss (in nats), expected_calibration_error, macro averages, the scores of each
    class; and the confusion, counts by (true class, predicted class). If the task is multilabel, accuracy is
    the share of series with every label right, log_loss and expected_calibration_error are over each label of
    each series, and the confusion is by (label, truly 0 or 1, predicted 0 or 1)."""

    def table(self) -> str:
        """Return the scores as text: those of the whole, then a line for each class."""
        width = max(12, *map(len, self.summary["classes"]))
        lines = [f"{'label':>{width}}  precision  recall      f1  series"]
        for label, scores in self.summary["classes"].items():
            numbers = "{precision:9.4f}  {recall:6.4f}  {f1:6.4f}  {support:6d}".format(**scores)
            lines.append(f"{label:>{width}}  {numbers}")
        head = (
            f"accuracy: {self.summary['accuracy']:.8f} in {self.summary['precision']};"
            f" log-loss: {self.summary['log_loss']:.4f},"
            f" expected calibration error: {self.summary['expected_calibration_error']:.4f}"
        )
        return "\n".join([head, *lines])

    def save(self, output: Location, **inputs: str) -> None:
        """Write confusion-matrix.png and evaluation.json, with the digests of the inputs if they are given,
        and remove the files of an earlier evaluation.
        """
        # First, so that a summary never stands beside another evaluation's picture.
        storage.remove(output, SUMMARY, ENSEMBLE)
        table = ConfusionTable.of(self.summary)
        picture = plots.confusion_matrix(np.array(table.counts), table.rows, table.columns)
        storage.write_bytes(output / _PICTURE, picture)
        storage.write_text(output / SUMMARY, json.dumps({**self.summary, **inputs}, indent=2))


@dataclass(frozen=True, slots=True)
class ConfusionTable:
    """A confusion matrix as it is shown."""

    rows: list[str]
    columns: list[str]
    counts: list[list[int]]

    @classmethod
    def of(cls, summary: Mapping[str, Any]) -> Self:
        """Return the table of what evaluation.json holds: a row for each true class and a column for each
        predicted one; for labels, two rows for each.
        """
        names, confusion = list(summary["classes"]), summary["confusion"]
        if summary["task"] != "multilabel":
            return cls(names, names, confusion)
        rows = [row for name in names for row in (f"not {name}", name)]
        return cls(rows, ["not predicted", "predicted"], [counts for label in confusion for counts in label])

    @property
    def shares(self) -> list[tuple[str, list[tuple[int, float]]]]:
        """Each row's name with its counts and their shares of the row."""
        return [
            (name, [(count, count / max(1, sum(row))) for count in row])
            for name, row in zip(self.rows, self.counts, strict=True)
        ]


def recorded(output: Location, precision: str, **inputs: str) -> dict[str, Any] | None:
    """Return the summary that the folder holds, if it is of an evaluation in this precision and of inputs
    with these digests; else None.
    """
    if SUMMARY not in storage.names(output):
        return None
    content = storage.read_bytes(output / SUMMARY)
    try:
        summary = json.loads(content)
    except ValueError:
        return None
    if not isinstance(summary, dict):
        return None
    found = {name: summary.pop(name, None) for name in inputs}
    return summary if found == inputs and summary.get("precision") == precision else None


def evaluate(predictor: Predictor, dataset: Dataset) -> Evaluation:
    """Score a predictor on labelled series. Raises DataError for those that weren't read for it."""
    refuse_unlike(dataset, predictor)
    task, targets = dataset.task, dataset.targets
    probabilities = predictor.probabilities(dataset.series)
    predicted = tasks.predicted(task, probabilities)
    positions = list(range(len(dataset.classes)))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        targets, predicted, labels=positions, zero_division=0
    )
    is_predicted = predicted.any(axis=0) if task == "multilabel" else np.isin(positions, predicted)
    occurs = is_predicted | (support > 0)
    macro_precision, macro_recall, macro_f1 = (
        float(np.mean(scores, where=occurs)) if occurs.any() else 0.0 for scores in (precision, recall, f1)
    )
    by_class = {
        dataset.classes.names[position]: {
            "precision": float(precision[position]),
            "recall": float(recall[position]),
            "f1": float(f1[position]),
            "support": int(support[position]),
        }
        for position in positions
    }
    if task == "multilabel":
        confusion = metrics.multilabel_confusion_matrix(targets, predicted)
    else:
        confusion = metrics.confusion_matrix(targets, predicted, labels=positions)
    choices, chosen = tasks.as_choices(task, probabilities, targets)
    exact = choices.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)  # float32 sums to 1 less exactly
    summary = {
        "accuracy": float(metrics.accuracy_score(targets, predicted)),
        "num_cases": len(dataset),
        "task": task,
        "precision": predictor.precision,
        "log_loss": float(metrics.log_loss(chosen, exact, labels=list(range(exact.shape[1])))),
        "expected_calibration_error": expected_calibration_error(exact, chosen),
        "macro_precision": macro_precision,
        "macro_recall": macro_recall,
        "macro_f1": macro_f1,
        "classes": by_class,
        "confusion": confusion.tolist(),
    }
    return Evaluation(summary)


class EnsembleComparison(BaseModel):
    """What an ensemble gains over the best of its networks, and what it costs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_networks: int
    accuracy: float
    accuracy_alone: float
    milliseconds: float
    """Milliseconds to predict `num_timed` of the series, at most 256; the median of five runs."""
    milliseconds_alone: float
    num_timed: int

    @classmethod
    def of(cls, ensemble: Predictor, alone: Predictor, num_networks: int, dataset: Dataset) -> Self:
        """Compare an ensemble with the best of its networks alone, on labelled series."""
        series = dataset.series[:_COMPARED_SERIES]
        seconds: dict[Predictor, list[float]] = {ensemble: [], alone: []}
        for _ in range(_COMPARED_TIMES):
            for predictor, taken in seconds.items():
                started = time.perf_counter()
                predictor.probabilities(series)
                taken.append(time.perf_counter() - started)
        accuracy, accuracy_alone = (
            float(metrics.accuracy_score(dataset.targets, predictor.predicted(dataset.series)))
            for predictor in seconds
        )
        milliseconds, milliseconds_alone = (1000 * statistics.median(taken) for taken in seconds.values())
        return cls(
            num_networks=num_networks,
            accuracy=accuracy,
            accuracy_alone=accuracy_alone,
            milliseconds=milliseconds,
            milliseconds_alone=milliseconds_alone,
            num_timed=len(series),
        )

    def save(self, output: Location) -> None:
        """Write ensemble.json."""
        storage.write_text(output / ENSEMBLE, self.model_dump_json(indent=2))

    def __str__(self) -> str:
        times = self.milliseconds / self.milliseconds_alone
        return (
            f"ensemble of {self.num_networks}: accuracy {self.accuracy:.4f}, the best alone"
            f" {self.accuracy_alone:.4f}; predictions take {times:.1f} times as long"
        )
