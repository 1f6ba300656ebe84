"""A server of S3's protocol that has its bad moments: `python -m tests.ray.cluster.store`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

_SECONDS_IN_TROUBLE = 0.5


class Troubled:
    """Slow, and out of order for two requests of three, while there is a file that says so."""

    def __init__(self, trouble: Path) -> None:
        self._trouble, self._requests = trouble, count()
        self._healthy = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if self._trouble.exists():
            time.sleep(_SECONDS_IN_TROUBLE)
            if next(self._requests) % 3:
                start_response("503 Slow Down", [("Content-Type", "application/xml")])
                return [b"<Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>"]
        answer: Iterable[bytes] = self._healthy(environ, start_response)
        return answer


if __name__ == "__main__":
    address, port, trouble = sys.argv[1:]
    run_simple(address, int(port), Troubled(Path(trouble)), threaded=True)
