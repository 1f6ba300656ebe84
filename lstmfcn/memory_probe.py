"""How many trials fit on a GPU, by its memory: one trains for an epoch, and what it took is measured."""

from __future__ import annotations

import logging
import math
from contextlib import suppress
from functools import partial
from typing import Any

import ray
import torch
from ray.exceptions import RayError

from lstmfcn import actors, capacity, cluster
from lstmfcn.errors import ResourceError, TrainingError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.training import Trainer, TrainingData, TrainingPrecision, TrainingSettings

_log = logging.getLogger(__name__)

_SHARE_OF_MEMORY = 0.9
"""Share of a GPU's memory that its trials may take together; what they hold varies from batch to batch."""


def gpus_per_trial(
    data: TrainingData, largest: Hyperparameters, precision: TrainingPrecision, cpus_per_trial: float
) -> float:
    """Return the share of a GPU that each trial gets: what the largest network needs of its memory, or more
    where a node's CPUs allow fewer trials per GPU.

    It is 0 if the cluster isn't known to have a GPU. Raises ResourceError if the network doesn't fit on a
    GPU alone.
    """
    at_once = capacity.num_per_gpu(cpus_per_trial)
    if at_once == 0:
        _log.warning(
            "--gpus-per-trial auto: the cluster has no GPU, as far as it is known; trials run on CPUs"
        )
        return 0.0
    num_cpus = min(1, cpus_per_trial)
    probe: Any = ray.remote(_Probe).options(num_cpus=num_cpus, num_gpus=1).remote()
    has_begun = partial(actors.have_begun, _Probe.__name__)
    try:
        with capacity.telling_of_a_wait("--gpus-per-trial auto", num_cpus, 1, has_begun):
            taken, total = ray.get(probe.measure.remote(data, largest, precision))
    except RayError as error:
        last_line = str(error).strip().splitlines()[-1]
        raise ResourceError(
            f"--gpus-per-trial auto: the largest network can't be tried on a GPU: {last_line}"
        ) from None
    if taken > total:
        raise ResourceError(
            "--gpus-per-trial auto: the largest network of the search space doesn't fit on a GPU;"
            " try smaller filters, hidden_size or batch_size"
        )
    return share_of_gpu(min(at_once, int(_SHARE_OF_MEMORY * total // taken)))


def share_of_gpu(num_trials: int) -> float:
    """Return the share of a GPU that each of `num_trials` gets, rounded down to Ray's ten-thousandths."""
    return math.floor(10_000 / max(1, num_trials)) / 10_000


class _Probe:
    """A process of its own, for Ray would keep that of a task, with what it holds of the GPU's memory."""

    def measure(
        self, data: TrainingData, hyperparameters: Hyperparameters, precision: TrainingPrecision
    ) -> tuple[float, float]:
        """Return the GPU memory that a trial takes, with its process's own, and the GPU's total; in bytes."""
        (device,) = cluster.allotted_devices()
        settings = TrainingSettings(precision=precision)
        try:
            with suppress(TrainingError):  # a network that diverges takes as much
                Trainer(data, hyperparameters, settings, devices=[device]).step()
        except torch.OutOfMemoryError:
            return math.inf, 0.0
        free, total = torch.cuda.mem_get_info(device)
        return total - free, total
