from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lstmfcn.checkpoint import Checkpoint
from lstmfcn.predictor import Predictor
from lstmfcn.series import Matrix
from lstmfcn.treatment import Treatment
from serve_app.model import Model
from tests.samples import LENGTH


def model_of(checkpoint: Checkpoint) -> Model:
    return Model(checkpoint, Predictor(checkpoint), on_pass=lambda rows, waited: None)


def test_a_request_waits_its_turn_by_its_bytes(trained: Checkpoint) -> None:
    assert model_of(trained).counted_bytes(b"1,2\n" * 100) == 400


def test_series_that_are_made_longer_count_as_long_as_they_become(trained: Checkpoint) -> None:
    model = model_of(replace(trained, treatment=Treatment(length="pad")))
    whole = b",".join([b"0.123456789"] * LENGTH) + b"\n"

    assert model.counted_bytes(b"1,2\n" * 100) == 100 * LENGTH * 10
    assert model.counted_bytes(b"1,2\n1,2") == 2 * LENGTH * 10
    assert model.counted_bytes(whole) == len(whole)


class Slow(Predictor):
    """Takes 30 ms for each row."""

    def probabilities(self, series: Matrix) -> NDArray[np.float32]:
        time.sleep(0.03 * len(series))
        return super().probabilities(series)


def test_a_pass_of_a_slow_network_has_few_rows(trained: Checkpoint) -> None:
    model = Model(trained, Slow(trained), on_pass=lambda rows, waited: None)

    assert model.batcher._rows_at_once == 1
    assert model.batcher._rows_on_loop == 0
