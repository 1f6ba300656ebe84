from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator

import pytest

from serve_app import ingress

METRICS, STATS = "RAY_SERVE_HAPROXY_METRICS_PORT", "RAY_SERVE_HAPROXY_STATS_PORT"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="HAProxy is Ray's on Linux only")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """In which nothing is set; what is set there is undone."""
    for name in ingress.variables():
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def other_endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of its metrics, which is also the usual one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        monkeypatch.setitem(ingress._HAPROXY, METRICS, str(port))
        yield port


def test_a_port_that_another_endpoint_has_becomes_the_next_free_one(other_endpoint: int) -> None:
    ingress.choose()

    chosen = int(os.environ[METRICS])
    assert chosen > other_endpoint
    socket.create_server(("127.0.0.1", chosen)).close()
    assert f"metrics on port {chosen} and statistics on {os.environ[STATS]}" in ingress.open_ports()


def test_a_port_that_the_environment_names_stays(
    other_endpoint: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(METRICS, str(other_endpoint))

    ingress.choose()

    assert os.environ[METRICS] == str(other_endpoint)
