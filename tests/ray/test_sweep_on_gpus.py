"""Sweeps on real GPUs: `pytest -m gpu`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import torch

from lstmfcn.plan import Plan
from lstmfcn.record import Record
from lstmfcn.search_space import SearchSpace
from lstmfcn.sweep import sweep
from tests.samples import TINY, make_dataset

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

TRAIN, VALID = make_dataset(60), make_dataset(40, seed=1)
SPACE = SearchSpace.from_mapping({**TINY.model_dump(), "epochs": 60})


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


@pytest.mark.parametrize("gpus_per_trial", [0.5, 1.0, float(torch.cuda.device_count())])
def test_trials_learn_on_the_gpus_that_they_are_given(gpus_per_trial: float, tmp_path: Path) -> None:
    plan = Plan(num_trials=4, scheduler="none", gpus_per_trial=gpus_per_trial)

    best, *_ = sweep(TRAIN, VALID, SPACE, plan, tmp_path)

    assert best.best_metrics["valid_accuracy"] == 1.0


def test_several_small_trials_share_a_gpu(tmp_path: Path) -> None:
    plan = Plan(num_trials=4, scheduler="none", gpus_per_trial="auto")

    best, *_ = sweep(TRAIN, VALID, SPACE, plan, tmp_path)

    share = Record.read(tmp_path).plan.gpus_per_trial
    assert share != "auto"
    assert 0 < share <= 0.5
    assert best.best_metrics["valid_accuracy"] == 1.0
