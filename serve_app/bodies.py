"""The bodies of requests, limited each and together, in bytes and in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serve_app import contract
from serve_app.contract import RequestError
from serve_app.ingress import LARGE_BYTES
from serve_app.settings import Settings

_SECONDS_AT_ANY_RATE = 2.0
"""Seconds that a body may take beyond those at the least rate: a lost packet may cost one."""
_SECONDS_OF_SILENCE = 4.0
"""Longest pause between two parts of a body: shorter than haproxy._LEAST_SILENCE, after which a client would
get no sentence."""


class Bodies:
    """Reads requests' bodies, and limits how much of them a replica holds in memory."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._held = 0

    async def read(self, request: Request) -> bytes:
        """Read a request's body, which is held until it is released. Raises RequestError."""
        chunks: list[bytes] = []

        def hold(chunk: bytes, size: int) -> None:
            chunks.append(chunk)
            self._held += len(chunk)
            if size > self._settings.max_body_bytes:
                raise contract.too_large(self._settings.max_body_bytes)
            self._refuse_too_many_held()

        try:
            await self._receive(request, hold)
        except BaseException:  # a client that leaves cancels its request
            self.release(sum(map(len, chunks)))
            raise
        return b"".join(chunks)

    def answered(self, request: Request, answer: Response) -> Response:
        """Return an answer as it is to be sent, which depends on whether the request's body has arrived."""
        if getattr(request.state, "has_arrived", False) or "connection" in answer.headers:
            return answer
        headers = request.headers
        if contract.declared_bytes(headers) <= LARGE_BYTES and "transfer-encoding" not in headers:
            return answer
        return EarlyAnswer(answer, partial(self._discard, request))

    async def _discard(self, request: Request) -> None:
        """Receive the rest of a request's body, as long as it comes as fast as a body must; keep nothing."""
        with suppress(RequestError):
            await self._receive(request, lambda _chunk, _size: None)

    async def _receive(self, request: Request, take: Callable[[bytes, int], None]) -> None:
        """Call `take` with every part of a body, and the bytes up to its end. Raises RequestError."""
        size = 0
        now = asyncio.get_running_loop().time
        started = heard = now()
        try:
            async with asyncio.timeout_at(started + self._seconds_for(size)) as limit:
                has_more = True
                while has_more:  # not by request.stream, which can't go on after an error in between
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        raise RequestError(400, "the body ended before its Content-Length")
                    chunk, has_more = message.get("body", b""), message.get("more_body", False)
                    request.state.has_arrived = not has_more
                    size += len(chunk)
                    take(chunk, size)
                    heard = now()
                    limit.reschedule(min(started + self._seconds_for(size), heard + _SECONDS_OF_SILENCE))
        except TimeoutError:
            raise self._late(size, silence=now() - heard) from None

    @contextmanager
    def lengthened(self, size: int, to: int) -> Iterator[None]:
        """While the block runs, count a body of `size` bytes as `to` bytes, since its series become longer.

        Raises RequestError.
        """
        most = self._settings.max_held_bytes
        if to > most:
            sentence = f"at the network's length the body's rows count as more than {most} bytes"
            raise RequestError(413, f"{sentence}; use jobs.transform")
        self._held += to - size
        try:
            self._refuse_too_many_held()
            yield
        finally:
            self._held -= to - size

    def release(self, num_bytes: int) -> None:
        """Note that `num_bytes` of a body are no longer held."""
        self._held -= num_bytes

    def _refuse_too_many_held(self) -> None:
        most = self._settings.max_held_bytes
        if self._held > most:
            sentence = f"bodies of more than {most} bytes have arrived; try again"
            raise contract.overloaded(sentence, "too many bytes")

    def _seconds_for(self, size: int) -> float:
        """Return the seconds, from a body's beginning, within which more than `size` bytes must arrive."""
        return min(self._settings.body_seconds, _SECONDS_AT_ANY_RATE + size / self._settings.min_body_rate)

    def _late(self, size: int, silence: float) -> RequestError:
        seconds = self._seconds_for(size)
        if silence >= _SECONDS_OF_SILENCE:
            sentence = f"nothing of the body arrived for {_SECONDS_OF_SILENCE:g} s"
        elif seconds >= self._settings.body_seconds:
            sentence = f"the body did not arrive within {seconds:g} s"
        else:
            sentence = (
                f"only {size} bytes of the body arrived within {seconds:.1f} s,"
                f" fewer than {self._settings.min_body_rate} a second"
            )
        # The replica's connection is closed, since the rest of the body may come as slowly.
        return RequestError(408, sentence, {"Connection": "close"})


class EarlyAnswer(Response):
    """An answer that is sent before the request's body has arrived.

    The connection is closed once the rest of the body has come, or comes too slowly: HAProxy would keep a
    large body's place for as long as its client likes. Closed at once, it would break while a client sends,
    which would then not read the answer.
    """

    def __init__(self, answer: Response, rest_of_body: Callable[[], Awaitable[None]]) -> None:
        super().__init__(answer.body, answer.status_code)
        self.raw_headers = answer.raw_headers
        self.headers["Connection"] = "close"
        self._rest_of_body = rest_of_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, and its end once the rest of the request's body has been received."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await self._rest_of_body()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
