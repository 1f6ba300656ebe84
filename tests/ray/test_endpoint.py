"""The endpoint over HTTP, as `python -m serve_app` starts it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from ray import serve
from ray.serve._private.api import call_user_app_builder_with_args_if_necessary

from lstmfcn.predictor import Predictor
from serve_app.app import build_app
from tests.samples import BROKEN_IN_A_FILE, LENGTH, broken_input, make_dataset, write_csv

CSV = {"Content-Type": "text/csv"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def endpoint(checkpoint_folder: Path) -> Iterator[httpx.Client]:
    port = free_port()
    command = [sys.executable, "-m", "serve_app", "--checkpoint", str(checkpoint_folder), "--port", str(port)]
    with subprocess.Popen(command) as process, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            try:
                if client.get("/ping").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.3)
        yield client
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0


def test_ping_answers_200_with_an_empty_body(endpoint: httpx.Client) -> None:
    response = endpoint.get("/ping")

    assert (response.status_code, response.content) == (200, b"")


def test_invocations_answer_the_bytes_of_the_predictor(
    endpoint: httpx.Client, checkpoint_folder: Path, tmp_path: Path
) -> None:
    body = write_csv(tmp_path / "series.csv", make_dataset(50, seed=3), labelled=False).read_bytes()

    response = endpoint.post("/invocations", content=body, headers=CSV)

    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/csv")
    assert response.content == Predictor.load(checkpoint_folder).predict_csv(body, source="body")
    one_by_one = [
        endpoint.post("/invocations", content=row, headers=CSV).content for row in body.splitlines()
    ]
    assert b"".join(one_by_one) == response.content


@pytest.mark.parametrize("kind", [*BROKEN_IN_A_FILE, "wrong length"])
def test_a_broken_body_is_refused_with_the_parsers_sentence(
    endpoint: httpx.Client, kind: str, tmp_path: Path
) -> None:
    body = broken_input(kind, tmp_path, labelled=False).read_bytes()

    response = endpoint.post("/invocations", content=body, headers=CSV)

    assert response.status_code == 400
    assert response.text.startswith("body")
    assert response.text.count("\n") == 1


@pytest.mark.parametrize(
    ("method", "path", "headers", "content", "status", "sentence"),
    [
        ("GET", "/", {}, b"", 404, "there is no /; there are GET /ping and POST /invocations"),
        ("GET", "/invocations", {}, b"", 405, "/invocations takes POST, not GET"),
        ("POST", "/ping", {}, b"", 405, "/ping takes GET, not POST"),
        (
            "POST",
            "/invocations",
            {"Content-Type": "application/json"},
            b"[]",
            415,
            "Content-Type is application/json; this endpoint takes text/csv",
        ),
        (
            "POST",
            "/invocations",
            CSV,
            b"0" * (6 * 1024 * 1024 + 1),
            413,
            "the body has more than 6291456 bytes; use jobs.transform",
        ),
        ("POST", "/invocations", {}, b"1,2", 400, f"body: row 1 has 2 columns where {LENGTH} are expected"),
    ],
)
def test_a_wrong_request_is_told_what_would_be_right(
    endpoint: httpx.Client,
    method: str,
    path: str,
    headers: dict[str, str],
    content: bytes,
    status: int,
    sentence: str,
) -> None:
    response = endpoint.request(method, path, headers=headers, content=content)

    assert (response.status_code, response.text) == (status, sentence + "\n")


def test_serve_run_can_build_the_application_from_its_arguments(checkpoint_folder: Path) -> None:
    arguments = {"checkpoint": str(checkpoint_folder), "max_body_bytes": "1000"}

    app = call_user_app_builder_with_args_if_necessary(build_app, arguments)  # type: ignore[arg-type]

    assert isinstance(app, serve.Application)


def test_a_taken_port_is_refused(endpoint: httpx.Client, checkpoint_folder: Path) -> None:
    port = str(endpoint.base_url.port)
    command = [sys.executable, "-m", "serve_app", "--checkpoint", str(checkpoint_folder), "--port", port]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stderr) == (
        2,
        f"can't listen on 127.0.0.1 port {port}: Address already in use\n",
    )


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "serve_app", "--checkpoint", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stderr) == (
        2,
        f"{tmp_path} is not a checkpoint: it has no checkpoint.json\n",
    )
