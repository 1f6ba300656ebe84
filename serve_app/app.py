"""The endpoint: a checkpoint behind HTTP, on Ray Serve.

A replica reads a body, parses it with the one parser, lets its rows share passes through the network with
those of other requests, and answers the bytes that jobs.transform writes.
"""

import asyncio
import logging
import time
from functools import partial
from http import HTTPStatus
from typing import Any

import torch
from ray import serve
from ray.serve.config import AutoscalingConfig, BackpressureConfig
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from lstmfcn import cluster
from lstmfcn.cells import num_lines
from lstmfcn.ensemble import AnyCheckpoint, load_checkpoint
from lstmfcn.errors import CheckpointError, DataError, LSTMFCNError, counted, is_of_full_memory
from lstmfcn.prediction_format import PredictionColumn, parse_columns
from lstmfcn.predictor import Predictor
from lstmfcn.series import Matrix, has_header, num_columns, parse_plain, parse_series
from lstmfcn.storage import location
from lstmfcn.treatment import Treatment
from lstmfcn.versions import installed
from serve_app import contract
from serve_app.access import ApiKeys
from serve_app.backlog import Backlog
from serve_app.bodies import Bodies
from serve_app.contract import RequestError, Route
from serve_app.model import Model
from serve_app.observation import Observer
from serve_app.offload import offload
from serve_app.settings import Serving, Settings
from serve_app.stage import Stage

logger = logging.getLogger("ray.serve")

_BYTES_ON_LOOP = 1 << 20
_CELLS_ON_LOOP = 10_000
"""Most bytes of plain numbers, and most probabilities, that the event loop itself handles, which takes some
milliseconds: for small ones a thread would cost more."""

_COLUMNS_BEYOND = 10_000
"""Most columns too many for a sentence that says what each of them is."""

_GZIP = b"\x1f\x8b"

_BROKEN = "the GPU has failed; the replica is being replaced"

_PAUSES = (1.0, 4.0)
"""Seconds between attempts to read a checkpoint."""

_AFTER_CONTINUE_SECONDS = 0.02
"""Pause between Serve's `100 Continue` and the answer: HAProxy 2.8 cuts the body off an answer whose head it
reads together with the `100 Continue`."""


