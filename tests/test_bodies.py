from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Message

from serve_app.bodies import Bodies
from serve_app.contract import RequestError
from serve_app.settings import Settings

ANSWER = PlainTextResponse("too large", 413)
PART = b"1," * 10_000


def request_of(parts: Iterator[bytes], num_parts: int) -> Request:
    """A request whose body of unknown length comes in so many parts."""
    left = num_parts

    async def receive() -> Message:
        nonlocal left
        left -= 1
        return {"type": "http.request", "body": next(parts), "more_body": left > 0}

    headers = [(b"transfer-encoding", b"chunked")]
    return Request({"type": "http", "method": "POST", "path": "/invocations", "headers": headers}, receive)


def bodies(max_body_bytes: int) -> Bodies:
    return Bodies(Settings(checkpoint="any", max_body_bytes=max_body_bytes))


@pytest.mark.parametrize("num_parts", [1, 3])
def test_a_body_that_is_refused_by_its_last_part_has_arrived(num_parts: int) -> None:
    request = request_of(iter([PART] * num_parts), num_parts)
    limited = bodies(num_parts * len(PART) - 1)

    with pytest.raises(RequestError, match="has more than"):
        asyncio.run(limited.read(request))

    assert limited.answered(request, ANSWER) is ANSWER


def test_the_rest_of_a_refused_body_is_received_between_its_answer_and_the_end_of_that() -> None:
    sent: list[Message | str] = []

    def parts() -> Iterator[bytes]:
        for number in range(4):
            sent.append(f"part {number}")
            yield PART

    async def send(message: Message) -> None:
        sent.append({name: message[name] for name in ("body", "more_body", "status") if name in message})

    async def answer() -> None:
        request, limited = request_of(parts(), 4), bodies(len(PART))
        with pytest.raises(RequestError):
            await limited.read(request)
        early = limited.answered(request, ANSWER)
        assert early.headers["connection"] == "close"
        await early(request.scope, request.receive, send)

    asyncio.run(answer())

    assert sent == [
        "part 0",
        "part 1",
        {"status": 413},
        {"body": b"too large", "more_body": True},
        "part 2",
        "part 3",
        {"body": b"", "more_body": False},
    ]
