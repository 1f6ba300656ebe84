"""The processes of a transform's predictors or an endpoint's replicas, which Ray starts when there is room,
and again when one is lost: it waits, and tries again, for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import ray
from ray._private.state import state

_log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 20.0
_MANY_LOSSES = 5
"""Losses of processes before a first warning, and before each further one."""


@contextmanager
def watching(class_name: str) -> Iterator[None]:
    """Warn, while the block runs, when this job's predictors, actors of that class, lose their processes
    again and again: there may never be enough memory.
    """
    ended = Event()

    def watch() -> None:
        told = 0
        while not ended.wait(_SECONDS_BETWEEN_LOOKS):
            if (lost := sum(actor["NumRestarts"] for actor in _actors(class_name))) >= told + _MANY_LOSSES:
                told = lost
                _log.warning(
                    "predictors lost their processes %d times and were started again; use fewer"
                    " (--predictors of jobs.transform), or give them more memory",
                    lost,
                )

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def have_begun(class_name: str, count: int = 1) -> bool:
    """Return whether at least `count` of this job's actors of that class have a process, even one that only
    starts.
    """
    begun = [actor for actor in _actors(class_name) if actor["Pid"] and actor["State"] != "DEAD"]
    return len(begun) >= count


def num_restarts() -> int:
    """Return how often this actor's process was lost and started again."""
    actor_id = ray.get_runtime_context().get_actor_id()
    return int(state.actor_table(actor_id)["NumRestarts"])


def _actors(class_name: str) -> list[dict[str, Any]]:
    job = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
    actors: list[dict[str, Any]] = list(state.actor_table(None, job).values())
    return [actor for actor in actors if class_name in actor["ActorClassName"]]
