"""The scores of a checkpoint on labelled data."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from sklearn import metrics

from lstmfcn import plots, storage
from lstmfcn.calibration import expected_calibration_error
from lstmfcn.dataset import ClassLabels, Dataset
from lstmfcn.predictor import Predictor
from lstmfcn.storage import Location

SUMMARY = "evaluation.json"
ENSEMBLE = "ensemble.json"

_COMPARED_SERIES = 256
_COMPARED_TIMES = 5


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Predictions against labels."""

    classes: ClassLabels
    confusion: NDArray[np.int64]
    """(true class, predicted class): counts."""
    summary: dict[str, Any]
    """accuracy, num_cases, log_loss (in nats), expected_calibration_error, macro averages, for each label its
    scores; and the confusion."""

    def table(self) -> str:
        """Accuracy and a line for each class, to read."""
        width = max(12, *(len(name) for name in self.classes.names))
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

    def save(self, output: Location) -> None:
        """Write confusion-matrix.png and evaluation.json, and remove what belonged to another."""
        storage.remove(output, ENSEMBLE)
        picture = plots.confusion_matrix(self.confusion, self.classes.names)
        storage.write_bytes(output / "confusion-matrix.png", picture)
        document = json.dumps(self.summary, indent=2) + "\n"
        storage.write_bytes(output / SUMMARY, document.encode())


def evaluate(predictor: Predictor, dataset: Dataset) -> Evaluation:
    """Score a predictor on labelled series."""
    probabilities = predictor.probabilities(dataset.series).astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)  # float32 sums to 1 less exactly
    predicted = probabilities.argmax(axis=1)
    positions = range(len(dataset.classes))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        dataset.targets, predicted, labels=list(positions), zero_division=0
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
    confusion = metrics.confusion_matrix(dataset.targets, predicted, labels=list(positions))
    summary = {
        "accuracy": float(metrics.accuracy_score(dataset.targets, predicted)),
        "num_cases": len(dataset),
        "precision": predictor.precision,
        "log_loss": float(metrics.log_loss(dataset.targets, probabilities, labels=list(positions))),
        "expected_calibration_error": expected_calibration_error(probabilities, dataset.targets),
        "macro_precision": float(precision.mean()),
        "macro_recall": float(recall.mean()),
        "macro_f1": float(f1.mean()),
        "classes": by_class,
        "confusion": confusion.tolist(),
    }
    return Evaluation(dataset.classes, confusion, summary)


class EnsembleComparison(BaseModel):
    """What an ensemble gains over the best of its networks, and what it costs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_networks: int
    accuracy: float
    accuracy_alone: float
    milliseconds: float
    """For as many of the series as both were timed with, at most 256; the median of five."""
    milliseconds_alone: float
    num_timed: int

    @classmethod
    def of(cls, ensemble: Predictor, alone: Predictor, num_networks: int, dataset: Dataset) -> Self:
        """On labelled series."""
        series = dataset.series[:_COMPARED_SERIES]
        seconds: dict[Predictor, list[float]] = {ensemble: [], alone: []}
        for _ in range(_COMPARED_TIMES):
            for predictor, taken in seconds.items():
                started = time.perf_counter()
                predictor.probabilities(series)
                taken.append(time.perf_counter() - started)
        accuracy, accuracy_alone = (
            float(metrics.accuracy_score(dataset.targets, predictor.positions(dataset.series)))
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
        storage.write_bytes(output / ENSEMBLE, self.model_dump_json(indent=2).encode() + b"\n")

    def __str__(self) -> str:
        times = self.milliseconds / self.milliseconds_alone
        return (
            f"ensemble of {self.num_networks}: accuracy {self.accuracy:.4f}, the best alone"
            f" {self.accuracy_alone:.4f}; predictions take {times:.1f} times as long"
        )
