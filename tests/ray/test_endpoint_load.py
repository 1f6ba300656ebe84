"""The endpoint under load: reloads, redeployments, a killed replica, overload."""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from lstmfcn.checkpoint import Checkpoint
from lstmfcn.predictor import Predictor
from tests.ray.replica import CSV, ROW
from tests.samples import LENGTH, TINY, best_of, make_dataset
from tests.servers import free_port, haproxy_ports, started

pytestmark = pytest.mark.long

LARGE = ROW * 2000
"""More than HAProxy's buffer holds."""


class Deployment:
    """An endpoint of two replicas, deployed by configurations."""

    def __init__(self, checkpoint: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._arguments: dict[str, Any] = {"checkpoint": str(checkpoint), "replicas": 2}
        self._deployer = subprocess.Popen(
            [sys.executable, "-m", "tests.ray.deployer", str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def deploy(
        self, checkpoint: Path, autoscaling: dict[str, int] | None = None, **arguments: object
    ) -> None:
        """Return when it serves."""
        endpoint: dict[str, Any] = {"name": "endpoint", "user_config": {"checkpoint": str(checkpoint)}}
        if autoscaling:
            endpoint["autoscaling_config"] = autoscaling
        application = {
            "name": "lstmfcn",
            "route_prefix": "/",
            "import_path": "serve_app.app:build_app",
            "args": {**self._arguments, **arguments},
            "deployments": [endpoint],
        }
        assert self._deployer.stdin is not None
        assert self._deployer.stdout is not None
        self._deployer.stdin.write(json.dumps({"applications": [application]}) + "\n")
        self._deployer.stdin.flush()
        while not (line := self._deployer.stdout.readline()).startswith("running"):
            assert self._deployer.poll() is None
        self.metrics_url = f"http://127.0.0.1:{line.split()[1]}/metrics"

    def replicas(self) -> list[psutil.Process]:
        processes = psutil.Process(self._deployer.pid).children(recursive=True)
        return [process for process in processes if "ServeReplica" in " ".join(process.cmdline())]

    def end(self) -> None:
        self._deployer.communicate(timeout=60)


@dataclass
class Answers:
    """What clients got, when, and how long it took."""

    statuses: list[int] = field(default_factory=list)
    failed_at: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    refused_seconds: list[float] = field(default_factory=list)

    def ask(self, client: httpx.Client, url: str, body: str) -> bool:
        """Whether predictions came."""
        started = time.monotonic()
        try:
            response = client.post(f"{url}/invocations", content=body, headers=CSV)
        except httpx.TransportError:
            self.failed_at.append(time.monotonic())
            return False
        now = time.monotonic()
        self.statuses.append(response.status_code)
        (self.seconds if response.status_code == 200 else self.refused_seconds).append(now - started)
        if response.status_code != 200:
            self.failed_at.append(now)
        return response.status_code == 200


@dataclass
class Load:
    """Of clients that ask again and again."""

    answers: Answers = field(default_factory=Answers)
    silences: list[float] = field(default_factory=list)
    """Seconds from one prediction to the next that a client got."""


@contextmanager
def load(url: str, clients: int, body: str = ROW) -> Iterator[Load]:
    """While the block runs."""
    caused = Load()
    ended = threading.Event()

    def ask() -> None:
        answered_at = time.monotonic()
        with httpx.Client(timeout=70) as client:
            while not ended.is_set():
                if caused.answers.ask(client, url, body):
                    caused.silences.append(time.monotonic() - answered_at)
                    answered_at = time.monotonic()
                else:
                    time.sleep(0.02)

    with ThreadPoolExecutor(clients) as pool:
        asking = [pool.submit(ask) for _ in range(clients)]
        try:
            yield caused
        finally:
            ended.set()
        for one in asking:
            one.result()


def ask_at_rate(url: str, bodies: Sequence[str], per_second: float, seconds: float) -> Answers:
    """One body after the other, however long the answers take."""
    answers = Answers()
    count = int(per_second * seconds)
    limits = httpx.Limits(max_connections=None)
    with httpx.Client(timeout=70, limits=limits) as client, ThreadPoolExecutor(count) as pool:
        started = time.monotonic()
        for number, body in zip(range(count), itertools.cycle(bodies), strict=False):
            time.sleep(max(0, started + number / per_second - time.monotonic()))
            pool.submit(answers.ask, client, url, body)
    assert len(answers.statuses) + len(answers.failed_at) - len(answers.refused_seconds) == count
    return answers


@pytest.fixture
def other_checkpoint(tmp_path: Path) -> Path:
    best_of(make_dataset(20, seed=9)).save(tmp_path / "other")
    return tmp_path / "other"


def test_reloads_and_redeployments_lose_no_request_and_a_kill_only_those_inside(
    checkpoint_folder: Path, other_checkpoint: Path
) -> None:
    deployment = Deployment(checkpoint_folder)
    try:
        deployment.deploy(checkpoint_folder)
        before = {process.pid for process in deployment.replicas()}
        with load(deployment.url, clients=4) as usual, load(deployment.url, 2, LARGE) as large:
            time.sleep(1)
            deployment.deploy(other_checkpoint)
            time.sleep(2)
        assert {process.pid for process in deployment.replicas()} == before
        model = httpx.get(f"{deployment.url}/model").json()
        assert model["checkpoint"] == Checkpoint.load(other_checkpoint).digest()
        assert {*usual.answers.statuses, *large.answers.statuses} == {200}
        assert usual.answers.failed_at == large.answers.failed_at == []

        with load(deployment.url, clients=4) as usual, load(deployment.url, 2, LARGE) as large:
            deployment.deploy(other_checkpoint, max_rows=100_001)
            time.sleep(2)
        assert not {process.pid for process in deployment.replicas()} & before
        assert {*usual.answers.statuses, *large.answers.statuses} == {200}
        assert usual.answers.failed_at == large.answers.failed_at == []
    finally:
        deployment.end()


@pytest.mark.parametrize("body", [ROW, LARGE], ids=["small", "large"])
def test_a_kill_loses_only_the_requests_inside_and_every_client_goes_on_within_a_second(
    checkpoint_folder: Path, body: str
) -> None:
    deployment = Deployment(checkpoint_folder)
    clients = 8
    try:
        deployment.deploy(checkpoint_folder)
        with load(deployment.url, clients, body) as caused:
            time.sleep(2)
            killed = time.monotonic()
            deployment.replicas()[0].kill()
            time.sleep(5)
    finally:
        deployment.end()

    assert len(caused.answers.failed_at) <= clients
    assert all(at - killed < 1 for at in caused.answers.failed_at)
    assert max(caused.silences) < 1


def test_overload_is_refused_at_once_and_leaves_nothing_behind(tmp_path: Path) -> None:
    wide = TINY.model_copy(update={"filters_1": 128, "filters_2": 128, "filters_3": 128, "epochs": 1})
    best_of(make_dataset(20), wide).save(tmp_path)
    deployment = Deployment(tmp_path)
    try:
        deployment.deploy(tmp_path)
        with load(deployment.url, clients=4, body=LARGE) as usual:
            time.sleep(5)
        capacity = len(usual.answers.statuses) / 5
        bodies = [ROW * rows for rows in (1800, 2200, 20, 1900, 2100)]
        overloaded = ask_at_rate(deployment.url, bodies, per_second=5 * capacity, seconds=10)
        with load(deployment.url, clients=4, body=LARGE) as afterwards:
            time.sleep(5)
    finally:
        deployment.end()

    assert set(overloaded.statuses) == {200, 503}
    assert len(overloaded.statuses) == int(5 * capacity * 10)
    assert statistics.quantiles(overloaded.seconds, n=100)[98] < 2
    assert statistics.median(overloaded.refused_seconds) < 0.3
    assert set(afterwards.answers.statuses) == {200}
    assert statistics.median(afterwards.answers.seconds) <= 1.5 * statistics.median(usual.answers.seconds)


def test_load_brings_a_second_replica_which_goes_after_it_and_no_request_is_lost(
    checkpoint_folder: Path,
) -> None:
    deployment = Deployment(checkpoint_folder)
    quick = {"min_replicas": 1, "max_replicas": 2, "target_ongoing_requests": 4}
    quick |= {"upscale_delay_s": 3, "downscale_delay_s": 3, "look_back_period_s": 3}

    def wait_for_replicas(count: int) -> int:
        give_up = time.monotonic() + 90
        while (found := len(deployment.replicas())) != count and time.monotonic() < give_up:
            time.sleep(0.5)
        return found

    try:
        deployment.deploy(checkpoint_folder, autoscaling=quick, replicas=1, max_replicas=2)
        at_first = wait_for_replicas(1)
        with load(deployment.url, clients=16, body=ROW * 500) as busy:
            under_load = wait_for_replicas(2)
            time.sleep(3)
        with load(deployment.url, clients=2) as calm:
            afterwards = wait_for_replicas(1)
            time.sleep(3)
    finally:
        deployment.end()

    assert (at_first, under_load, afterwards) == (1, 2, 1)
    for caused in (busy, calm):
        assert set(caused.answers.statuses) == {200}
        assert caused.answers.failed_at == []


def test_prometheus_reads_its_metrics(checkpoint_folder: Path) -> None:
    deployment = Deployment(checkpoint_folder)
    try:
        deployment.deploy(checkpoint_folder)
        for body in (ROW * 3, ROW, "not a number"):
            httpx.post(f"{deployment.url}/invocations", content=body, headers=CSV)
        time.sleep(25)  # Ray exports them every ten seconds
        exported = httpx.get(deployment.metrics_url).text.splitlines()
    finally:
        deployment.end()

    def total(name: str, label: str = "") -> float:
        lines = [line for line in exported if line.startswith(f"ray_lstmfcn_{name}{{") and label in line]
        return sum(float(line.split()[-1]) for line in lines)

    assert total("requests_total", 'status="200"') == 2
    assert total("refused_total", 'reason="Bad Request"') == 1
    assert total("rows_total") == 4
    assert total("pass_rows_sum") == 4
    assert total("request_seconds_count") == 3
    assert 0 < total("request_seconds_sum") < 3
    assert 0 < total("queue_seconds_sum") < 1


def test_without_haproxy_it_answers_the_same(checkpoint_folder: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "serve_app", "--checkpoint", str(checkpoint_folder), "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with (
        tempfile.TemporaryDirectory() as ray_folder,
        started(
            command, {**os.environ, "RAY_SERVE_ENABLE_HA_PROXY": "0", "RAY_TMPDIR": ray_folder}
        ) as launcher,
    ):
        assert launcher.stdout is not None
        assert launcher.stdout.readline().startswith("serving")
        answers = [httpx.post(f"{url}/invocations", content=body, headers=CSV) for body in (ROW, LARGE)]
        refused = httpx.post(f"{url}/invocations", content="1,2", headers=CSV)
        ping = httpx.get(f"{url}/ping")
        launcher.terminate()
        assert launcher.wait(timeout=60) == 0

    predictor = Predictor.load(checkpoint_folder)
    assert [answer.content for answer in answers] == [
        predictor.predict_csv(body.encode(), source="body") for body in (ROW, LARGE)
    ]
    assert (ping.status_code, ping.content) == (200, b"")
    assert (refused.status_code, refused.text) == (
        400,
        f"body: row 1 has 2 columns where {LENGTH} are expected\n",
    )


def test_sigterm_ends_the_launcher_with_the_last_request_answered_and_logged(checkpoint_folder: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "serve_app", "--checkpoint", str(checkpoint_folder), "--port", str(port)]

    def slow_body() -> Iterator[bytes]:
        yield ROW[:10].encode()
        time.sleep(0.5)
        launcher.terminate()
        time.sleep(1)
        yield ROW[10:].encode()

    # A short path: Ray's sockets lie in it.
    with (
        tempfile.TemporaryDirectory() as ray_folder,
        started(command, {**os.environ, **haproxy_ports(), "RAY_TMPDIR": ray_folder}) as launcher,
    ):
        assert launcher.stdout is not None
        assert launcher.stdout.readline().startswith("serving")
        headers = {**CSV, "X-Request-Id": "the-last-one"}
        url = f"http://127.0.0.1:{port}/invocations"
        assert httpx.post(url, content=slow_body(), headers=headers).status_code == 200
        assert launcher.wait(timeout=30) == 0
        logs = Path(ray_folder).glob("ray/session_*/logs/serve/replica_*.log")
        assert any('"request_id": "the-last-one"' in log.read_text() for log in logs)
