"""An endpoint as `python -m serve_app` starts it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil

from tests.servers import free_port, haproxy_ports, pings, started

HEADER_SECONDS = 2
CONNECTIONS = 200
LARGE_AT_ONCE = 15


class Launched(NamedTuple):
    """An endpoint that was started by its launcher."""

    client: httpx.Client
    launcher: psutil.Process
    statuses_before: set[int]
    """That /ping answered until it answered 200."""
    curl: str
    """The line to try that it prints."""


@contextlib.contextmanager
def launch(checkpoint_folder: Path) -> Iterator[Launched]:
    """Yield an endpoint that ends with the block."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "serve_app", "--checkpoint", str(checkpoint_folder), "--port", str(port)]
    limits = ["--header-seconds", str(HEADER_SECONDS), "--max-connections", str(CONNECTIONS)]
    limits += ["--max-large-at-once", str(LARGE_AT_ONCE)]
    with (
        started([*command, *limits], {**os.environ, **haproxy_ports()}) as process,
        httpx.Client(base_url=url) as client,
    ):
        *before, _ = pings(process, url)
        assert process.stdout is not None
        (curl,) = (
            line for _, line in zip(range(2), process.stdout, strict=False) if line.startswith("try: ")
        )
        yield Launched(
            client,
            psutil.Process(process.pid),
            {ping.status_code for ping in before},
            curl.removeprefix("try: "),
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
