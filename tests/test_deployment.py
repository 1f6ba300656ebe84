"""What is told of an endpoint that a cluster is to serve, by a dashboard that stands in for a cluster's."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from ray.serve._private.deploy_utils import get_app_code_version
from ray.serve.schema import ServeDeploySchema

from lstmfcn.checkpoint import Checkpoint
from lstmfcn.errors import TrainingError
from serve_app import deployment
from serve_app.deployment import configuration, deploy
from tests.servers import free_port


class Dashboard(BaseHTTPRequestHandler):
    """Answers as Ray's does, of the application with what the server's `application` says."""

    def do_GET(self) -> None:
        """Version, or status of the applications."""
        if self.path == "/api/ray/version":
            self._answer({"ray_version": "2.60.0"})
        else:
            self._answer(
                {
                    "applications": self.server.applications,  # type: ignore[attr-defined]
                    "http_options": self.server.http_options,  # type: ignore[attr-defined]
                }
            )

    def do_PUT(self) -> None:
        """Deploy, which takes effect at once."""
        config = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        [application] = config["applications"]
        self.server.applications[application["name"]] = {  # type: ignore[attr-defined]
            **self.server.application,  # type: ignore[attr-defined]
            "deployed_app_config": application,
        }
        self._answer({})

    def _answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Dashboard)
    server.status, server.applications, server.http_options = 200, {}, {}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("RAY_DASHBOARD_ADDRESS", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(deployment, "_SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr(deployment, "_MOST_SECONDS", 0.2)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def running(seconds: float) -> dict[str, Any]:
    return {"status": "RUNNING", "message": "", "last_deployed_time_s": seconds}


def test_it_ends_when_the_endpoint_is_there_and_says_where_serve_listens(
    dashboard: Any, trained: Checkpoint
) -> None:
    dashboard.application = running(1.0)
    dashboard.http_options = {"host": "10.0.0.1", "port": 9000}

    said = deploy("/shared/best", trained)

    assert said == "the cluster serves /shared/best, on 10.0.0.1 port 9000 of its nodes"


def test_where_nobody_chose_serve_listens_by_its_defaults(dashboard: Any, trained: Checkpoint) -> None:
    dashboard.application = running(1.0)

    said = deploy("/shared/best", trained)

    assert said == "the cluster serves /shared/best, on 127.0.0.1 port 8000 of its nodes"


def test_another_checkpoint_is_served_with_the_arguments_and_environment_of_before(
    dashboard: Any, trained: Checkpoint
) -> None:
    dashboard.application = running(2.0)
    args = {"checkpoint": "/shared/old", "api_keys": "/shared/keys", "max_rows": 7}
    environment = {"env_vars": {"LSTMFCN_API_KEYS": "0123456789abcdef"}}
    config = {"args": args, "runtime_env": environment}
    dashboard.applications["lstmfcn"] = {**running(1.0), "deployed_app_config": config}

    deploy("/shared/best", trained)

    deployed = dashboard.applications["lstmfcn"]["deployed_app_config"]
    assert deployed["args"] == {**args, "checkpoint": "/shared/best"}
    assert deployed["runtime_env"]["env_vars"].items() > environment["env_vars"].items()


def test_what_serve_knows_no_arguments_of_is_not_replaced(dashboard: Any, trained: Checkpoint) -> None:
    dashboard.applications["lstmfcn"] = {**running(1.0), "deployed_app_config": None}

    with pytest.raises(TrainingError, match=r"python -m serve_app started what .*; end that first$"):
        deploy("/shared/best", trained)


def test_serve_makes_new_replicas_for_series_of_another_length_in_the_same_folder(
    trained: Checkpoint,
) -> None:
    def version(checkpoint: Checkpoint) -> str:
        config = ServeDeploySchema.model_validate(configuration("/shared/best", checkpoint, {}))
        return get_app_code_version(config.applications[0])

    assert version(replace(trained, temperature=2.0)) == version(trained)
    assert version(replace(trained, length=trained.length + 1)) != version(trained)


@pytest.mark.parametrize(
    ("application", "sentence"),
    [
        (
            {"status": "DEPLOY_FAILED", "message": "no such checkpoint", "last_deployed_time_s": 1.0},
            "the endpoint can't be deployed: no such checkpoint",
        ),
        (
            {"status": "DEPLOYING", "message": "", "last_deployed_time_s": 1.0},
            "the endpoint can't be deployed: after 0.2 s it is DEPLOYING, perhaps for want of CPUs or GPUs;"
            " the cluster goes on, and `serve status` says how far it is",
        ),
    ],
)
def test_it_says_why_the_endpoint_is_not_there(
    application: dict[str, Any], sentence: str, dashboard: Any, trained: Checkpoint
) -> None:
    dashboard.application = application

    with pytest.raises(TrainingError) as raised:
        deploy("/shared/best", trained)

    assert str(raised.value) == sentence


def test_what_was_served_before_is_deployed_again_when_another_fails(
    dashboard: Any, trained: Checkpoint
) -> None:
    dashboard.application = {"status": "DEPLOY_FAILED", "message": "no room", "last_deployed_time_s": 2.0}
    config = {"name": "lstmfcn", "args": {"checkpoint": "/shared/old"}}
    dashboard.applications["lstmfcn"] = {**running(1.0), "deployed_app_config": config}

    with pytest.raises(TrainingError, match=r"no room; what was served before is deployed again$"):
        deploy("/shared/best", trained)

    assert dashboard.applications["lstmfcn"]["deployed_app_config"] == config


def test_what_failed_before_is_not_deployed_again(dashboard: Any, trained: Checkpoint) -> None:
    dashboard.application = {"status": "DEPLOY_FAILED", "message": "no room", "last_deployed_time_s": 2.0}
    failed = {"status": "DEPLOY_FAILED", "message": "no room", "last_deployed_time_s": 1.0}
    config = {"name": "lstmfcn", "args": {"checkpoint": "/shared/old"}}
    dashboard.applications["lstmfcn"] = {**failed, "deployed_app_config": config}

    with pytest.raises(TrainingError, match=r"can't be deployed: no room$"):
        deploy("/shared/best", trained)


def test_who_has_no_token_is_told_so(dashboard: Any, trained: Checkpoint) -> None:
    dashboard.status = 401

    with pytest.raises(TrainingError, match=r"^the endpoint can't be deployed: .*token"):
        deploy("/shared/best", trained)


def test_a_dashboard_that_does_not_answer_is_named(
    monkeypatch: pytest.MonkeyPatch, trained: Checkpoint
) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("RAY_DASHBOARD_ADDRESS", address)

    with pytest.raises(TrainingError, match=f"^the endpoint can't be deployed: .* {address}"):
        deploy("/shared/best", trained)
