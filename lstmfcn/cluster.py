"""Starting or joining Ray, and the devices and threads that it allots to a worker.

The lowest module that imports Ray.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray
import torch

from lstmfcn.devices import cuda_devices
from lstmfcn.errors import ResourceError


@contextmanager
def connection() -> Iterator[None]:
    """Ray, while the block runs: the cluster that RAY_ADDRESS or a submitted job names, or one that already
    runs on this machine; else a local Ray, started here and ended with the block.
    """
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    for name in (
        "ray.data",
        "ray.tune",
        "ray.serve",
    ):  # what they'd say of themselves is of no use to a job's reader
        logging.getLogger(name).setLevel(logging.CRITICAL)
    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def refuse_unsatisfiable(what: str, num_cpus: float, num_gpus: float) -> None:
    """Raise ResourceError when no node has so many CPUs and GPUs, for Ray would wait for one for ever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(node.get("CPU", 0) >= num_cpus and node.get("GPU", 0) >= num_gpus for node in nodes):
        return
    largest = "; ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes)
    raise ResourceError(f"{what} asks for {num_cpus:g} CPUs and {num_gpus:g} GPUs; the nodes have {largest}")


def num_fitting(num_cpus: float, num_gpus: float) -> int:
    """How many workers of this size the cluster holds at once."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(
        int(
            min(
                node.get(name, 0) / wanted
                for name, wanted in (("CPU", num_cpus), ("GPU", num_gpus))
                if wanted
            )
        )
        for node in nodes
    )


def allotted_devices() -> list[torch.device]:
    """The devices of this Ray worker: the GPUs allotted to it, whatever others it can see, or the CPU."""
    return cuda_devices(len(ray.get_runtime_context().get_accelerator_ids()["GPU"]))


def use_allotted_threads() -> None:
    """Let PyTorch use as many threads as this Ray worker has CPUs, at least one."""
    resources = ray.get_runtime_context().get_assigned_resources()
    torch.set_num_threads(max(1, int(resources.get("CPU", 1))))
