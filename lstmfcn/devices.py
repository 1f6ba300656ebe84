"""The devices of this machine, for work that Ray hasn't allotted."""

from __future__ import annotations

import torch

from lstmfcn.errors import ResourceError

CPU = torch.device("cpu")


def visible_devices(num_gpus: int | None = None) -> list[torch.device]:
    """The first `num_gpus` GPUs, all of them for None; the CPU when that is none.

    Raises ResourceError when there are fewer.
    """
    available = torch.cuda.device_count()
    if num_gpus is not None and not 0 <= num_gpus <= available:
        raise ResourceError(f"--num-gpus is {num_gpus}; this machine has {available}")
    return cuda_devices(available if num_gpus is None else num_gpus)


def cuda_devices(count: int) -> list[torch.device]:
    """The first GPUs, or the CPU for a count of 0."""
    return [torch.device("cuda", index) for index in range(count)] or [CPU]
