"""The endpoint: a checkpoint behind HTTP, on Ray Serve.

A replica reads a body, parses it with the one parser, lets its rows share passes through the network with
those of other requests, and answers the bytes that jobs.transform writes.
"""

import asyncio
import logging
import time
from importlib.metadata import version
from typing import Any

from ray import serve
from ray.serve.config import AutoscalingConfig
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

import lstmfcn
from lstmfcn import cluster
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.errors import CheckpointError, DataError, LSTMFCNError
from lstmfcn.prediction_format import PredictionColumn, parse_columns
from lstmfcn.predictor import Predictor
from lstmfcn.series import Matrix, parse_series
from lstmfcn.storage import location
from serve_app import contract
from serve_app.access import ApiKeys
from serve_app.batching import QueueFullError
from serve_app.contract import RequestError, Route
from serve_app.model import Model
from serve_app.observation import Observer
from serve_app.settings import Serving, Settings

logger = logging.getLogger("ray.serve")

_SMALL_BODY_BYTES = 1 << 20
"""Parsed on the event loop within a few milliseconds, where a thread would cost more."""


class Endpoint:
    """Answers requests with one checkpoint's predictions."""

    def __init__(self, settings: Settings) -> None:
        cluster.set_up_worker()
        self._settings = settings
        self._columns = parse_columns(settings.columns)
        self._keys = ApiKeys.read(settings.api_keys)
        self._observer = Observer()
        self._model: Model | None = None
        self._refused = ""
        self._num_requests = 0

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve another checkpoint from the next request on.

        A first one that can't be loaded ends the replica; a later one is refused, and the former goes on.
        """
        serving = Serving.model_validate(user_config)
        try:
            self._model = await asyncio.to_thread(self._load, serving)
            self._refused = ""
        except LSTMFCNError as error:
            if self._model is None:
                raise
            self._refused = str(error)
            logger.error("a new checkpoint is refused, and the former serves on: %s", error)

    def _load(self, serving: Serving) -> Model:
        checkpoint = Checkpoint.load(location(serving.checkpoint))
        former = self._model
        if former is not None and checkpoint.length != former.predictor.length:
            raise CheckpointError(
                f"{serving.checkpoint} expects series of length {checkpoint.length};"
                f" the endpoint serves length {former.predictor.length}"
            )
        device, precision = cluster.allotted_devices()[0], self._settings.precision
        predictor = Predictor(checkpoint, device, precision)
        return Model(checkpoint, predictor, self._settings.max_waiting_rows, self._observer.a_pass)

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        started = time.perf_counter()
        request_id = request.headers.get("x-request-id", "")
        path = request.scope["path"]  # request.url takes as long as parsing a row
        route = None
        rows = 0
        try:
            route = contract.route(path)
            contract.check(request.method, route, request.headers, self._settings.max_body_bytes)
            if route.action == "ping":
                return Response()
            if not self._keys.allow(request.headers):
                sentence = "an API key is needed, as Authorization: Bearer <key> or X-Api-Key: <key>"
                raise RequestError(401, sentence, {"WWW-Authenticate": "Bearer"})
            if route.action != "invoke":
                return self._describe(route)
            lines, rows = await self._invoke(request)
            response = contract.predictions(lines, route, request.headers, request_id)
        except RequestError as error:
            response = contract.refusal(error, route, request.headers, request_id)
        seconds = time.perf_counter() - started
        self._observer.request(request_id, request.method, path, response.status_code, rows, seconds)
        return response

    def _describe(self, route: Route) -> Response:
        if route.action == "execution-parameters":
            megabytes = self._settings.max_body_bytes >> 20
            return JSONResponse({"MaxConcurrentTransforms": 8, "MaxPayloadInMB": max(1, megabytes)})
        assert self._model is not None
        described = self._model.described()
        if self._refused:
            described["refused"] = self._refused
        versions = {name: version(name) for name in ("ray", "torch")}
        described["versions"] = {"lstmfcn": lstmfcn.__version__, **versions}
        return JSONResponse(described)

    async def _invoke(self, request: Request) -> tuple[bytes, int]:
        """Lines of predictions, and how many."""
        settings = self._settings
        columns = contract.asked_columns(request.scope["query_string"], request.headers) or self._columns
        if self._num_requests >= settings.max_requests:
            raise contract.overloaded(f"{self._num_requests} requests are being answered; try again")
        self._num_requests += 1
        body = None
        try:
            async with asyncio.timeout(settings.timeout_seconds):
                body = await self._body(request)
                return await self._predict(body, columns)
        except TimeoutError:
            seconds = f"within {settings.timeout_seconds:g} s"
            if body is None:
                raise RequestError(408, f"the body did not arrive {seconds}") from None
            raise RequestError(504, f"the predictions were not done {seconds}") from None
        except ClientDisconnect:
            raise RequestError(400, "the body ended before its Content-Length") from None
        finally:
            self._num_requests -= 1

    async def _body(self, request: Request) -> bytes:
        most = self._settings.max_body_bytes
        chunks = []
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > most:
                raise contract.too_large(most)
            chunks.append(chunk)
        return b"".join(chunks)

    async def _predict(self, body: bytes, columns: tuple[PredictionColumn, ...]) -> tuple[bytes, int]:
        model = self._model  # the same to the end, whatever is loaded meanwhile
        assert model is not None
        started = time.perf_counter()
        is_small = len(body) <= _SMALL_BODY_BYTES
        try:
            if is_small:
                series = self._parse(body, model)
            else:
                series = await asyncio.to_thread(self._parse, body, model)
        except DataError as error:
            raise RequestError(400, str(error)) from None
        try:
            probabilities = await model.batcher.probabilities(series)
        except QueueFullError:
            raise contract.overloaded("too many rows are waiting; try again") from None
        self._observer.predicted(time.perf_counter() - started)
        if is_small:
            return model.lines(probabilities, columns), len(series)
        return await asyncio.to_thread(model.lines, probabilities, columns), len(series)

    def _parse(self, body: bytes, model: Model) -> Matrix:
        series = parse_series(body, source="body", length=model.predictor.length)
        if len(series) > self._settings.max_rows:
            sentence = (
                f"the body has {len(series)} rows, more than {self._settings.max_rows}; use jobs.transform"
            )
            raise RequestError(413, sentence)
        return series


def build_app(settings: Settings) -> serve.Application:
    """The application for `serve run` and for `python -m serve_app`. Raises CheckpointError and DataError."""
    ApiKeys.read(settings.api_keys)
    path = location(settings.checkpoint).resolve()
    serving = Serving(checkpoint=str(path), digest=Checkpoint.load(path).digest())
    most = settings.max_replicas or settings.replicas
    deployment = serve.deployment(
        name="endpoint",
        user_config=serving.model_dump(),
        # Requests beyond max_requests are refused by the endpoint itself, in words.
        max_ongoing_requests=2 * settings.max_requests,
        max_queued_requests=settings.max_requests,
        autoscaling_config=AutoscalingConfig(
            min_replicas=settings.replicas,
            initial_replicas=settings.replicas,
            max_replicas=most,
            target_ongoing_requests=4,
        ),
        max_surge_percent=100,
        graceful_shutdown_timeout_s=20,
        logging_config={"enable_access_log": False},  # the endpoint writes its own
        ray_actor_options={"num_cpus": 1, "num_gpus": settings.gpus_per_replica},
    )(Endpoint)
    return deployment.bind(settings)
