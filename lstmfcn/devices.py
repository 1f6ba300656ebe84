"""Devices, the precisions they compute in, and the threads that work on them."""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

import torch

from lstmfcn.errors import ResourceError

Precision = Literal["fp32", "bf16", "fp16", "auto"]
"""auto is bf16 where the hardware computes in it, else fp32."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

CPU = torch.device("cpu")

_CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")
"""File of Linux's control groups (version 2) with the microseconds of CPU time that this one gets in each
period, and the period's."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt, from glibc's malloc.h."""
_changing_threads = threading.Lock()
"""Lock for PyTorch's number of threads, which is the whole process's."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def visible_devices(num_gpus: int | None = None) -> list[torch.device]:
    """Return the first `num_gpus` GPUs, or all of them for None; if that is none, the CPU.

    Raises ResourceError when there are fewer.
    """
    available = torch.cuda.device_count()
    if num_gpus is not None and not 0 <= num_gpus <= available:
        raise ResourceError(f"--num-gpus is {num_gpus}; this machine has {available} that can be seen")
    return cuda_devices(available if num_gpus is None else num_gpus)


def cuda_devices(count: int) -> list[torch.device]:
    """Return the first `count` GPUs, or the CPU for a count of 0."""
    return [torch.device("cuda", index) for index in range(count)] or [CPU]


def supported_precision(precision: Precision, device: torch.device) -> Precision:
    """Return what a device computes in: the precision, or what auto means there.

    Raises ResourceError for fp16 on a CPU.
    """
    if precision == "auto":
        return "bf16" if _has_bfloat16(device) else "fp32"
    if precision == "fp16" and device.type == "cpu":
        raise ResourceError("precision fp16 needs a GPU; a CPU computes in fp32 or bf16")
    return precision


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # the last is ARM's


def use_threads(count: int | None) -> None:
    """Let this process compute with `count` threads; for None, with one for each core, as PyTorch would, but
    no more than the container may use.
    """
    torch.set_num_threads(count or max(1, int(min(torch.get_num_threads(), _cpu_quota()))))


def _cpu_quota() -> float:
    """Return the CPUs that the container, or its control group, may use; infinity without a limit."""
    try:
        quota, period = _CPU_LIMIT.read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # no such limit, or the word max
        return math.inf


def keep_freed_memory() -> None:
    """Let glibc keep the blocks of megabytes that parsing takes and frees all the time: the system clears
    what it hands out again, which takes as long as half of the parsing.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, 64 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 256 << 20)


def each_on_one_thread(function: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Return the function's result for every item, in order. As many items run at once as PyTorch may use
    threads, each on one, for the bits of a matrix product depend on the number of its threads.
    """
    with _changing_threads:  # the first time a thread asks, PyTorch fixes its number for good
        num_threads = torch.get_num_threads()
    if num_threads == 1:
        return [function(item) for item in items]
    with _changing_threads:
        torch.set_num_threads(1)
        try:
            if len(items) == 1:
                return [function(items[0])]
            with ThreadPoolExecutor(num_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                return list(pool.map(function, items))
        finally:
            torch.set_num_threads(num_threads)
