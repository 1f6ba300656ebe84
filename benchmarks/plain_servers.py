"""Servers as one would first write them, which the endpoint is compared with:
`python -m benchmarks.plain_servers bare|serve <checkpoint> <port>`.
"""

from __future__ import annotations

import io
import signal
import sys

import numpy as np
import ray
import uvicorn
from ray import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.naive import labeller
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.devices import use_threads
from lstmfcn.storage import location


class Handler:
    """Answers a CSV body with labels, by numpy.loadtxt and the plain module."""

    def __init__(self, checkpoint: str) -> None:
        use_threads(1)
        self._labels = labeller(Checkpoint.load(location(checkpoint)))

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        series = np.loadtxt(io.BytesIO(await request.body()), delimiter=",", dtype=np.float32, ndmin=2)
        lines = "".join(label + "\n" for label in self._labels(series))
        return Response(lines, media_type="text/csv")


def bare(checkpoint: str, port: int) -> None:
    """Serve by Starlette on uvicorn, in one process."""
    handler = Handler(checkpoint)

    async def invoke(request: Request) -> Response:
        return await handler(request)

    app = Starlette(routes=[Route("/invocations", invoke, methods=["POST"])])
    uvicorn.run(app, port=port, log_level="warning", access_log=False)


def as_it_comes(checkpoint: str, port: int) -> None:
    """Serve by Ray Serve without any setting."""
    ray.init(include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"port": port})
    serve.run(serve.deployment(name="handler")(Handler).bind(checkpoint), route_prefix="/invocations")
    signal.pause()


if __name__ == "__main__":
    {"bare": bare, "serve": as_it_comes}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
