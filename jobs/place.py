"""Where a job runs that computes without Ray's libraries: here or, when a cluster is given, on a node."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from lstmfcn.command import run
from lstmfcn.environment import cluster_is_given


def run_in_place(job: Callable[..., None], name: str, argv: Sequence[str] | None = None) -> NoReturn:
    """Call the job with what the command line says, here or on a node that has the CPUs (by default one) and
    GPUs that it asks for; then exit with its status.

    The node matters since a submitted job's driver is on the head, which is to run no work.
    """
    flags = sys.argv[1:] if argv is None else argv
    run(placed(job, flags), name, flags)


def placed(job: Callable[..., None], flags: Sequence[str]) -> Callable[..., None]:
    """Return the job or, when a cluster is given, a function that runs it on a node with these flags."""
    if not cluster_is_given():
        return job

    @functools.wraps(job)
    def send(**given: Any) -> None:
        from lstmfcn.errand import run_on_a_node  # noqa: PLC0415 (Ray, which the job alone doesn't need)

        module = f"jobs.{job.__name__}"
        num_cpus, num_gpus = given.get("num_cpus") or 1, given.get("num_gpus") or 0
        if status := run_on_a_node(module, flags, num_cpus=num_cpus, num_gpus=num_gpus):
            sys.exit(status)

    return send
