"""Timing side by side: the contestants take turns, several times, and their medians are compared."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping

os.environ.setdefault("KINETO_LOG_LEVEL", "5")
from torch.profiler import ProfilerActivity, profile


def interleaved(contestants: Mapping[str, Callable[[], object]], repeats: int = 7) -> dict[str, float]:
    """Return the median seconds of each contestant, after one turn to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(repeats + 1):
        for name, run in contestants.items():
            started = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def shares(run: Callable[[], object], most: int = 8) -> list[str]:
    """Return PyTorch's operations with the largest shares of the time, a line each."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        run()
    operations = sorted(profiled.key_averages(), key=lambda one: -one.self_cpu_time_total)
    total = sum(one.self_cpu_time_total for one in operations)
    return [
        f"{one.self_cpu_time_total / total:6.1%}  {one.key} ({one.count} calls)" for one in operations[:most]
    ]
