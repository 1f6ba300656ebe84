"""Servers on this machine that stand in for those elsewhere."""

from __future__ import annotations

import contextlib
import socket
import time
from random import SystemRandom

_PORTS = range(20_000, 30_000)
"""Of which the system gives none to an outgoing connection: Linux begins at 32768."""


def free_port() -> int:
    """That nobody listens on."""
    while True:
        port = SystemRandom().choice(_PORTS)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def wait_for_port(port: int) -> None:
    """Until somebody listens on it. Raises OSError after ten seconds."""
    give_up = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.05)
        else:
            return
