"""Starting or joining Ray, and the devices and threads that it allots to a worker.

This module, capacity.py and actors.py are the lowest ones that import Ray.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import ray
import torch
from ray._common.utils import get_default_ray_temp_dir
from ray._private.services import find_bootstrap_address
from ray.exceptions import AuthenticationError

from lstmfcn.devices import CPU, Precision, cuda_devices, keep_freed_memory, supported_precision, use_threads
from lstmfcn.environment import CLUSTER
from lstmfcn.errors import ResourceError, TrainingError
from lstmfcn.signals import end_on_signals, outliving_the_terminal
from lstmfcn.storage import reason

_SECONDS_TO_ANSWER = 10.0
"""Seconds that Ray gets to answer: it may be in the middle of a restart."""
_RAY_CLIENT = "ray://"
_SIGN_OF_OTHER_VERSIONS = "Version mismatch"
_SIGNS_OF_A_SLOW_START = ("The current node timed out during startup", "Timed out waiting for file")
_SIGN_OF_NO_ENTRY = "Failed to connect to Ray cluster"


@contextmanager
def connection() -> Iterator[None]:
    """Connect to Ray while the block runs: to the one that this process already uses, or to the cluster that
    RAY_ADDRESS or a submitted job names, or to one that already runs on this machine; else to a local Ray,
    which is started here and ended with the block.

    Raises ResourceError where none answers, or one of another version or with another token.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    for name in ("ray.data", "ray.tune", "ray.serve"):  # jobs say themselves what matters
        logging.getLogger(name).setLevel(logging.CRITICAL)
    refuse_unreachable()
    with _as_own_errors(), outliving_the_terminal():
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
def _as_own_errors() -> Iterator[None]:
    """Raise what keeps Ray from starting or from being joined as ResourceError or TrainingError."""
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
            raise ResourceError(f"this job can't use the Ray at {_address_given()}: {said}") from None
        if said.startswith(_SIGNS_OF_A_SLOW_START):
            folder: str = get_default_ray_temp_dir()  # type: ignore[no-untyped-call]
            raise TrainingError(
                f"Ray did not start in time; it needs room in {folder}, memory, and CPUs that aren't busy"
            ) from None
        raise


def refuse_unreachable() -> None:
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
                raise ResourceError(_why_unreachable(address, error)) from None
            time.sleep(0.5)
        else:
            return


def _address_given() -> str:
    """Return the address of the Ray to join, as Ray itself looks for it; empty if there is none."""
    return os.environ.get(CLUSTER) or find_bootstrap_address(None) or ""


def _why_unreachable(address: str, error: OSError) -> str:
    said = f"no Ray answers at {address} ({reason(error)})"
    if os.environ.get(CLUSTER):
        return f"{said}, where {CLUSTER} says there is one; start it, or unset {CLUSTER} to do without"
    return f"{said}, where one was started with `ray start`; `ray stop` lets jobs do without"


def precision_there(precision: Precision, num_gpus: float) -> Precision:
    """Return what a worker with `num_gpus` computes in: the precision, or what auto means on its node."""
    if precision != "auto" and num_gpus == 0:
        return supported_precision(precision, CPU)

    def resolved() -> Precision:
        return supported_precision(precision, allotted_devices()[0])

    # Ray would keep its process, with what it holds of a GPU's memory.
    most_calls = 1 if num_gpus else 0  # 0 is for any number
    asked = ray.remote(max_calls=most_calls)(resolved).options(num_cpus=1, num_gpus=num_gpus)
    found: Precision = ray.get(asked.remote())
    return found


def node_address() -> str:
    """Return the address of the node on which this Ray worker runs."""
    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return address


def allotted_devices() -> list[torch.device]:
    """Return this Ray worker's devices: the GPUs allotted to it, whatever others it can see, or the CPU."""
    return cuda_devices(len(ray.get_runtime_context().get_accelerator_ids()["GPU"]))


def set_up_worker() -> None:
    """Let PyTorch use as many threads as this Ray worker has CPUs, at least one; and keep freed memory."""
    resources = ray.get_runtime_context().get_assigned_resources()  # type: ignore[no-untyped-call]
    use_threads(max(1, int(resources.get("CPU", 1))))
    keep_freed_memory()
