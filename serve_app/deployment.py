"""The endpoint on a cluster: what `serve deploy` does with config.yaml, for a checkpoint."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import yaml
from ray.dashboard.modules.serve.sdk import ServeSubmissionClient
from ray.exceptions import AuthenticationError

from lstmfcn.errors import TrainingError

_DASHBOARD = "RAY_DASHBOARD_ADDRESS"
"""The variable by which `serve deploy` is told where the cluster's dashboard is."""
_SECONDS_BETWEEN_LOOKS = 0.5
_MOST_SECONDS = 900.0
"""Until it serves: a cluster that grows from nothing first starts and installs a node."""


def configuration(checkpoint: str, digest: str) -> dict[str, Any]:
    """config.yaml with this checkpoint, by a path that every node sees."""
    config: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "config.yaml").read_text())
    [application] = config["applications"]
    application["args"]["checkpoint"] = checkpoint
    [deployment] = application["deployments"]
    deployment["user_config"] = {"checkpoint": checkpoint, "digest": digest}
    return config


def deploy(checkpoint: str, digest: str) -> str:
    """Let the cluster serve a checkpoint, in place of what it serves, and wait until it does: a sentence.

    Raises TrainingError when it can't, or doesn't within fifteen minutes.
    """
    try:
        return _deploy(checkpoint, configuration(checkpoint, digest))
    except (AuthenticationError, RuntimeError, OSError) as error:
        raise TrainingError(f"the endpoint can't be deployed: {' '.join(str(error).split())}") from None


def _deploy(checkpoint: str, config: dict[str, Any]) -> str:
    client = ServeSubmissionClient(os.environ.get(_DASHBOARD, "http://127.0.0.1:8265"))
    name = config["applications"][0]["name"]
    before = _application(client, name)
    client.deploy_applications(config)
    found = before
    give_up = time.monotonic() + _MOST_SECONDS
    while time.monotonic() < give_up:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
        found = _application(client, name)
        if found.get("last_deployed_time_s") == before.get("last_deployed_time_s"):
            continue  # it still tells of what was there before
        match found["status"]:
            case "RUNNING":
                host, port = (config["http_options"][name] for name in ("host", "port"))
                return f"the cluster serves {checkpoint}, on {host} port {port} of its nodes"
            case "DEPLOY_FAILED" | "UNHEALTHY":
                raise RuntimeError(found["message"])
    raise RuntimeError(
        f"after {_MOST_SECONDS:g} s it is {found.get('status', 'not there')}, perhaps for want of CPUs;"
        " the cluster goes on, and `serve status` says how far it is"
    )


def _application(client: ServeSubmissionClient, name: str) -> dict[str, Any]:
    """What Serve tells of it; nothing, if it isn't there."""
    found: dict[str, Any] = client.get_serve_details()["applications"].get(name, {})
    return found
