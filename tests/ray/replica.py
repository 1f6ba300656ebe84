"""A replica of an endpoint without Serve around it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
import uvicorn
from botocore.config import Config
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from lstmfcn.series import Matrix
from serve_app.access import ApiKeys
from serve_app.app import Endpoint
from serve_app.settings import Settings
from tests.samples import LENGTH

KEY = "0123456789abcdef"
CSV = {"Content-Type": "text/csv"}
ROW = ",".join(["1"] * (LENGTH - 1) + ["2"]) + "\n"


def application(endpoint: Endpoint) -> ASGIApp:
    """Return the ASGI application that Serve makes of an endpoint."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await endpoint(Request(scope, receive))
        await response(scope, receive, send)

    return app


def make_endpoint(folder: Path, channels: int = 1, **settings: Any) -> Endpoint:
    read = Settings(checkpoint=str(folder), **settings)
    return Endpoint(read, ApiKeys.read(read.api_keys), LENGTH, channels)


def client_of(endpoint: Endpoint, root_path: str = "") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(application(endpoint), root_path=root_path)
    return httpx.AsyncClient(transport=transport, base_url="http://replica")


@contextlib.asynccontextmanager
async def replica(folder: Path, **settings: Any) -> AsyncIterator[tuple[Endpoint, httpx.AsyncClient]]:
    """Yield a replica and a client that reaches it without a network."""
    endpoint = make_endpoint(folder, **settings)
    await endpoint.reconfigure({"checkpoint": str(folder)})
    async with client_of(endpoint) as client:
        yield endpoint, client


@contextlib.asynccontextmanager
async def listening(app: ASGIApp) -> AsyncIterator[str]:
    """Serve an application on a port of its own, and yield its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    await serving


def boto3_client(url: str, **config: Any) -> Any:
    """Return a client, with made-up credentials, of the endpoint at an address."""
    return boto3.client(
        "sagemaker-runtime",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="anyone",
        aws_secret_access_key="anything",
        config=Config(**config),
    )


def slowed(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Make every pass through the network take `seconds` longer."""
    assert endpoint._model is not None
    batcher = endpoint._model.batcher
    predict: Callable[[Matrix], Any] = batcher._predict

    def slow(series: Matrix) -> Any:
        time.sleep(seconds)
        return predict(series)

    monkeypatch.setattr(batcher, "_predict", slow)
    monkeypatch.setattr(batcher, "_rows_on_loop", 0)
