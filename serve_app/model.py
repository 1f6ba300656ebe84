"""The model that an endpoint serves: a predictor that is warm, and the batches that go through it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lstmfcn.checkpoint import Checkpoint
from lstmfcn.prediction_format import PredictionColumn
from lstmfcn.predictor import Predictor
from serve_app.batching import Batcher, Probabilities

_PASS_SECONDS = 0.05
_ON_LOOP_SECONDS = 0.005
_WARM_UP_ROWS = 64


class Model:
    """A checkpoint that is being served."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        predictor: Predictor,
        most_waiting_rows: int,
        on_pass: Callable[[int, int], None],
    ) -> None:
        self._checkpoint = checkpoint
        self.predictor = predictor
        seconds = _seconds_of_a_row(predictor)
        self.batcher = Batcher(
            predictor.probabilities,
            rows_at_once=max(_WARM_UP_ROWS, int(_PASS_SECONDS / seconds)),
            rows_on_loop=int(_ON_LOOP_SECONDS / seconds),
            most_rows=most_waiting_rows,
            on_pass=on_pass,
        )

    def lines(self, probabilities: Probabilities, columns: Sequence[PredictionColumn]) -> bytes:
        """The lines of an answer."""
        return b"".join([cells + b"\n" for cells in self.predictor.render(probabilities, columns)])

    def described(self) -> dict[str, Any]:
        """What it is, for people."""
        return {
            "classes": list(self._checkpoint.classes.names),
            "length": self._checkpoint.length,
            "hyperparameters": self._checkpoint.hyperparameters.model_dump(),
            "precision": self.predictor.precision,
            "checkpoint": self._checkpoint.digest(),
        }


def _seconds_of_a_row(predictor: Predictor) -> float:
    """Of many, measured once the network is warm."""
    series = np.zeros((_WARM_UP_ROWS, predictor.length), np.float32)
    least = math.inf  # a busy machine makes it seem longer
    for _ in range(5):
        predictor.probabilities(series[:1])
        started = time.perf_counter()
        predictor.probabilities(series)
        least = min(least, time.perf_counter() - started)
    return least / _WARM_UP_ROWS
