"""Servers on this machine that stand in for those elsewhere."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from random import SystemRandom

import httpx

_ports = iter(SystemRandom().sample(range(20_000, 30_000), 10_000))
"""Ports that Linux gives to no outgoing connection, unless told to: those that it gives begin at 32768."""


def free_port() -> int:
    """Return a port that nobody listens on, another one each time."""
    for port in _ports:
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("", port))
            return port
    raise OSError("no port from 20000 to 29999 is left")


def haproxy_ports() -> dict[str, str]:
    """Return environment variables by which an endpoint's HAProxy gets ports that no other HAProxy has."""
    return {f"RAY_SERVE_HAPROXY_{name}_PORT": str(free_port()) for name in ("METRICS", "STATS")}


@contextlib.contextmanager
def started(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that is told to end with the block, and killed if it does not within a minute."""
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_for_port(port: int) -> None:
    """Wait until somebody listens on a port. Raises OSError after a minute."""
    give_up = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.05)
        else:
            return


def pings(process: subprocess.Popen[str], url: str) -> list[httpx.Response]:
    """Return the answers to /ping of an endpoint that starts, up to the first with status 200. Raises
    TimeoutError when the process ends before, or after the four minutes that SageMaker gives it.
    """
    answers = []
    give_up = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < give_up:
        with contextlib.suppress(httpx.TransportError):
            answers.append(httpx.get(f"{url}/ping"))
            if answers[-1].status_code == 200:
                return answers
        time.sleep(0.3)
    raise TimeoutError(f"the endpoint was not ready; /ping answered {answers}")