class Endpoint:
    """Answers requests with one checkpoint's predictions."""

    def __init__(self, settings: Settings, keys: ApiKeys, length: int, channels: int) -> None:
        """`length` and `channels` are those of the series that every checkpoint must take."""
        cluster.set_up_worker()
        self._observer = Observer()
        self._settings, self._keys = settings, keys
        self._length, self._channels = length, channels
        self._num_values = channels * length
        self._columns = None if settings.columns is None else parse_columns(settings.columns)
        self._model: Model | None = None
        self._refused = ""
        self._is_broken = False
        """Whether the GPU failed in a way after which CUDA does nothing more in this process."""
        self._configured: dict[str, Any] | None = None
        self._configuring = asyncio.Lock()
        self._bodies = Bodies(settings)
        self._backlog = Backlog(settings.max_wait_seconds)
        self._arriving = Stage("sending their bodies", settings.max_requests)
        self._answering = Stage("being answered", settings.max_requests)

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve another checkpoint from the next request on.

        A checkpoint that can't be served is refused: the former one goes on or, in a new replica, the one
        that the endpoint was deployed with. Raises CheckpointError when that can't be loaded either.
        """
        async with self._configuring:
            if user_config == self._configured:  # Serve also calls when a replica's rank has changed
                return
            self._configured = user_config
            try:
                chosen = Serving.model_validate(user_config).checkpoint if user_config else None
                await self._change(chosen or self._settings.checkpoint)
                self._refused = ""
            except Exception as error:  # whatever it is, the endpoint must go on
                if self._model is None:
                    await self._change(self._settings.checkpoint)
                self._refused = str(error)
                logger.error(
                    "a new checkpoint is refused: %s", error, exc_info=not isinstance(error, LSTMFCNError)
                )

    async def _change(self, checkpoint: str) -> None:
        for pause in _PAUSES:  # a store or a disk may fail for a moment
            try:
                self._model = await asyncio.to_thread(self._load, checkpoint)
                break
            except OSError:
                await asyncio.sleep(pause)
        else:
            self._model = await asyncio.to_thread(self._load, checkpoint)
        self._backlog.expect(self._model.seconds_per_byte)

    def _load(self, path: str) -> Model:
        checkpoint = load_checkpoint(location(path))
        if checkpoint.length != self._length:
            raise CheckpointError(
                f"{path} expects series of length {checkpoint.length};"
                f" the endpoint serves length {self._length}"
            )
        if checkpoint.channels != self._channels:
            raise CheckpointError(
                f"{path} expects series of {counted(checkpoint.channels, 'channel')};"
                f" the endpoint serves {self._channels}"
            )
        device, precision = cluster.allotted_devices()[0], self._settings.precision
        predictor = Predictor(checkpoint, device, precision)
        return Model(checkpoint, predictor, self._observer.note_pass)

    def check_health(self) -> None:
        """Raise RuntimeError once the GPU has failed: Serve calls this, and then replaces the replica."""
        if self._is_broken:
            raise RuntimeError(_BROKEN)

    def __del__(self) -> None:
        """Report the last requests; Serve calls this when the replica stops."""
        self._observer.report()

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        started = time.perf_counter()
        request_id = request.headers.get("x-request-id", "")
        # Not from request.url, which takes as long as parsing a row.
        path = request.scope["path"].removeprefix(request.scope.get("root_path", "")) or "/"
        status, reason, rows = 500, "fault", 0
        if "expect" in request.headers:
            await asyncio.sleep(_AFTER_CONTINUE_SECONDS)
        try:
            response, rows, reason = await self._answer(request, path, request_id)
            status = response.status_code
            response = self._bodies.answered(request, response)
        except asyncio.CancelledError:
            status, reason = 499, "the client has gone"
            raise
        finally:
            seconds = time.perf_counter() - started
            asyncio.get_running_loop().call_soon(  # once it is answered
                self._observer.note_request, request_id, request.method, path, status, reason, rows, seconds
            )
        return response

    async def _answer(self, request: Request, path: str, request_id: str) -> tuple[Response, int, str]:
        """Return the answer, the number of rows predicted for it, and why it was refused, if it was."""
        route = None
        try:
            route = contract.route(path)
            contract.check(request.method, route, request.headers, self._settings.max_body_bytes)
            if route.action == "ping":
                if self._is_broken:
                    raise RequestError(503, _BROKEN)
                return Response(), 0, ""
            if not self._keys.allow(request.headers):
                sentence = "an API key is needed, as Authorization: Bearer <key> or X-Api-Key: <key>"
                raise RequestError(401, sentence, {"WWW-Authenticate": "Bearer"})
            if route.action != "invoke":
                return self._describe(route), 0, ""
            lines, rows = await self._invoke(request)
            return contract.predictions(lines, route, request.headers, request_id), rows, ""
        except RequestError as error:  # not kept, since its traceback keeps the body
            reason = error.reason or HTTPStatus(error.status).phrase
            return contract.refusal(error, route, request.headers, request_id), 0, reason
        except Exception as error:
            # A full memory can be an error of this kind, too, but ends with the request.
            is_fatal = isinstance(error, torch.AcceleratorError) and not is_of_full_memory(str(error))
            self._is_broken = self._is_broken or is_fatal
            logger.exception("request %s failed", request_id)
            failed = RequestError(500, "the endpoint failed; its log says why, under this request's id")
            return contract.refusal(failed, route, request.headers, request_id), 0, HTTPStatus(500).phrase

    def _describe(self, route: Route) -> Response:
        if route.action == "execution-parameters":
            most_bytes, seconds = self._settings.max_body_bytes, self._settings.timeout_seconds
            at_once = self._backlog.num_within(seconds, most_bytes)
            return JSONResponse(contract.execution_parameters(most_bytes, at_once))
        assert self._model is not None
        described = self._model.described()
        if self._refused:
            described["refused"] = self._refused
        described["versions"] = installed("ray", "torch")
        return JSONResponse(described)

    async def _invoke(self, request: Request) -> tuple[bytes, int]:
        """Return lines of predictions, and how many there are."""
        columns = contract.asked_columns(request.scope["query_string"], request.headers) or self._columns
        model = self._model  # used to the end, whatever checkpoint is loaded meanwhile
        assert model is not None
        # A request that can't be answered now is refused before it sends its body.
        self._answering.refuse_if_full()
        self._backlog.refuse_if_too_long(contract.declared_bytes(request.headers))
        with self._arriving.place():
            body = await self._bodies.read(request)
        try:
            num_bytes = model.counted_bytes(body)
            with (
                self._backlog.place(num_bytes),
                self._answering.place(),
                self._bodies.lengthened(len(body), num_bytes),
            ):
                async with asyncio.timeout(self._settings.timeout_seconds):
                    return await self._predict(model, body, columns)
        except TimeoutError:
            seconds = self._settings.timeout_seconds
            raise RequestError(504, f"the predictions were not done within {seconds:g} s") from None
        finally:
            self._bodies.release(len(body))

    async def _predict(
        self, model: Model, body: bytes, columns: tuple[PredictionColumn, ...] | None
    ) -> tuple[bytes, int]:
        series, with_header = await self._parse(body, model.predictor.treatment)
        probabilities = await model.batcher.probabilities(series)
        answer = partial(model.predictor.answer, probabilities, columns, with_header=with_header)
        lines = answer() if probabilities.size <= _CELLS_ON_LOOP else await offload(answer)
        return lines, len(series)

    async def _parse(self, body: bytes, treatment: Treatment) -> tuple[Matrix, bool]:
        """Return the series in a body, and whether they stand below a header."""
        if len(body) <= _BYTES_ON_LOOP:
            series = parse_plain(body, num_values=self._num_values, channels=self._channels)
            if series is not None:
                self._refuse_more_rows(len(series))
                return series, has_header(body)
        return await offload(partial(self._parse_slowly, body, treatment))

    def _parse_slowly(self, body: bytes, treatment: Treatment) -> tuple[Matrix, bool]:
        if body.startswith(_GZIP):
            raise RequestError(415, "the body is zipped with gzip; this endpoint takes plain text/csv")
        # To take a row apart costs a hundred times its size in memory, even if it is then refused.
        required = treatment.required(self._num_values)
        if required and (found := num_columns(body)) > required + _COLUMNS_BEYOND:
            raise RequestError(400, f"body: row 1 has {found} columns where {required} are expected")
        with_header = has_header(body)
        # Counted before they are parsed, since a treatment may make short rows as long as the network's.
        self._refuse_more_rows(num_lines(body) - with_header)
        try:
            series = parse_series(body, source="body", num_values=self._num_values, treatment=treatment)
        except DataError as error:
            raise RequestError(400, str(error)) from None
        return series, with_header

    def _refuse_more_rows(self, num_rows: int) -> None:
        most = self._settings.max_rows
        if num_rows > most:
            raise RequestError(413, f"the body has {num_rows} rows, more than {most}; use jobs.transform")


def build_app(settings: Settings) -> serve.Application:
    """Return the application for `serve deploy` and `serve run`. Raises CheckpointError and DataError."""
    return application(
        settings, ApiKeys.read(settings.api_keys), load_checkpoint(location(settings.checkpoint))
    )


def application(settings: Settings, keys: ApiKeys, checkpoint: AnyCheckpoint) -> serve.Application:
    """Return the application for a checkpoint and for keys that have been read already, since a replica's
    node may have neither the keys' file nor their environment.
    """
    path = str(location(settings.checkpoint).resolve())
    serving = Serving(checkpoint=path, digest=checkpoint.digest())
    most = settings.max_replicas or settings.replicas
    deployment = serve.deployment(
        name="endpoint",
        user_config=serving.model_dump(),
        # max_requests may send their bodies and as many be answered. The endpoint itself refuses further
        # ones, in words, and still answers /ping. Serve's own queue is for what comes faster than that.
        max_ongoing_requests=4 * settings.max_requests,
        max_queued_requests=4 * settings.max_requests,
        backpressure_config=BackpressureConfig(retry_after_s=contract.OVERLOADED_RETRY_SECONDS),
        autoscaling_config=AutoscalingConfig(
            min_replicas=settings.replicas,
            initial_replicas=settings.replicas,
            max_replicas=most,
            target_ongoing_requests=4,
        ),
        max_surge_percent=100,
        graceful_shutdown_timeout_s=20,
        logging_config={"enable_access_log": False},  # the endpoint writes its own
        ray_actor_options={"num_cpus": settings.cpus_per_replica, "num_gpus": settings.gpus_per_replica},
    )(Endpoint)
    return deployment.bind(
        settings.model_copy(update={"checkpoint": path}), keys, checkpoint.length, checkpoint.channels
    )
