"""How requests reach the replicas on one machine: by HAProxy, straight to the replica's own server.

Ray Serve reads all of it from the environment when it is imported, as do the processes of a Ray that is
started here. A cluster has it in the environment of `ray start`.
"""

from __future__ import annotations

import os
import sys

_HAPROXY = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "20",
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "75",  # a client that sends nothing for so long is given up
    # A request to a replica that has died goes to another: predictions may be asked for twice.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_SERVE_HAPROXY_RETRIES": "1",
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1",  # the access log is written once a second anyway
    "RAY_SERVE_HAPROXY_METRICS_PORT": "9101",
    "RAY_SERVE_HAPROXY_STATS_PORT": "8404",
}


def choose() -> None:
    """HAProxy where Ray brings it, on Linux, unless the environment says otherwise."""
    if sys.platform == "linux":
        for name, value in _HAPROXY.items():
            os.environ.setdefault(name, value)


def open_ports() -> str:
    """What listens beside the endpoint, on all addresses of the machine, if anything does."""
    if os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") != "1":
        return ""
    metrics, stats = (os.environ[f"RAY_SERVE_HAPROXY_{name}_PORT"] for name in ("METRICS", "STATS"))
    return (
        f"HAProxy shows metrics on port {metrics} and statistics on {stats}, on all addresses of this"
        " machine: keep a firewall before them; RAY_SERVE_ENABLE_HA_PROXY=0 does without"
    )
