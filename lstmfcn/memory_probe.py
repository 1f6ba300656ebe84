"""How many trials fit on a GPU, by its memory: one trains for an epoch, and what it took is measured."""

from __future__ import annotations

import logging
import math
from contextlib import suppress

import ray
import torch
from ray.exceptions import RayError

from lstmfcn import capacity, cluster
from lstmfcn.errors import ResourceError, TrainingError, is_of_full_memory
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
    # Without max_calls Ray would keep its process, with what it holds of the GPU's memory.
    task = ray.remote(max_calls=1)(_measure).options(num_cpus=num_cpus, num_gpus=1, max_retries=0)
    try:
        with capacity.telling_of_a_wait("--gpus-per-trial auto", num_cpus, 1):
            taken, total = ray.get(task.remote(data, largest, precision))
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


def _measure(
    data: TrainingData, hyperparameters: Hyperparameters, precision: TrainingPrecision
) -> tuple[float, float]:
    """Return the GPU memory that a trial takes, its process's own included, and the GPU's total; in bytes."""
    (device,) = cluster.allotted_devices()
    try:
        with suppress(TrainingError):  # a network that diverges takes as much
            Trainer(data, hyperparameters, TrainingSettings(precision=precision), devices=[device]).step()
    except RuntimeError as error:
        if not is_of_full_memory(repr(error)):
            raise
        return math.inf, 0.0
    free, total = torch.cuda.mem_get_info(device)
    return total - free, total
