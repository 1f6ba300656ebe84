from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import ray

from lstmfcn.object_storage import ObjectPath


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
