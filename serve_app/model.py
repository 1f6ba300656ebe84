"""The model that an endpoint serves: a predictor that is warm, and the batches that go through it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from lstmfcn.cells import num_lines
from lstmfcn.ensemble import AnyCheckpoint, Ensemble, networks
from lstmfcn.predictor import Predictor
from serve_app.batching import Batcher

_PASS_SECONDS = 0.05
_ON_LOOP_SECONDS = 0.005
_WARM_UP_ROWS = 64
_BYTES_PER_VALUE = 10


class Model:
    """A checkpoint that is being served."""

    def __init__(
        self,
        checkpoint: AnyCheckpoint,
        predictor: Predictor,
        on_pass: Callable[[int, float], None],
    ) -> None:
        self._checkpoint = checkpoint
        self._digest = checkpoint.digest()
        self.predictor = predictor
        batch = predictor.fills_up_to
        alone = taken = _seconds(predictor, 1)  # a lone row is filled up to `batch` rows, so it takes as long
        while batch < _WARM_UP_ROWS and (doubled := _seconds(predictor, 2 * batch)) <= _PASS_SECONDS:
            batch, taken = 2 * batch, doubled
        seconds = taken / batch
        self.seconds_per_byte = seconds / (_BYTES_PER_VALUE * predictor.num_values)
        """Seconds that a byte of a body takes, roughly."""
        self.batcher = Batcher(
            predictor.probabilities,
            rows_at_once=max(batch, int(_PASS_SECONDS / seconds)),
            rows_on_loop=int(_ON_LOOP_SECONDS / seconds) if alone <= _ON_LOOP_SECONDS else 0,
            seconds_per_row=seconds,
            on_pass=on_pass,
        )

    def counted_bytes(self, body: bytes) -> int:
        """Return the bytes of a body by which its request waits its turn: if series of any length are made as
        long as the network's, at least the bytes that they would have then, for they take as long.
        """
        if not self.predictor.treatment.takes_any_length:
            return len(body)
        return max(len(body), num_lines(body) * self.predictor.num_values * _BYTES_PER_VALUE)

    def described(self) -> dict[str, Any]:
        """Return what the model is, for people to read; an ensemble's hyperparameters are a list."""
        one = self._checkpoint
        hyperparameters = [network.hyperparameters.model_dump() for network in networks(one)]
        return {
            "task": one.task,
            "classes": list(one.classes.names),
            "length": one.length,
            "channels": one.channels,
            "treatment": one.treatment.model_dump(include={"missing", "length"}),
            "hyperparameters": hyperparameters if isinstance(one, Ensemble) else hyperparameters[0],
            "precision": self.predictor.precision,
            "checkpoint": self._digest,
        }


def _seconds(predictor: Predictor, num_rows: int) -> float:
    """Return the seconds that `num_rows` take once the network is warm."""
    series = np.zeros((num_rows, predictor.num_values), np.float32)
    least = math.inf  # a busy machine makes it seem longer
    for _ in range(5):
        started = time.perf_counter()
        predictor.probabilities(series)
        least = min(least, time.perf_counter() - started)
    return least
