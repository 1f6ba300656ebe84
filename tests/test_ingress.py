from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.serve._private.node_port_manager import PortAllocator

from lstmfcn.errors import ResourceError
from serve_app import ingress
from tests.servers import free_port

METRICS, STATS = "RAY_SERVE_HAPROXY_METRICS_PORT", "RAY_SERVE_HAPROXY_STATS_PORT"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="HAProxy is Ray's on Linux only")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """In which nothing is set; what is set there is undone."""
    ends = [f"{end}_{kind}_PORT" for end in ("MIN", "MAX") for kind in ("HTTP", "GRPC")]
    ports = [f"RAY_SERVE_DIRECT_INGRESS_{end}" for end in ends]
    files = [f"RAY_SERVE_HAPROXY_{name}" for name in ingress._FILES]
    for name in [*ingress.variables(), *ingress._PROXY_PORTS, *ports, *files]:
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
    ingress.set_variables()

    chosen = int(os.environ[METRICS])
    assert chosen > other_endpoint
    socket.create_server(("127.0.0.1", chosen)).close()
    assert (
        f"metrics on port {chosen} (/metrics) and statistics on {os.environ[STATS]} (/stats)"
        in ingress.open_ports()
    )


def test_a_port_that_the_environment_names_stays(
    other_endpoint: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(METRICS, str(other_endpoint))

    ingress.set_variables()

    assert os.environ[METRICS] == str(other_endpoint)


def test_haproxys_files_lie_in_a_folder_of_the_user() -> None:
    ingress.set_variables()

    folder = Path(os.environ["RAY_SERVE_HAPROXY_SERVER_STATE_BASE"])
    assert folder.name == f"lstmfcn-{os.getuid()}"
    assert (folder.stat().st_uid, folder.stat().st_mode & 0o777) == (os.getuid(), 0o700)
    assert os.environ["RAY_SERVE_HAPROXY_SOCKET_PATH"] == str(folder / "admin.sock")


@pytest.mark.parametrize("kind", ["another user's", "a link", "a file"])
def test_what_is_no_folder_of_the_user_is_refused(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    if kind == "a link":
        place.symlink_to(tmp_path)
    elif kind == "a file":
        place.touch()
    else:
        place.mkdir()
        monkeypatch.setattr(os, "getuid", lambda: 12345)
    monkeypatch.setattr(ingress, "Path", lambda _: place)

    with pytest.raises(ResourceError, match=r"place is no folder of this user's; HAProxy's files"):
        ingress.set_variables()


def test_a_folder_that_cannot_be_made_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingress, "_FOLDER", "/proc/lstmfcn")

    with pytest.raises(ResourceError, match=r"^/proc/lstmfcn-\d+, for HAProxy's files, can't be made: "):
        ingress.set_variables()


def test_the_name_of_haproxys_socket_is_short_enough_for_it() -> None:
    greatest_user, node = 2**32 - 1, 56 * "f"

    assert len(f"{ingress._FOLDER}-{greatest_user}/{node}/admin.sock") <= 97


@pytest.mark.parametrize("name", [METRICS, STATS, *ingress._PROXY_PORTS])
def test_a_port_that_something_beside_the_endpoint_listens_on_is_refused(name: str) -> None:
    ingress.set_variables()
    port = int(os.environ[name])

    with pytest.raises(ResourceError, match=f"^port {port} is {name}, which .* choose another one$"):
        ingress.usable_address("127.0.0.1", port, is_guest=False)


def test_replicas_of_another_endpoint_have_a_block_of_ports_for_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ingress.set_variables()
    first = int(os.environ["RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT"])
    with socket.create_server(("127.0.0.1", first + 5)):
        monkeypatch.delenv("RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT")
        ingress.set_variables()
    second = int(os.environ["RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT"])

    assert {first % 100, second % 100} == {0}
    assert first != second
    assert int(os.environ["RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT"]) == second + 100
    assert int(os.environ["RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT"]) == second + 10_000


def test_there_are_ports_for_a_hundred_replicas() -> None:
    ingress.set_variables()
    ports = PortAllocator(
        int(os.environ["RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT"]),
        int(os.environ["RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT"]),
        "HTTP",
        "node",
    )

    assert len(ports._available_ports) == 100
    ingress.refuse_too_many(100)
    with pytest.raises(ResourceError, match=r"^101 replicas need a port each; there are 100, from 3"):
        ingress.refuse_too_many(101)


def test_serves_own_proxy_of_another_endpoint_keeps_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT"
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken: int = other.getsockname()[1]
        monkeypatch.setitem(ingress._PROXY_PORTS, name, str(taken))
        ingress.set_variables()

    assert int(os.environ[name]) > taken


@pytest.mark.parametrize("host", ["127.0.0.2", "::1", "::"])
def test_an_address_on_which_haproxy_finds_no_replica_is_refused(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "1")

    with pytest.raises(ResourceError, match=rf"^--host {host}: with HAProxy .* listens on 127.0.0.1 or"):
        ingress.usable_address(host, free_port(), is_guest=False)

    ingress.usable_address(host, free_port(), is_guest=True)
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "0")
    ingress.usable_address(host, free_port(), is_guest=False)


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"), ("0.0.0.0", "0.0.0.0")],  # noqa: S104
)
def test_addresses_on_which_it_finds_them_are_taken(
    host: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "1")

    assert ingress.usable_address(host, free_port(), is_guest=False) == address


def test_another_endpoint_on_loopback_makes_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "1")

    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(ResourceError, match="with HAProxy"):
        ingress.usable_address("127.0.0.2", other.getsockname()[1], is_guest=False)
