"""The bodies of requests, limited each and together."""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request

from serve_app import contract
from serve_app.contract import RequestError


class Bodies:
    """Those that a replica holds in memory."""

    def __init__(self, most_bytes: int, most_held: int) -> None:
        """Bytes of one body, and of all that are held at once."""
        self._most_bytes, self._most_held = most_bytes, most_held
        self._held = 0

    async def read(self, request: Request) -> bytes:
        """A body, which is held until it is released. Raises RequestError."""
        chunks = []
        size = 0
        try:
            async for chunk in request.stream():
                chunks.append(chunk)
                size += len(chunk)
                self._held += len(chunk)
                if size > self._most_bytes:
                    raise contract.too_large(self._most_bytes)
                if self._held > self._most_held:
                    sentence = f"bodies of more than {self._most_held} bytes have arrived; try again"
                    raise contract.overloaded(sentence, "too many bytes")
        except BaseException as error:  # a client that has gone cancels it
            self.release(size)
            if isinstance(error, ClientDisconnect):
                raise RequestError(400, "the body ended before its Content-Length") from None
            raise
        return b"".join(chunks)

    def release(self, num_bytes: int) -> None:
        """A body of so many bytes is no longer held."""
        self._held -= num_bytes
