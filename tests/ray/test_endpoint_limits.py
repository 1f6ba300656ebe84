"""How much and how long an endpoint's replica takes: rows, requests, bodies, seconds."""

from __future__ import annotations

import asyncio
import gzip
import io
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore import UNSIGNED
from botocore.exceptions import ClientError

from lstmfcn.checkpoint import Checkpoint
from lstmfcn.treatment import Treatment
from serve_app import app, bodies
from tests.ray.replica import ROW, application, boto3_client, listening, make_endpoint, replica, slowed
from tests.samples import LENGTH

pytestmark = pytest.mark.usefixtures("cluster", "no_worker")


def test_too_many_rows_or_requests_are_refused_at_once(
    checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask() -> list[httpx.Response]:
        async with replica(checkpoint_folder, max_rows=3, max_requests=2) as (endpoint, client):
            slowed(endpoint, monkeypatch, seconds=0.3)
            bodies = [ROW * 4, ROW, ROW, ROW]
            return await asyncio.gather(*[client.post("/invocations", content=body) for body in bodies])

    many, *others = asyncio.run(ask())

    assert (many.status_code, many.text) == (413, "the body has 4 rows, more than 3; use jobs.transform\n")
    assert sorted(answer.status_code for answer in others)[-1] == 503
    (refused,) = [answer for answer in others if answer.status_code == 503]
    assert refused.text == "2 requests are being answered; try again\n"
    assert refused.headers["retry-after"] == "1"


def test_a_request_that_would_wait_too_long_is_refused_at_once(
    checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask() -> list[httpx.Response]:
        async with replica(checkpoint_folder, max_wait_seconds=1e-9) as (endpoint, client):
            slowed(endpoint, monkeypatch, seconds=0.3)
            first = [asyncio.create_task(client.post("/invocations", content=ROW)) for _ in range(4)]
            await asyncio.sleep(0.1)
            return [await client.post("/invocations", content=ROW), *await asyncio.gather(*first)]

    refused, *answered = asyncio.run(ask())

    assert [answer.status_code for answer in answered] == [200] * 4
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.text == "requests that take 0.0 s are waiting; try again\n"


def test_bodies_that_are_too_large_together_are_refused(checkpoint_folder: Path) -> None:
    async def slow_body() -> AsyncIterator[bytes]:
        yield ROW.encode()
        await asyncio.sleep(0.3)

    async def ask() -> list[httpx.Response]:
        async with replica(checkpoint_folder, max_body_bytes=2 * len(ROW), max_held_bytes=2 * len(ROW)) as (
            _,
            client,
        ):
            first = [asyncio.create_task(client.post("/invocations", content=slow_body())) for _ in "ab"]
            await asyncio.sleep(0.1)
            refused = await client.post("/invocations", content=ROW)
            return [
                refused,
                *await asyncio.gather(*first),
                await client.post("/invocations", content=ROW * 2),
            ]

    refused, *answered = asyncio.run(ask())

    assert [answer.status_code for answer in answered] == [200] * 3
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.text == f"bodies of more than {2 * len(ROW)} bytes have arrived; try again\n"


def test_ping_answers_while_the_network_is_busy(
    checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask() -> tuple[bool, int]:
        async with replica(checkpoint_folder) as (endpoint, client):
            slowed(endpoint, monkeypatch, seconds=0.5)
            busy = asyncio.create_task(client.post("/invocations", content=ROW))
            await asyncio.sleep(0.1)
            ping = await client.get("/ping")
            was_busy = not busy.done()
            await busy
            return was_busy, ping.status_code

    assert asyncio.run(ask()) == (True, 200)


def test_more_bodies_than_may_arrive_at_once_are_refused(checkpoint_folder: Path) -> None:
    async def slow_body() -> AsyncIterator[bytes]:
        await asyncio.sleep(0.3)
        yield ROW.encode()

    async def ask() -> list[httpx.Response]:
        async with replica(checkpoint_folder, max_requests=2) as (_, client):
            one, other = (asyncio.create_task(client.post("/invocations", content=slow_body())) for _ in "ab")
            await asyncio.sleep(0.1)
            third = await client.post("/invocations", content=slow_body())
            return [third, await one, await other]

    refused, *answered = asyncio.run(ask())

    assert [answer.status_code for answer in answered] == [200, 200]
    assert (refused.status_code, refused.text) == (503, "2 requests are sending their bodies; try again\n")


def test_what_takes_too_long_is_given_up_with_a_sentence(
    checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow_body() -> AsyncIterator[bytes]:
        yield b"1,"
        await asyncio.sleep(1)

    async def ask() -> tuple[httpx.Response, httpx.Response]:
        async with replica(checkpoint_folder, body_seconds=0.1, timeout_seconds=0.1) as (endpoint, client):
            late = await client.post("/invocations", content=slow_body())
            slowed(endpoint, monkeypatch, seconds=0.5)
            return late, await client.post("/invocations", content=ROW)

    late, predicted_late = asyncio.run(ask())

    assert (late.status_code, late.text) == (408, "the body did not arrive within 0.1 s\n")
    assert late.headers["connection"] == "close"
    assert (predicted_late.status_code, predicted_late.text) == (
        504,
        "the predictions were not done within 0.1 s\n",
    )


def test_a_body_that_comes_too_slowly_is_given_up_with_a_sentence(
    checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "_SECONDS_AT_ANY_RATE", 0.1)

    async def body(first: bytes, seconds: float, rest: bytes) -> AsyncIterator[bytes]:
        yield first
        await asyncio.sleep(seconds)
        yield rest

    async def ask() -> tuple[httpx.Response, httpx.Response]:
        row = ROW.encode()
        async with replica(checkpoint_folder, min_body_rate=50) as (_, client):
            return (
                await client.post("/invocations", content=body(row[:-1], 0.2, row[-1:])),
                await client.post("/invocations", content=body(row[:2], 1, row[2:])),
            )

    quick, slow = asyncio.run(ask())

    assert quick.status_code == 200
    assert (slow.status_code, slow.headers["connection"]) == (408, "close")
    assert slow.text == "only 2 bytes of the body arrived within 0.1 s, fewer than 50 a second\n"


def test_a_body_that_stops_is_given_up_with_a_sentence(
    checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "_SECONDS_OF_SILENCE", 0.1)

    async def body() -> AsyncIterator[bytes]:
        for value in ROW.encode():
            yield bytes([value])
            await asyncio.sleep(0.01)
        await asyncio.sleep(1)

    async def ask() -> httpx.Response:
        async with replica(checkpoint_folder) as (_, client):
            return await client.post("/invocations", content=body())

    silent = asyncio.run(ask())

    assert (silent.status_code, silent.text) == (408, "nothing of the body arrived for 0.1 s\n")


def test_a_refused_client_that_goes_on_sending_gets_its_answer(checkpoint_folder: Path) -> None:
    async def ask() -> httpx.Response:
        endpoint = make_endpoint(checkpoint_folder, max_body_bytes=100_000)
        await endpoint.reconfigure({"checkpoint": str(checkpoint_folder)})
        async with listening(application(endpoint)) as url, httpx.AsyncClient() as client:
            return await client.post(f"{url}/invocations", content=ROW * 500_000)

    refused = asyncio.run(ask())

    assert (refused.status_code, refused.headers["connection"]) == (413, "close")
    assert refused.text == "the body has more than 100000 bytes; use jobs.transform\n"


def test_a_body_of_unknown_length_is_refused_once_it_is_too_long(
    checkpoint_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield ROW.encode() * 1000

    async def ask() -> httpx.Response:
        endpoint = make_endpoint(checkpoint_folder, max_body_bytes=2500 * len(ROW))
        await endpoint.reconfigure({"checkpoint": str(checkpoint_folder)})
        async with listening(application(endpoint)) as url, httpx.AsyncClient() as client:
            return await client.post(f"{url}/invocations", content=chunks())

    assert asyncio.run(ask()).status_code == 413
    assert "Exception" not in capsys.readouterr().err


def test_a_refused_client_that_sends_too_slowly_is_cut_off(
    checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "_SECONDS_AT_ANY_RATE", 0.3)

    async def ask() -> tuple[bytes, bytes]:
        endpoint = make_endpoint(checkpoint_folder, max_body_bytes=100_000)
        await endpoint.reconfigure({"checkpoint": str(checkpoint_folder)})
        async with listening(application(endpoint)) as url:
            reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)
            writer.write(b"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n1")
            told = await reader.readuntil(b"use jobs.transform\n")
            rest = await asyncio.wait_for(reader.read(), timeout=10)  # till the connection's end
            writer.close()
            return told, rest

    told, rest = asyncio.run(ask())

    assert told.startswith(b"HTTP/1.1 413 ")
    assert rest == b""


def test_a_row_of_far_too_many_columns_is_refused_without_taking_it_apart(
    checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "has_header", None)
    monkeypatch.setattr(app, "parse_series", None)

    async def ask() -> httpx.Response:
        async with replica(checkpoint_folder) as (_, client):
            return await client.post("/invocations", content=b"x1," * 20_000)

    refused = asyncio.run(ask())

    assert (refused.status_code, refused.text) == (
        400,
        f"body: row 1 has 20001 columns where {LENGTH} are expected\n",
    )


def test_rows_that_a_treatment_would_lengthen_are_counted_before(
    trained: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace(trained, treatment=Treatment(length="resample")).save(tmp_path)
    monkeypatch.setattr(app, "parse_series", None)

    async def ask() -> httpx.Response:
        async with replica(tmp_path, max_rows=3) as (_, client):
            return await client.post("/invocations", content=b"1,2\n" * 4)

    refused = asyncio.run(ask())

    assert (refused.status_code, refused.text) == (
        413,
        "the body has 4 rows, more than 3; use jobs.transform\n",
    )


def test_rows_that_a_treatment_would_lengthen_count_as_long_as_they_become(
    trained: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace(trained, treatment=Treatment(length="resample")).save(tmp_path)
    most = 15 * LENGTH * 10

    async def ask() -> list[httpx.Response]:
        async with replica(tmp_path, max_body_bytes=1000, max_held_bytes=most) as (endpoint, client):
            slowed(endpoint, monkeypatch, seconds=0.3)
            answers = await asyncio.gather(
                *[client.post("/invocations", content=b"1,2\n" * rows) for rows in (16, 9, 9)]
            )
            return [*answers, await client.post("/invocations", content=b"1,2\n" * 15)]

    alone, first, second, later = asyncio.run(ask())

    assert (alone.status_code, alone.text) == (
        413,
        f"at the network's length the body's rows count as more than {most} bytes; use jobs.transform\n",
    )
    assert {first.status_code, second.status_code} == {200, 503}
    assert later.status_code == 200


def test_a_zipped_body_is_told_that_it_is(checkpoint_folder: Path) -> None:
    async def ask() -> httpx.Response:
        async with replica(checkpoint_folder) as (_, client):
            return await client.post("/invocations", content=gzip.compress(ROW.encode()))

    refused = asyncio.run(ask())

    assert (refused.status_code, refused.text) == (
        415,
        "the body is zipped with gzip; this endpoint takes plain text/csv\n",
    )


class SlowBody(io.BytesIO):
    """Read at two times."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() > 0:
            time.sleep(0.5)
        return super().read(size)


@pytest.mark.parametrize(
    ("settings", "body", "status", "code", "sentence", "retries"),
    [
        (
            {},
            SlowBody(ROW.encode() * 10_000),
            408,
            "ValidationError",
            "the body did not arrive within 0.2 s",
            0,
        ),
        (
            {"max_body_bytes": len(ROW), "max_held_bytes": len(ROW)},
            "held",
            503,
            "ServiceUnavailable",
            f"bodies of more than {len(ROW)} bytes have arrived",
            1,
        ),
        ({}, ROW, 504, "InternalFailure", "the predictions were not done within 0.2 s", 1),
        ({"timeout_seconds": 60}, "fail", 500, "InternalFailure", "the endpoint failed; its log says why", 1),
    ],
)
def test_boto3_raises_what_is_late_overloaded_or_at_fault_as_the_exception_that_it_knows(
    settings: dict[str, Any],
    body: Any,
    status: int,
    code: str,
    sentence: str,
    retries: int,
    checkpoint_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ask(url: str) -> ClientError:
        client = boto3_client(url, signature_version=UNSIGNED, retries={"total_max_attempts": 2})
        with pytest.raises(ClientError) as refused:
            client.invoke_endpoint(EndpointName="any", ContentType="text/csv", Body=body)
        return refused.value

    async def serve_and_ask() -> ClientError:
        limits = {"body_seconds": 0.2, "timeout_seconds": 0.2, **settings}
        async with replica(checkpoint_folder, **limits) as (endpoint, _):
            slowed(endpoint, monkeypatch, seconds=0.5)
            if body == "held":
                endpoint._bodies.release(-len(ROW))
            if body == "fail":
                monkeypatch.setattr(endpoint, "_parse", None)
            async with listening(application(endpoint)) as url:
                return await asyncio.to_thread(ask, url)

    error = asyncio.run(serve_and_ask())

    assert type(error).__name__ == code
    assert error.response["Error"]["Message"].startswith(sentence)
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert error.response["ResponseMetadata"]["RetryAttempts"] == retries
