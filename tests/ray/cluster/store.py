"""Object storage that has its bad moments."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

_SECONDS_IN_TROUBLE = 0.5


class TroubledStore:
    """A server of S3's protocol that, in trouble, is slow and refuses two requests of three.

    It holds what all of moto's servers in this process do.
    """

    def __init__(self) -> None:
        self.is_in_trouble = False
        self.num_refused = 0
        self._requests = count()
        self._healthy = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        if self.is_in_trouble:
            time.sleep(_SECONDS_IN_TROUBLE)
            if next(self._requests) % 3:
                self.num_refused += 1
                start_response("503 Slow Down", [("Content-Type", "application/xml")])
                return [b"<Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>"]
        answer: Iterable[bytes] = self._healthy(environ, start_response)
        return answer
