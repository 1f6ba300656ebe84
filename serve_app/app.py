"""The endpoint: a checkpoint behind HTTP, on Ray Serve.

`GET /ping` answers 200 with an empty body. `POST /invocations` takes CSV of series without labels
and answers CSV of predicted labels, a line for each row: the bytes that jobs.transform writes.
"""

import asyncio
import logging

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from lstmfcn import cluster
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.devices import Precision
from lstmfcn.errors import DataError
from lstmfcn.predictor import Predictor
from lstmfcn.storage import location

logger = logging.getLogger("ray.serve")


class Settings(BaseModel):
    """The arguments of `serve run serve_app.app:build_app name=value`."""

    model_config = ConfigDict(extra="forbid")

    checkpoint: str
    """Path or URI of the checkpoint folder, which every node sees."""
    max_body_bytes: int = Field(6 * 1024 * 1024, ge=1)
    """Largest request body; the default is SageMaker's."""
    gpus_per_replica: float = Field(0, ge=0)
    precision: Precision = "fp32"


class Endpoint:
    """Answers requests with one checkpoint's predictor."""

    def __init__(self, settings: Settings) -> None:
        cluster.use_allotted_threads()
        checkpoint = Checkpoint.load(location(settings.checkpoint))
        self._predictor = Predictor(checkpoint, cluster.allotted_devices()[0], settings.precision)
        logger.info("predicting in %s", self._predictor.precision)
        self._max_body_bytes = settings.max_body_bytes

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        match request.url.path:
            case "/ping":
                return _only("GET", request) or Response()
            case "/invocations":
                return _only("POST", request) or await self._invoke(request)
            case path:
                return _error(404, f"there is no {path}; there are GET /ping and POST /invocations")

    async def _invoke(self, request: Request) -> Response:
        media_type = request.headers.get("content-type", "text/csv").partition(";")[0].strip().lower()
        if media_type != "text/csv":
            return _error(415, f"Content-Type is {media_type}; this endpoint takes text/csv")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._max_body_bytes:
                return _error(413, f"the body has more than {self._max_body_bytes} bytes; use jobs.transform")
        try:
            # In a thread, so that /ping is answered while the network works.
            lines = await asyncio.to_thread(self._predictor.predict_csv, bytes(body), source="body")
        except DataError as error:
            return _error(400, str(error))
        return Response(lines, media_type="text/csv")


def build_app(settings: Settings) -> serve.Application:
    """The application for `serve run` and for `python -m serve_app`. Raises CheckpointError."""
    checkpoint = location(settings.checkpoint).resolve()
    Checkpoint.load(checkpoint)
    absolute = settings.model_copy(update={"checkpoint": str(checkpoint)})
    deployment = serve.deployment(
        name="endpoint",
        max_ongoing_requests=64,
        max_queued_requests=256,
        ray_actor_options={"num_cpus": 1, "num_gpus": settings.gpus_per_replica},
    )(Endpoint)
    return deployment.bind(absolute)


def _only(method: str, request: Request) -> Response | None:
    if request.method == method:
        return None
    response = _error(405, f"{request.url.path} takes {method}, not {request.method}")
    response.headers["allow"] = method
    return response


def _error(status: int, sentence: str) -> Response:
    return PlainTextResponse(sentence + "\n", status)
