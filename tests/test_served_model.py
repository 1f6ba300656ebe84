from __future__ import annotations

from dataclasses import replace

from lstmfcn.checkpoint import Checkpoint
from lstmfcn.predictor import Predictor
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
