"""Deploys the endpoint on a Ray of its own as `serve deploy` does: `python -m tests.ray.deployer <port>`.

Each line of stdin is a configuration; `running <port of Ray's metrics>` answers when it serves.
"""

from __future__ import annotations

import json
import sys
import time

from serve_app import ingress

ingress.set_variables()  # before Ray Serve is imported
# isort: split
import ray
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema


def states() -> set[tuple[str, float]]:
    """Return status and time of deployment of each application."""
    return {(one.status, one.last_deployed_time_s) for one in serve.status().applications.values()}


def main(port: int) -> None:
    """Deploy each configuration, until stdin ends."""
    ray.init(num_cpus=5, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    client = _get_global_client()
    assert client is not None
    for line in sys.stdin:
        before = states()
        client.deploy_apps(ServeDeploySchema.model_validate(json.loads(line)))
        while not (now := states()) or now & before or any(status != "RUNNING" for status, _ in now):
            time.sleep(0.2)
        [node] = ray.nodes()  # type: ignore[no-untyped-call]
        print("running", node["MetricsExportPort"], flush=True)
    serve.shutdown()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main(int(sys.argv[1]))
