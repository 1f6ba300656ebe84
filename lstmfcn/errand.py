"""A command that computes without Ray's libraries, sent to a node of the cluster that has the CPUs and GPUs
for it.
"""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, Literal, TypeAlias

import ray
from ray.exceptions import RayActorError

from lstmfcn import capacity, cluster
from lstmfcn.environment import CLUSTER, NODE
from lstmfcn.errors import ResourceError, TrainingError
from lstmfcn.progress import say
from lstmfcn.versions import common_versions, difference

Stream: TypeAlias = Literal["stdout", "stderr"]
Line: TypeAlias = tuple[Stream, str]

_PR_SET_PDEATHSIG = 1
"""Option of prctl, from Linux's prctl.h."""


def run_on_a_node(module: str, flags: Sequence[str], *, num_cpus: int, num_gpus: int) -> int:
    """Run `python -m <module>` with its flags on a node, show here what it writes, and return its status.

    Raises ResourceError when no node has so many CPUs and GPUs, or when the node has other versions than this
    machine; TrainingError when the node is lost or a signal ends the command; and KeyboardInterrupt when this
    process was interrupted, after the command was interrupted too and has ended.
    """
    with cluster.connection():
        capacity.refuse_unsatisfiable(module, num_cpus, num_gpus)
        errand = ray.remote(_Errand).options(num_cpus=num_cpus, num_gpus=num_gpus, max_concurrency=2)
        there: Any = errand.remote()
        try:
            return _follow(there, module, flags, num_cpus, num_gpus)
        except RayActorError:
            raise TrainingError(
                f"{module} lost its process, or the node that this ran on; a training goes on with --resume"
            ) from None


def _follow(there: Any, module: str, flags: Sequence[str], num_cpus: int, num_gpus: int) -> int:
    try:
        with capacity.telling_of_a_wait(module, num_cpus, num_gpus):
            refusal = ray.get(there.refusal.remote(common_versions()))
        if refusal:
            raise ResourceError(refusal)
        lines = there.run.options(num_returns="streaming").remote(module, list(flags))
    except KeyboardInterrupt:
        ray.kill(there)
        raise
    try:
        _show(lines)
    except KeyboardInterrupt:
        ray.get(there.interrupt.remote())
        _show(lines)
        raise
    status: int = ray.get(there.status.remote())
    if status < 0:
        raise TrainingError(
            f"{module} was ended by signal {-status} on its node, as when there is no more memory;"
            " a training goes on with --resume"
        )
    return status


def _show(lines: Any) -> None:
    for line in lines:
        stream, text = ray.get(line)
        say(text, getattr(sys, stream), end="")


class _Errand:
    """An actor that runs one command in a process of its own, in which signals work as they do anywhere."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._is_interrupted = False

    def refusal(self, of_driver: dict[str, str]) -> str:
        """Return why this node can't run the command, in a sentence; empty if it can."""
        return difference(of_driver)

    def run(self, module: str, flags: list[str]) -> Iterator[Line]:
        """Run the command, and yield the lines that it writes as it writes them."""
        environment = {**os.environ, NODE: cluster.node_address()}
        environment.pop(CLUSTER, None)  # with it the command would send itself on
        if not ray.get_runtime_context().get_accelerator_ids()["GPU"]:
            environment["CUDA_VISIBLE_DEVICES"] = ""  # Ray hides none from a worker without one
        with self._lock:
            if self._is_interrupted:
                return
            self._process = _started([sys.executable, "-m", module, *flags], environment)
        yield from _lines(self._process)
        self._process.wait()

    def interrupt(self) -> None:
        """Interrupt the command as Ctrl-C does."""
        with self._lock:
            self._is_interrupted = True
            if self._process is not None:
                self._process.send_signal(signal.SIGTERM)

    def status(self) -> int:
        """Return the exit status of the command, which has written its last line."""
        assert self._process is not None
        return self._process.returncode


def _started(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 (a module of this project)
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="backslashreplace",  # a path may be no UTF-8
        preexec_fn=_end_with_the_parent if sys.platform == "linux" else None,  # noqa: PLW1509 (it takes no lock)
    )


def _end_with_the_parent() -> None:
    """End this process with its parent: Ray ends a worker whose job is gone, but not what it has started."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _lines(process: subprocess.Popen[str]) -> Iterator[Line]:
    """Yield the lines of both streams, in the order in which they arrive."""
    written: queue.SimpleQueue[Line | None] = queue.SimpleQueue()

    def read(stream: Stream, pipe: IO[str]) -> None:
        for text in pipe:
            written.put((stream, text))
        written.put(None)

    assert process.stdout is not None
    assert process.stderr is not None
    for stream, pipe in (("stdout", process.stdout), ("stderr", process.stderr)):
        threading.Thread(target=read, args=(stream, pipe), daemon=True).start()
    for _ in range(2):
        while (line := written.get()) is not None:
            yield line
