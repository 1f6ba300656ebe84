"""Deploying the endpoint to a cluster: what `serve deploy` does with config.yaml, for a given checkpoint."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ray.dashboard.modules.serve.sdk import ServeSubmissionClient
from ray.exceptions import AuthenticationError
from ray.serve.config import HTTPOptions

from lstmfcn.ensemble import AnyCheckpoint
from lstmfcn.errors import TrainingError

_DASHBOARD = "RAY_DASHBOARD_ADDRESS"
"""Environment variable that tells `serve deploy` where the cluster's dashboard is."""
_SECONDS_BETWEEN_LOOKS = 0.5
_MOST_SECONDS = 900.0
"""Longest wait until it serves: a cluster that grows from nothing must first start and install a node."""


def configuration(path: str, checkpoint: AnyCheckpoint, deployed: Mapping[str, Any]) -> dict[str, Any]:
    """Return config.yaml with this checkpoint, by a path that every node sees; other arguments and the
    environment are those of `deployed`, the configuration of an application that is there already.
    """
    config: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "config.yaml").read_text())
    [application] = config["applications"]
    application["args"] = {**deployed.get("args", {}), **application["args"], "checkpoint": path}
    # A replica never takes series of another length: by this variable Serve knows that it needs new replicas.
    series = {"LSTMFCN_SERIES": f"{checkpoint.channels} x {checkpoint.length}"}
    environment = deployed.get("runtime_env", {})
    application["runtime_env"] = {**environment, "env_vars": {**environment.get("env_vars", {}), **series}}
    [deployment] = application["deployments"]
    deployment["user_config"] = {"checkpoint": path, "digest": checkpoint.digest()}
    return config


def deploy(path: str, checkpoint: AnyCheckpoint) -> str:
    """Make the cluster serve a checkpoint in place of what it serves, with the same arguments and
    environment, such as API keys; wait until it does, and return a sentence that says where.

    Raises TrainingError when it can't, or doesn't within fifteen minutes.
    """
    try:
        return _deploy(path, checkpoint)
    except (AuthenticationError, RuntimeError, OSError) as error:
        raise TrainingError(f"the endpoint can't be deployed: {' '.join(str(error).split())}") from None


def _deploy(path: str, checkpoint: AnyCheckpoint) -> str:
    client = ServeSubmissionClient(os.environ.get(_DASHBOARD, "http://127.0.0.1:8265"))
    before = _application(client)
    if before and not before.get("deployed_app_config"):
        raise RuntimeError("python -m serve_app started what is served there; end that first")
    earlier = before.get("deployed_app_config", {})
    config = configuration(path, checkpoint, earlier)
    client.deploy_applications(config)
    found = before
    give_up = time.monotonic() + _MOST_SECONDS
    while time.monotonic() < give_up:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
        found = _application(client)
        if found.get("last_deployed_time_s") == before.get("last_deployed_time_s"):
            continue  # Serve still tells of what was there before
        match found.get("status"):
            case "RUNNING":
                # Host and port are those of the first deployment: Serve changes them only by a restart.
                http = HTTPOptions.model_validate(client.get_serve_details()["http_options"])
                return f"the cluster serves {path}, on {http.host} port {http.port} of its nodes"
            # Serve lets no request reach the replicas that go on.
            case "DEPLOY_FAILED" if earlier and before.get("status") != "DEPLOY_FAILED":
                client.deploy_applications({**config, "applications": [earlier]})
                raise RuntimeError(f"{found['message']}; what was served before is deployed again")
            case "DEPLOY_FAILED" | "UNHEALTHY":
                raise RuntimeError(found["message"])
    raise RuntimeError(
        f"after {_MOST_SECONDS:g} s it is {found.get('status', 'not there')}, perhaps for want of CPUs or"
        " GPUs; the cluster goes on, and `serve status` says how far it is"
    )


def _application(client: ServeSubmissionClient) -> dict[str, Any]:
    """Return what Serve tells of the endpoint; nothing if it isn't there."""
    found: dict[str, Any] = client.get_serve_details()["applications"].get("lstmfcn", {})
    return found
