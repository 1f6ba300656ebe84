"""How requests reach the replicas on one machine: by HAProxy, straight to the replica's own server.

Ray Serve reads these settings from the environment when it is imported, as do the processes of a Ray that is
started here. A cluster gets them in the environment of `ray start`, by
`eval "$(python -m serve_app.ingress)"`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import site
import socket
import stat
import sys
import sysconfig
from contextlib import suppress
from itertools import count
from pathlib import Path

from lstmfcn.errors import ResourceError

LARGE_BYTES = 16_384
"""Bytes beyond which a body is large, since it doesn't fit into HAProxy's buffer."""

COMMAND = "lstmfcn-haproxy"
BINARY = "RAY_SERVE_HAPROXY_BINARY_PATH"
HEADER_SECONDS = "LSTMFCN_HEADER_SECONDS"
CONNECTIONS = "LSTMFCN_CONNECTIONS"
WAIT_SECONDS = "LSTMFCN_WAIT_SECONDS"
LARGE_AT_ONCE = "LSTMFCN_LARGE_AT_ONCE"
LIMITS = {HEADER_SECONDS: 10, CONNECTIONS: 2000, WAIT_SECONDS: 1, LARGE_AT_ONCE: 16}
"""Limits that serve_app/haproxy.py sets where the environment says nothing else."""

_IS_ON = "RAY_SERVE_ENABLE_HA_PROXY"
_METRICS_PORT = "RAY_SERVE_HAPROXY_METRICS_PORT"
_STATS_PORT = "RAY_SERVE_HAPROXY_STATS_PORT"
_PROXY_PORTS = {"RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": "8500", "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": "9500"}
"""Ports of Serve's own proxy, to which HAProxy turns while no replica answers: on another endpoint's port,
that endpoint would answer.
"""
_FOLDER = "/tmp/lstmfcn"  # noqa: S108 (its owner is looked at)
"""Path of HAProxy's folder, to which the user's number is added; short, since HAProxy takes 97 characters for
a socket's path, to which Ray adds the node's id."""
_FILES = {
    "CONFIG_FILE_LOC": "haproxy.cfg",
    "SOCKET_PATH": "admin.sock",
    "SERVER_STATE_BASE": "",
    "SERVER_STATE_FILE": "server-state",
    "METRICS_SOCKET_PATH": "metrics.sock",
}
"""HAProxy's files, by the ends of the variables that name them."""
_FOUND_BY_HAPROXY = ("127.0.0.1", "0.0.0.0")  # noqa: S104
_REPLICA_PORTS = "RAY_SERVE_DIRECT_INGRESS_"
_FIRST_REPLICA_PORT = 30_000
_GRPC_OFFSET = 10_000
_MOST_REPLICAS = 100
_HAPROXY = {
    _IS_ON: "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
    # A request to a replica that has died goes to another: it does no harm to ask for predictions twice.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_SERVE_HAPROXY_RETRIES": "1",
    # If on, a line goes to another process for each request, by which Ray counts them; without it the
    # replicas count those that reach them.
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    # An answer's head waits for its body, which follows at once, and so isn't a packet of its own.
    "RAY_SERVE_HAPROXY_TCP_NODELAY": "0",
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1",  # the access log is written once a second anyway
    _METRICS_PORT: "9101",
    _STATS_PORT: "8404",
}


