from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from lstmfcn import cluster as lstmfcn_cluster
from lstmfcn import ranges
from lstmfcn.devices import CPU
from lstmfcn.object_storage import ObjectPath
from tests.samples import make_dataset, write_csv


@pytest.fixture(scope="session")
def cluster(bucket: ObjectPath) -> Iterator[None]:
    """One Ray for all tests, with two CPUs and two GPUs that exist for its scheduler only.

    Its processes inherit the environment, and so reach the bucket.
    """
    ray.init(
        num_cpus=2,
        num_gpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=200 << 20,
    )
    yield
    ray.shutdown()


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process, which isn't one of Ray's workers, compute on the CPU without being set up as one."""
    monkeypatch.setattr(lstmfcn_cluster, "set_up_worker", lambda: None)
    monkeypatch.setattr(lstmfcn_cluster, "allotted_devices", lambda: [CPU])


@pytest.fixture
def series_csv(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "series.csv", make_dataset(200, seed=3), labelled=False)


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "_SMALLEST_RANGE", 1000)
    monkeypatch.setattr(ranges, "_LARGEST_RANGE", 1000)
