"""Starting or joining Ray, and the devices and threads that it allots to a worker.

The lowest module that imports Ray.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import ray
import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from ray._common.utils import get_default_ray_temp_dir
from ray._private.services import find_bootstrap_address
from ray._private.state import state
from ray.exceptions import AuthenticationError

from lstmfcn.command import CLUSTER, cluster_is_given, end_on_signals, outliving_the_terminal
from lstmfcn.devices import CPU, Precision, cuda_devices, keep_freed_memory, supported_precision, use_threads
from lstmfcn.errors import ResourceError, TrainingError, shown
from lstmfcn.storage import reason

_log = logging.getLogger(__name__)

NODES = "LSTMFCN_NODES"
"""Environment variable of a cluster that grows: the nodes that it may have at most, as JSON, for Ray's
autoscaler keeps to itself what it may start. [{"CPU": 8, "GPU": 1, "nodes": 4}] is four of one kind."""

_SECONDS_TO_ANSWER = 10.0
"""For a Ray that is being started again."""
_SECONDS_BETWEEN_LOOKS = 20.0
_MANY_LOSSES = 5
"""Of processes, before something is said."""
_RAY_CLIENT = "ray://"
_SIGN_OF_OTHER_VERSIONS = "Version mismatch"
_SIGNS_OF_A_SLOW_START = ("The current node timed out during startup", "Timed out waiting for file")
_SIGN_OF_NO_ENTRY = "Failed to connect to Ray cluster"


class _Kind(BaseModel):
    """Nodes of one size."""

    model_config = ConfigDict(extra="forbid")

    num_cpus: float = Field(alias="CPU", ge=0)
    num_gpus: float = Field(0, alias="GPU", ge=0)
    nodes: int = Field(ge=0)


_KINDS = TypeAdapter(list[_Kind])


@contextmanager
def connection() -> Iterator[None]:
    """Ray, while the block runs: the one that this process is connected to, or the cluster that RAY_ADDRESS
    or a submitted job names, or one that already runs on this machine; else a local Ray, started here
    and ended with the block.

    Raises ResourceError where none answers, or one of another version or with another token.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    for name in ("ray.data", "ray.tune", "ray.serve"):  # jobs say themselves what matters
        logging.getLogger(name).setLevel(logging.CRITICAL)
    refuse_silence()
    with _in_words(), outliving_the_terminal():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    end_on_signals()
    try:
        yield
    finally:
        ray.shutdown()


def joins_another() -> bool:
    """Whether the connection is to a Ray that runs before and after it."""
    return ray.is_initialized() or _address_given() not in ("", "local")


@contextmanager
def _in_words() -> Iterator[None]:
    """What keeps Ray from starting or from being joined, as ResourceError or TrainingError."""
    try:
        yield
    except AuthenticationError as error:
        raise ResourceError(f"{error.message}; `ray get-auth-token --generate` makes one") from None
    except ConnectionError as error:
        if not str(error).startswith(_SIGN_OF_NO_ENTRY):
            raise
        raise ResourceError(
            f"the Ray at {_address_given()} doesn't let this job in; RAY_AUTH_MODE=token and Ray's own token,"
            " in ~/.ray/auth_token or RAY_AUTH_TOKEN, would be right"
        ) from None
    except Exception as error:
        said = " ".join(str(error).split())
        if said.startswith(_SIGN_OF_OTHER_VERSIONS):
            raise ResourceError(f"the Ray at {_address_given()} is none for this job: {said}") from None
        if said.startswith(_SIGNS_OF_A_SLOW_START):
            folder: str = get_default_ray_temp_dir()  # type: ignore[no-untyped-call]
            raise TrainingError(
                f"Ray did not start in time; it needs room in {folder}, memory, and CPUs that aren't busy"
            ) from None
        raise


def refuse_silence() -> None:
    """Raise ResourceError when no Ray answers where one should be: Ray itself would ask for minutes."""
    address = _address_given()
    if address in ("", "local", "auto"):
        return
    if "://" in address and not address.startswith(_RAY_CLIENT):
        raise ResourceError(
            f"{CLUSTER} is {address}; the address of Ray's head, such as 192.0.2.10:6379, would be right"
            " (where jobs are submitted to is RAY_API_SERVER_ADDRESS)"
        )
    host, _, port = address.removeprefix(_RAY_CLIENT).rpartition(":")
    if not host or not port.isdecimal():
        raise ResourceError(f"{CLUSTER} is {address}; host and port, such as 192.0.2.10:6379, would be right")
    last_attempt = time.monotonic() + _SECONDS_TO_ANSWER
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_ANSWER).close()
        except OSError as error:
            if time.monotonic() > last_attempt:
                raise ResourceError(_why_silent(address, error)) from None
            time.sleep(0.5)
        else:
            return


def _address_given() -> str:
    """Of the Ray to join, as Ray looks for it; empty if there is none."""
    return os.environ.get(CLUSTER) or find_bootstrap_address(None) or ""


