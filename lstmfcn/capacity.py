"""How many workers the nodes of a cluster hold, those that it may still start included."""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Any

import ray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from lstmfcn.environment import NODES, cluster_is_given
from lstmfcn.errors import ResourceError, shown

_log = logging.getLogger(__name__)

_SECONDS_OF_PATIENCE = 30.0
"""Seconds to wait for CPUs and GPUs before a warning is logged."""


class _Kind(BaseModel):
    """Nodes of one size."""

    model_config = ConfigDict(extra="forbid")

    num_cpus: float = Field(alias="CPU", ge=0)
    num_gpus: float = Field(0, alias="GPU", ge=0)
    nodes: int = Field(ge=0)


_KINDS = TypeAdapter(list[_Kind])


def num_fitting(num_cpus: float, num_gpus: float) -> int:
    """Return how many workers, each of this size, the nodes hold at once; a worker must fit on one node."""
    return sum(int(min(_num_in(cpus, num_cpus), _num_sharing(gpus, num_gpus))) for cpus, gpus in _nodes())


def _num_sharing(gpus: float, gpus_per_worker: float) -> float:
    if gpus_per_worker == 0:
        return math.inf
    if gpus_per_worker < 1:
        return gpus * _num_in(1, gpus_per_worker)  # a fraction lies on one GPU
    return gpus // gpus_per_worker


def _num_in(resource: float, share: float) -> int:
    """Return how many shares fit into a resource. Counted in whole ten-thousandths, as Ray does, since in
    floating point 1 // 0.2 is 4.
    """
    return round(resource * 10_000) // max(1, round(share * 10_000))


def num_per_gpu(num_cpus: float) -> int:
    """Return the most workers with this many CPUs that a node has per GPU, at least 1; 0 without GPUs."""
    return max((max(1, _num_in(cpus / gpus, num_cpus)) for cpus, gpus in _nodes() if gpus), default=0)


def _nodes() -> list[tuple[float, float]]:
    """Return the CPUs and GPUs of every node, or of every one that NODES declares. Raises ResourceError."""
    if declared := os.environ.get(NODES):
        return [(kind.num_cpus, kind.num_gpus) for kind in _declared(declared) for _ in range(kind.nodes)]
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    return [(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in resources]


def _declared(text: str) -> list[_Kind]:
    try:
        return _KINDS.validate_json(text)
    except ValidationError:
        example = '[{"CPU": 8, "GPU": 1, "nodes": 4}]'
        raise ResourceError(f"{NODES} is {shown(text)}; {example} would be right") from None


def refuse_unsatisfiable(what: str, num_cpus: float, num_gpus: float, count: int = 1) -> None:
    """Raise ResourceError if the nodes can't hold `count` workers of this size; Ray would wait for ever."""
    if num_fitting(num_cpus, num_gpus) >= count:
        return
    together = f", and {count} must fit at once" if count > 1 else ""
    kinds = Counter(_named(*node) for node in _nodes())
    nodes = "; ".join(kind if number == 1 else f"{number:,} times {kind}" for kind, number in kinds.items())
    may_grow = cluster_is_given() and NODES not in os.environ
    hint = f" (if the cluster grows, {NODES} must say how far)" if may_grow else ""
    raise ResourceError(
        f"{what} asks for {_named(num_cpus, num_gpus)}{together}; the nodes have {nodes}{hint}"
    )


def _named(num_cpus: float, num_gpus: float) -> str:
    cpus, gpus = ("" if number == 1 else "s" for number in (num_cpus, num_gpus))
    return f"{num_cpus:g} CPU{cpus} and {num_gpus:g} GPU{gpus}"


@contextmanager
def telling_of_a_wait(
    what: str, num_cpus: float, num_gpus: float, has_begun: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Warn, once the block has taken long, that `what` waits for CPUs and GPUs, unless it has begun."""

    def tell() -> None:
        if has_begun():
            return
        free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
        _log.warning(
            f"{what} waits for {_named(num_cpus, num_gpus)} on one node; others hold them:"
            f" {_named(free.get('CPU', 0), free.get('GPU', 0))} are free in the cluster"
        )

    timer = Timer(_SECONDS_OF_PATIENCE, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
