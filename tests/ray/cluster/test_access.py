"""Who has no token gets nothing from a cluster."""

from __future__ import annotations

import sys

import pytest

from tests.ray.cluster.hosts import Hosts

DRIVER = "import sys, ray; ray.init(sys.argv[1], logging_level='ERROR'); print(ray.nodes())"


@pytest.mark.parametrize("token", [None, "0" * 64], ids=["no token", "another token"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/version"),
        ("GET", "/api/cluster_status"),
        ("GET", "/api/v0/nodes"),
        ("GET", "/api/v0/logs"),
        ("GET", "/nodes?view=summary"),
        ("GET", "/api/jobs/"),
        ("POST", "/api/jobs/"),
        ("GET", "/api/serve/applications/"),
        ("DELETE", "/api/serve/applications/"),
    ],
)
def test_the_dashboard_and_the_jobs_api_refuse(
    method: str, path: str, token: str | None, nodes: Hosts
) -> None:
    status, body = nodes.get(path, token, method)

    assert status == (401 if token is None else 403)
    assert nodes.token not in body
    assert nodes.first.address not in body


@pytest.mark.parametrize("mode", ["none", "wrong"])
@pytest.mark.parametrize(
    "command",
    [
        ["ray", "job", "submit", "--address", "{dashboard}", "--", "echo", "let in"],
        ["ray", "job", "list", "--address", "{dashboard}"],
        ["ray", "status", "--address", "{gcs}"],
        [sys.executable, "-c", DRIVER, "{gcs}"],
        [sys.executable, "-c", DRIVER, "ray://{head}:10001"],
        ["ray", "start", "--address", "{gcs}", "--num-cpus", "1"],
    ],
    ids=["job submit", "job list", "status", "driver", "ray client", "another node"],
)
def test_rays_own_clients_are_refused(command: list[str], mode: str, nodes: Hosts) -> None:
    access = {"none": {"RAY_AUTH_MODE": "disabled"}, "wrong": {"RAY_AUTH_TOKEN": "0" * 64}}[mode]
    places = {"dashboard": nodes.dashboard, "gcs": nodes.gcs, "head": nodes.head.address}
    before = nodes.nodes()

    # Some ask again and again, and say so.
    words = ["timeout", "20", *(word.format(**places) for word in command)]
    ended = nodes.client.run(*words, environment=access)

    assert ended.returncode != 0
    assert "let in" not in ended.stdout.splitlines()
    assert nodes.first.address not in ended.stdout
    if not any("ray://" in word for word in words):  # whose client is told of no reason
        assert "token" in ended.stdout.lower()
    assert nodes.nodes() == before


def test_who_has_the_token_is_let_in(nodes: Hosts) -> None:
    listed = nodes.client.run("ray", "job", "list", "--address", nodes.dashboard)
    connected = nodes.client.run(sys.executable, "-c", DRIVER, f"ray://{nodes.head.address}:10001")

    assert listed.returncode == 0, listed.stdout
    assert connected.returncode == 0, connected.stdout
    assert nodes.first.address in connected.stdout


def test_the_token_is_in_no_log(nodes: Hosts) -> None:
    logs = [path for host in nodes.all for path in host.folder.rglob("logs/**/*") if path.is_file()]

    assert {".err", ".log", ".out"} <= {log.suffix for log in logs}
    for log in logs:
        assert nodes.token not in log.read_text(errors="replace"), log
