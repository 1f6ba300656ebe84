"""What is told of an endpoint that a cluster is to serve, by a dashboard that stands in for a cluster's."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from lstmfcn.errors import TrainingError
from serve_app import deployment
from serve_app.deployment import deploy
from tests.servers import free_port


class Dashboard(BaseHTTPRequestHandler):
    """Answers as Ray's does, of the application with what the server's `application` says."""

    def do_GET(self) -> None:
        """Version, or status of the applications."""
        if self.path == "/api/ray/version":
            self._answer({"ray_version": "2.60.0"})
        else:
            self._answer({"applications": self.server.applications})  # type: ignore[attr-defined]

    def do_PUT(self) -> None:
        """Deploy, which takes effect at once."""
        config = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = config["applications"][0]["name"]
        self.server.applications[name] = self.server.application  # type: ignore[attr-defined]
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
    server.status, server.applications = 200, {}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("RAY_DASHBOARD_ADDRESS", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(deployment, "_SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr(deployment, "_MOST_SECONDS", 0.2)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_it_ends_when_the_endpoint_is_there(dashboard: Any) -> None:
    dashboard.application = {"status": "RUNNING", "message": "", "last_deployed_time_s": 1.0}

    assert (
        deploy("/shared/best", "") == "the cluster serves /shared/best, on 127.0.0.1 port 8080 of its nodes"
    )


@pytest.mark.parametrize(
    ("application", "sentence"),
    [
        (
            {"status": "DEPLOY_FAILED", "message": "no such checkpoint", "last_deployed_time_s": 1.0},
            "the endpoint can't be deployed: no such checkpoint",
        ),
        (
            {"status": "DEPLOYING", "message": "", "last_deployed_time_s": 1.0},
            "the endpoint can't be deployed: after 0.2 s it is DEPLOYING, perhaps for want of CPUs;"
            " the cluster goes on, and `serve status` says how far it is",
        ),
    ],
)
def test_it_says_why_the_endpoint_is_not_there(
    application: dict[str, Any], sentence: str, dashboard: Any
) -> None:
    dashboard.application = application

    with pytest.raises(TrainingError) as raised:
        deploy("/shared/best", "")

    assert str(raised.value) == sentence


def test_who_has_no_token_is_told_so(dashboard: Any) -> None:
    dashboard.status = 401

    with pytest.raises(TrainingError, match=r"^the endpoint can't be deployed: .*token"):
        deploy("/shared/best", "")


def test_a_dashboard_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("RAY_DASHBOARD_ADDRESS", address)

    with pytest.raises(TrainingError, match=f"^the endpoint can't be deployed: .* {address}"):
        deploy("/shared/best", "")
