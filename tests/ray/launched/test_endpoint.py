"""The endpoint over HTTP, as `python -m serve_app` starts it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import NamedTuple

import httpx
import psutil
import pytest
from hypothesis import given
from ray import serve
from ray.serve._private.api import call_user_app_builder_with_args_if_necessary

from jobs.transform import transform
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.errors import DataError
from lstmfcn.predictor import Predictor
from serve_app.app import build_app
from tests.commands import status_of
from tests.mutations import BODIES, HEADERS, mutated
from tests.ray.launched import CONNECTIONS, HEADER_SECONDS, LARGE_AT_ONCE, Launched
from tests.ray.replica import CSV, ROW
from tests.samples import BROKEN_IN_A_FILE, LENGTH, broken_input, make_dataset, write_csv, write_named_csv

WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Version": "13",
}


def processes(launched: Launched, name: str) -> list[psutil.Process]:
    """Those whose command line holds a name."""
    started = launched.launcher.children(recursive=True)
    return [process for process in started if name in " ".join(process.cmdline())]


@pytest.fixture
def replica(launched: Launched) -> psutil.Process:
    [process] = processes(launched, "ServeReplica")
    return process


@pytest.fixture
def connection(endpoint: httpx.Client) -> Iterator[socket.socket]:
    address = (endpoint.base_url.host, endpoint.base_url.port or 80)
    with socket.create_connection(address, timeout=10 * HEADER_SECONDS) as connected:
        yield connected


def test_until_it_is_ready_ping_answers_503_or_not_at_all(launched: Launched) -> None:
    assert launched.statuses_before <= {503}


def test_ping_answers_200_with_an_empty_body(endpoint: httpx.Client) -> None:
    response = endpoint.get("/ping")

    assert (response.status_code, response.content) == (200, b"")


@pytest.mark.skipif(not shutil.which("curl"), reason="curl isn't installed")
def test_the_line_that_it_prints_works_when_pasted(launched: Launched, checkpoint_folder: Path) -> None:
    row = ",".join(str(number) for number in range(1, LENGTH + 1)).encode()

    answer = subprocess.run(["bash", "-c", launched.curl], capture_output=True, check=True).stdout

    assert answer == Predictor.load(checkpoint_folder).predict_csv(row, source="row")


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
        ("GET", "/invocations", {}, b"", 405, "the path takes POST, not GET"),
        ("POST", "/ping", {}, b"", 405, "the path takes GET, not POST"),
        ("GET", "/invocations", WEBSOCKET, b"", 405, "the path takes POST, not GET"),
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
            {"Accept": "application/json"},
            b"1,2",
            406,
            "Accept is application/json; this endpoint answers text/csv",
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


def test_a_body_with_a_header_gets_the_predictors_bytes(
    endpoint: httpx.Client, checkpoint_folder: Path, tmp_path: Path
) -> None:
    path = write_named_csv(tmp_path / "a.csv", make_dataset(5, seed=3), labelled=False, seed=1)
    body = path.read_bytes()

    whole = endpoint.post("/invocations", content=body, headers=CSV)
    label = endpoint.post("/invocations?columns=label", content=body, headers=CSV)
    labelled = endpoint.post("/invocations", content=b"y_1,x_1\n1,2\n", headers=CSV)

    assert whole.content == Predictor.load(checkpoint_folder).predict_csv(body, source="body")
    assert label.text.splitlines() == [",".join(line.split(",")[:2]) for line in whole.text.splitlines()]
    assert labelled.status_code == 400
    assert labelled.text == "body: row 1, column 1: 'y_1' is a label, which has no place here\n"


def test_it_describes_what_it_serves(endpoint: httpx.Client, trained: Checkpoint) -> None:
    described = endpoint.get("/").json()

    assert described == endpoint.get("/model").json()
    assert described["classes"] == list(trained.classes.names)
    assert described["length"] == LENGTH
    assert described["checkpoint"] == trained.digest()
    assert described["versions"].keys() == {"lstmfcn", "ray", "torch"}
    assert described["hyperparameters"] == trained.hyperparameters.model_dump()
    assert endpoint.get("/execution-parameters").json() == {
        "MaxConcurrentTransforms": 4,
        "MaxPayloadInMB": 6,
    }


class Transformed(NamedTuple):
    """A file's lines, and those that a transform wrote for it."""

    lines: list[bytes]
    predictions: bytes