def variables() -> dict[str, str]:
    """Return the environment variables for HAProxy on Linux, where Ray brings it; none elsewhere."""
    if sys.platform != "linux":
        return {}
    places = [str(Path(sys.executable).parent), sysconfig.get_path("scripts")]
    if site.ENABLE_USER_SITE:  # not in a virtual environment
        places.append(sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user")))
    stricter = shutil.which(COMMAND, path=os.pathsep.join(places))
    return {**_HAPROXY, **({BINARY: stricter} if stricter else {})}


def set_variables() -> None:
    """Set the variables that the environment doesn't set already. A port that is taken, as by another
    endpoint on this machine, is replaced by the next free one.
    """
    if not (chosen := variables()):
        return
    for name, value in {**chosen, **_PROXY_PORTS}.items():
        if name not in os.environ:
            is_port = name in (_METRICS_PORT, _STATS_PORT, *_PROXY_PORTS)
            os.environ[name] = str(free_port(int(value))) if is_port else value
    if _is_by_haproxy():
        for name, file in _files().items():
            os.environ.setdefault(name, file)
    if f"{_REPLICA_PORTS}MIN_HTTP_PORT" not in os.environ:
        first = _first_replica_port()
        for kind, offset in (("HTTP", 0), ("GRPC", _GRPC_OFFSET)):
            os.environ[f"{_REPLICA_PORTS}MIN_{kind}_PORT"] = str(first + offset)
            os.environ[f"{_REPLICA_PORTS}MAX_{kind}_PORT"] = str(first + offset + _MOST_REPLICAS)  # exclusive


def _files() -> dict[str, str]:
    """Return the variables that name HAProxy's files, in a folder of this user's. Raises ResourceError."""
    folder = _own_folder()
    return {f"RAY_SERVE_HAPROXY_{name}": str(folder / file) for name, file in _FILES.items()}


def _own_folder() -> Path:
    """Return a folder of this user's for HAProxy's files: the one that Ray would take belongs to the user who
    served first on this machine. Raises ResourceError if its name is taken.
    """
    folder = Path(f"{_FOLDER}-{os.getuid()}")
    try:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
    except OSError as error:
        raise ResourceError(f"{folder}, for HAProxy's files, can't be made: {error.strerror}") from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise ResourceError(f"{folder} is no folder of this user's; HAProxy's files are to lie there")
    return folder


def _first_replica_port() -> int:
    """Return the first of as many free ports as there may be replicas. On a port of another endpoint's
    replica, that one would answer this endpoint's first requests: Ray tells HAProxy of a port before it is
    bound. Raises ResourceError if there are none.
    """
    blocks = range(_FIRST_REPLICA_PORT, _FIRST_REPLICA_PORT + 10 * _MOST_REPLICAS, _MOST_REPLICAS)
    # Endpoints that are started together don't begin with the same block.
    turn = os.getpid() % len(blocks)
    for first in [*blocks[turn:], *blocks[:turn]]:
        if all(map(_is_free, range(first, first + _MOST_REPLICAS))):
            return int(first)
    raise ResourceError(
        f"all of {len(blocks)} blocks of ports from {_FIRST_REPLICA_PORT} on have ports that are taken;"
        f" {_REPLICA_PORTS}MIN_HTTP_PORT and its like name others"
    )


def free_port(first: int) -> int:
    """Return the next port, from `first` on, that is free on all addresses of this machine."""
    return next(port for port in count(first) if _is_free(port))


def _is_free(port: int) -> bool:
    # HAProxy itself wouldn't fail: it shares another HAProxy's port, which then gets half of the requests.
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def refuse_too_many(replicas: int) -> None:
    """Raise ResourceError if there are fewer ports than replicas: the last ones would never start."""
    least, end = (os.environ.get(f"{_REPLICA_PORTS}{bound}_HTTP_PORT", "") for bound in ("MIN", "MAX"))
    if least.isdecimal() and end.isdecimal() and replicas > int(end) - int(least):
        raise ResourceError(
            f"{replicas} replicas need a port each; there are {int(end) - int(least)}, from {least} on"
            f" ({_REPLICA_PORTS}MIN_HTTP_PORT and {_REPLICA_PORTS}MAX_HTTP_PORT)"
        )


def usable_address(host: str, port: int, *, is_guest: bool) -> str:
    """Return the address that a host stands for: of a name's several ones HAProxy could take another.

    Raises ResourceError for one that can't be listened on, or can't be served through HAProxy, which looks
    for its machine's replicas on 127.0.0.1. The Ray of a guest has decided on HAProxy already.
    """
    by_haproxy = not is_guest and _is_by_haproxy()
    others = {os.environ.get(name): name for name in (_METRICS_PORT, _STATS_PORT, *_PROXY_PORTS)}
    if by_haproxy and str(port) in others:
        raise ResourceError(
            f"port {port} is {others[str(port)]}, which HAProxy or Ray Serve listens on; choose another one"
        )
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ResourceError(f"can't listen on {host} port {port}: {error.strerror}") from None
        # On all addresses of IPv6 Ray would let HAProxy listen on those of IPv4.
        address: str = probe.getsockname()[0]
    if by_haproxy and address not in _FOUND_BY_HAPROXY:
        raise ResourceError(
            f"--host {host}: with HAProxy the endpoint listens on 127.0.0.1 or, by 0.0.0.0, on all addresses"
            f" of IPv4; {_IS_ON}=0 does without"
        )
    return address


def _is_by_haproxy() -> bool:
    return os.environ.get(_IS_ON) == "1"


def open_ports() -> str:
    """Return a sentence on what listens beside the endpoint; empty if nothing does."""
    if not _is_by_haproxy():
        return ""
    metrics, stats = os.environ[_METRICS_PORT], os.environ[_STATS_PORT]
    ports = f"HAProxy shows metrics on port {metrics} (/metrics) and statistics on {stats} (/stats)"
    if os.environ.get(BINARY, "").endswith(COMMAND):
        return f"{ports}, to this machine only"
    return f"{ports}, on all addresses of this machine: keep a firewall before them"


def main() -> None:
    """Print commands by which a shell sets the variables, but for those of HAProxy's files that it has."""
    chosen = variables()
    refused = ""
    try:
        if chosen:
            chosen |= {name: file for name, file in _files().items() if name not in os.environ}
    except ResourceError as error:
        refused = str(error)
    for name, value in chosen.items():
        print(f"export {name}={shlex.quote(value)}")
    sys.exit(refused or None)


if __name__ == "__main__":
    main()