def _why_silent(address: str, error: OSError) -> str:
    said = f"no Ray answers at {address} ({reason(error)})"
    if os.environ.get(CLUSTER):
        return f"{said}, where {CLUSTER} says there is one; start it, or unset {CLUSTER} to do without"
    return f"{said}, where one was started with `ray start`; `ray stop` lets jobs do without"


def refuse_unsatisfiable(what: str, num_cpus: float, num_gpus: float, count: int = 1) -> None:
    """Raise ResourceError when the nodes don't hold so many workers of so many CPUs and GPUs, for Ray would
    wait for ever.
    """
    if num_fitting(num_cpus, num_gpus) >= count:
        return
    together = f", and there are to be {count}" if count > 1 else ""
    nodes = "; ".join(f"{cpus:g} CPUs and {gpus:g} GPUs" for cpus, gpus in _nodes())
    may_grow = cluster_is_given() and NODES not in os.environ
    hint = f" (of a cluster that grows {NODES} says how far)" if may_grow else ""
    raise ResourceError(
        f"{what} asks for {num_cpus:g} CPUs and {num_gpus:g} GPUs{together}; the nodes have {nodes}{hint}"
    )


def waiting(what: str, num_cpus: float, num_gpus: float) -> str:
    """A sentence for who waits for so many CPUs and GPUs that others hold."""
    free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    return (
        f"{what} waits for {num_cpus:g} CPUs and {num_gpus:g} GPUs on one node; others hold them:"
        f" {free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs are free in the cluster"
    )


@contextmanager
def telling_losses(what: str, class_name: str) -> Iterator[None]:
    """While the block runs, say when this job's actors of a class lose their processes again and again: Ray
    itself starts them for ever, though there may never be enough memory.
    """
    ended = Event()

    def watch() -> None:
        told = 0
        while not ended.wait(_SECONDS_BETWEEN_LOOKS):
            if (lost := _num_losses(class_name)) >= told + _MANY_LOSSES:
                told = lost
                _log.warning(
                    "%s lost their processes %d times and were started again; fewer at once, or more memory"
                    " for them, would help",
                    what,
                    lost,
                )

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def num_restarts() -> int:
    """How often this actor's process was lost and started again."""
    actor_id = ray.get_runtime_context().get_actor_id()
    return int(state.actor_table(actor_id)["NumRestarts"])


def _num_losses(class_name: str) -> int:
    job = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
    actors: list[dict[str, Any]] = list(state.actor_table(None, job).values())
    return sum(actor["NumRestarts"] for actor in actors if class_name in actor["ActorClassName"])


def num_fitting(num_cpus: float, num_gpus: float) -> int:
    """How many workers of so many CPUs and GPUs the nodes hold at once; one of several can't be split."""
    return sum(int(min(_num_in(cpus, num_cpus), _num_sharing(gpus, num_gpus))) for cpus, gpus in _nodes())


def _num_sharing(gpus: float, gpus_per_worker: float) -> float:
    if gpus_per_worker == 0:
        return math.inf
    if gpus_per_worker < 1:
        return gpus * _num_in(1, gpus_per_worker)  # a fraction lies on one GPU
    return gpus // gpus_per_worker


def _num_in(resource: float, share: float) -> int:
    """By whole ten thousandths, in which Ray counts: 1 // 0.2 is 4."""
    return round(resource * 10_000) // max(1, round(share * 10_000))


def num_per_gpu(num_cpus: float) -> int:
    """How many workers of so many CPUs a GPU's node has for each GPU, one at least; 0 without a GPU."""
    return max((max(1, _num_in(cpus / gpus, num_cpus)) for cpus, gpus in _nodes() if gpus), default=0)


def _nodes() -> list[tuple[float, float]]:
    """CPUs and GPUs of every node, or of every one that there may be. Raises ResourceError."""
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


def precision_there(precision: Precision, num_gpus: float) -> Precision:
    """What a worker with so many GPUs computes in: the precision, or what auto means on its node."""
    if precision != "auto" and num_gpus == 0:
        return supported_precision(precision, CPU)

    def resolved() -> Precision:
        return supported_precision(precision, allotted_devices()[0])

    task = ray.remote(resolved).options(num_cpus=1, num_gpus=num_gpus)
    found: Precision = ray.get(task.remote())
    return found


def allotted_devices() -> list[torch.device]:
    """The devices of this Ray worker: the GPUs allotted to it, whatever others it can see, or the CPU."""
    return cuda_devices(len(ray.get_runtime_context().get_accelerator_ids()["GPU"]))


def set_up_worker() -> None:
    """Let PyTorch use as many threads as this Ray worker has CPUs, at least one; and keep freed memory."""
    resources = ray.get_runtime_context().get_assigned_resources()  # type: ignore[no-untyped-call]
    use_threads(max(1, int(resources.get("CPU", 1))))
    keep_freed_memory()