@pytest.fixture(scope="module")
def transformed(
    cluster: None, checkpoint_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Transformed:
    folder = tmp_path_factory.mktemp("transformed")
    data = write_csv(folder / "a.csv", make_dataset(2400, seed=5), labelled=False)
    flags = ("--checkpoint", checkpoint_folder, "--input", data, "--output", folder)
    assert status_of(transform, *flags, "--columns", "label,probabilities") == 0
    return Transformed(data.read_bytes().splitlines(keepends=True), (folder / "a.csv.out").read_bytes())


@pytest.mark.parametrize("rows_at_once", [1, 7, 150])
def test_eight_clients_at_once_get_the_transforms_bytes(
    rows_at_once: int, endpoint: httpx.Client, transformed: Transformed
) -> None:
    lines = transformed.lines
    bodies = [b"".join(lines[start : start + rows_at_once]) for start in range(0, len(lines), rows_at_once)]

    def ask(body: bytes) -> bytes:
        response = endpoint.post("/invocations?columns=label,probabilities", content=body, headers=CSV)
        assert response.status_code == 200
        return response.content

    with ThreadPoolExecutor(8) as clients:
        answers = b"".join(clients.map(ask, bodies))

    assert answers == transformed.predictions


def test_a_slow_body_keeps_nobody_waiting(endpoint: httpx.Client) -> None:
    row = ROW.encode()
    ended = threading.Event()

    def slow_body() -> Iterator[bytes]:
        yield row[:10]
        ended.wait(10)
        yield row[10:]

    with ThreadPoolExecutor(8) as clients:
        slow = [
            clients.submit(endpoint.post, "/invocations", content=slow_body(), headers=CSV) for _ in range(8)
        ]
        time.sleep(0.5)
        quick = [endpoint.get("/ping"), endpoint.post("/invocations", content=row, headers=CSV)]
        were_slow = not any(one.done() for one in slow)
        ended.set()

    assert were_slow
    assert {answer.status_code for answer in [*quick, *(one.result() for one in slow)]} == {200}


def test_slow_senders_of_large_bodies_keep_others_out_for_seconds_only(endpoint: httpx.Client) -> None:
    head = b"POST /invocations HTTP/1.1\r\nHost: any\r\nContent-Length: 1000000\r\n\r\n"
    address = (endpoint.base_url.host, endpoint.base_url.port or 80)
    large = ROW * 2000

    with ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(address, timeout=10)) for _ in range(24)]
        for sender in slow:
            sender.sendall(head + b"1,")
        started = time.monotonic()
        while (answer := endpoint.post("/invocations", content=large, headers=CSV)).status_code == 503:
            time.sleep(0.1)
        seconds = time.monotonic() - started
        answers = [sender.recv(12) for sender in slow]

    assert answer.status_code == 200
    assert seconds < 10
    assert Counter(answers) == {b"HTTP/1.1 408": LARGE_AT_ONCE, b"HTTP/1.1 503": 24 - LARGE_AT_ONCE}


def test_a_body_that_stops_is_told_so(connection: socket.socket) -> None:
    connection.sendall(b"POST /invocations HTTP/1.1\r\nHost: any\r\nContent-Length: 200000\r\n\r\n")
    connection.sendall(50_000 * b"1,")

    answer = connection.recv(4096)

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert answer.endswith(b"\r\n\r\nnothing of the body arrived for 4 s\n")


def test_ping_answers_while_the_network_is_busy(endpoint: httpx.Client) -> None:
    body = ROW * 90_000

    with ThreadPoolExecutor(4) as clients:
        busy = [clients.submit(endpoint.post, "/invocations", content=body, headers=CSV) for _ in range(4)]
        time.sleep(0.5)
        started = time.monotonic()
        ping = endpoint.get("/ping")
        seconds = time.monotonic() - started
        was_busy = not all(one.done() for one in busy)

    assert was_busy
    assert (ping.status_code, seconds < 0.5) == (200, True)
    assert {one.result().status_code for one in busy} == {200}


@given(body=BODIES)
def test_any_body_gets_the_predictors_bytes_or_its_sentence(
    launched: Launched, trained: Checkpoint, body: bytes
) -> None:
    try:
        expected = (200, Predictor(trained).predict_csv(body, source="body").decode())
    except DataError as error:
        expected = (400, f"{error}\n")

    response = launched.client.post("/invocations", content=body, headers=CSV)

    assert (response.status_code, response.text) == expected


def test_thousands_of_broken_requests_get_answers_or_sentences(
    endpoint: httpx.Client, replica: psutil.Process, tmp_path: Path
) -> None:
    body = write_csv(tmp_path / "a.csv", make_dataset(3), labelled=False).read_bytes()
    paths = ["/invocations", "/endpoints/a/invocations", "/invocations?columns=%FF", "/invocations?columns"]

    def send(number: int) -> tuple[int, str]:
        random = Random(number)
        headers = {b"Content-Type": b"text/csv"}
        if number % 3 == 0:
            names = random.sample(list(HEADERS), random.randint(1, 3))
            headers |= {name: random.choice(HEADERS[name]) for name in names}
        path = paths[0] if number % 5 else random.choice(paths)
        response = endpoint.post(path, content=mutated(body, random), headers=headers)
        return response.status_code, response.text

    with ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(send, range(500)))
        memory = replica.memory_info().rss
        answers += clients.map(send, range(500, 2500))

    assert {status for status, _ in answers} == {200, 400, 406, 415, 424}
    assert all(text.strip() for _, text in answers)
    assert replica.memory_info().rss - memory < 20e6


def test_headers_that_take_too_long_end_the_connection(connection: socket.socket) -> None:
    connection.sendall(b"POST /invocations HTTP/1.1\r\nHost: a\r\nX-Slow: ")

    assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
    assert connection.recv(1000) == b""


def test_more_connections_than_may_be_open_are_refused_at_once(endpoint: httpx.Client) -> None:
    address = (endpoint.base_url.host, endpoint.base_url.port or 80)
    with contextlib.ExitStack() as opened:
        early = opened.enter_context(httpx.Client(base_url=endpoint.base_url))
        assert early.get("/ping").status_code == 200
        for _ in range(CONNECTIONS):
            opened.enter_context(socket.create_connection(address))
        refused = httpx.get(f"{endpoint.base_url}/ping")
        assert early.get("/ping").status_code == 200

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.headers["connection"] == "close"
    assert refused.text == f"more than {CONNECTIONS} connections are open; try again"


def test_headers_that_are_too_long_are_refused(endpoint: httpx.Client) -> None:
    assert endpoint.get("/ping", headers={"X-Long": "x" * 20_000}).status_code == 400


def test_haproxy_listens_on_this_machine_only(launched: Launched) -> None:
    [haproxy, *_] = processes(launched, "haproxy.cfg")

    listening = [one.laddr for one in haproxy.net_connections() if one.status == psutil.CONN_LISTEN]

    assert len(listening) == 3
    assert {address.ip for address in listening} == {"127.0.0.1"}


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
