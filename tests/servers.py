"""Servers on this machine that stand in for those elsewhere."""

from __future__ import annotations

import socket
import time


def free_port() -> int:
    """That nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
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
