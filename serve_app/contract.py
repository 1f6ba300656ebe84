"""What the endpoint understands and answers over HTTP, apart from predictions.

`/invocations` and its neighbours are what SageMaker asks of a container; `/endpoints/<name>/invocations`,
below any prefix, is what boto3 calls. An error is a sentence in plain text on the former; on the latter it is
what botocore turns into its typed exceptions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse, Response

from lstmfcn.errors import DataError
from lstmfcn.prediction_format import PredictionColumn, parse_columns

Action: TypeAlias = Literal["ping", "invoke", "model", "execution-parameters"]

CUSTOM_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
_ACTIONS: dict[str, Action] = {
    "/": "model",
    "/model": "model",
    "/ping": "ping",
    "/invocations": "invoke",
    "/execution-parameters": "execution-parameters",
}
_PLATFORM_PATH = re.compile(r"(?:/[^/]+)*/endpoints/[^/]+/invocations")
_MEDIA_RANGES = ("text/csv", "text/*", "*/*")
"""Media ranges of `Accept` that include CSV; the first of them that a request names decides."""
_WIDE_CHARSET = re.compile(r"utf[-_]?(16|32)|ucs[-_]?[24]")
"""Charsets in which a digit isn't the single byte that it is in UTF-8 and most others."""
_CURLS_OWN_TYPE = "application/x-www-form-urlencoded"
_MOST_PAYLOAD_MB = 100
OVERLOADED_RETRY_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Route:
    """What a path asks for."""

    action: Action
    is_platform: bool = False
    """Whether the path is the one that boto3 calls."""

    @property
    def method(self) -> str:
        """The HTTP method that the path takes."""
        return "POST" if self.action == "invoke" else "GET"


@dataclass(eq=False)  # an exception is compared and hashed as the object that it is
class RequestError(Exception):
    """A request that isn't answered with predictions."""

    status: int
    sentence: str
    headers: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    """Why, in a few words, where the status doesn't say it."""


def route(path: str) -> Route:
    """Return what a path asks for. Raises RequestError for a path that isn't served."""
    if action := _ACTIONS.get(path):
        return Route(action)
    if _PLATFORM_PATH.fullmatch(path):
        return Route("invoke", is_platform=True)
    served = "GET /ping, GET /model, POST /invocations and POST /endpoints/<name>/invocations"
    raise RequestError(404, f"there is no {path!r}; there are {served}")


def check(method: str, route: Route, headers: Headers, most_bytes: int) -> None:
    """Raise RequestError unless the request's method, type, size and what it accepts will do."""
    if method != route.method and (method, route.method) != ("HEAD", "GET"):
        sentence = f"the path takes {route.method}, not {method}"
        raise RequestError(405, sentence, {"Allow": route.method})
    if route.action != "invoke":
        return
    _check_content_type(headers.get("content-type", "text/csv").lower())
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise RequestError(415, f"Content-Encoding is {encoding}; this endpoint takes plain text/csv")
    accepted = ", ".join(headers.getlist("accept"))
    if not _accepts_csv(accepted):
        raise RequestError(406, f"Accept is {accepted}; this endpoint answers text/csv")
    if declared_bytes(headers) > most_bytes:
        raise too_large(most_bytes)


def declared_bytes(headers: Headers) -> int:
    """Return the bytes of the body if the request's Content-Length tells them, else 0."""
    try:
        return int(headers.get("content-length", "0"))
    except ValueError:  # no number, or one of thousands of digits
        return 0


def _check_content_type(content_type: str) -> None:
    media_type, *parameters = (part.strip() for part in content_type.split(";"))
    if media_type not in ("", "text/csv"):
        hint = " (curl -H 'Content-Type: text/csv')" if media_type == _CURLS_OWN_TYPE else ""
        raise RequestError(415, f"Content-Type is {media_type}; this endpoint takes text/csv{hint}")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and _WIDE_CHARSET.match(value.strip(' "')):
            raise RequestError(415, f"Content-Type says {parameter}; this endpoint takes UTF-8")


def _accepts_csv(accepted: str) -> bool:
    is_accepted: dict[str, bool] = {}
    for one in accepted.lower().split(","):
        media_range, *parameters = (part.strip() for part in one.split(";"))
        refused = any(re.fullmatch(r"q\s*=\s*0(\.0*)?", parameter) for parameter in parameters)
        is_accepted[media_range] = is_accepted.get(media_range, False) or not refused
    for media_range in _MEDIA_RANGES:
        if media_range in is_accepted:
            return is_accepted[media_range]
    return not accepted.strip()


def too_large(most_bytes: int) -> RequestError:
    """Return the refusal of a body of more than `most_bytes`."""
    return RequestError(413, f"the body has more than {most_bytes} bytes; use jobs.transform")


def overloaded(sentence: str, reason: str) -> RequestError:
    """Return the refusal of a request for which there is no room at the moment."""
    return RequestError(503, sentence, {"Retry-After": str(OVERLOADED_RETRY_SECONDS)}, reason)


def asked_columns(query: bytes, headers: Headers) -> tuple[PredictionColumn, ...] | None:
    """Return the columns that a request asks for, by `?columns=` or a custom attribute `columns=`, or None.

    Raises RequestError.
    """
    asked = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("columns", [])
    attributes = headers.get(CUSTOM_ATTRIBUTES, "")
    asked += [
        value
        for name, _, value in (one.partition("=") for one in attributes.split(";"))
        if name.strip() == "columns"
    ]
    if not asked:
        return None
    try:
        return parse_columns(asked[0].strip(), "columns")
    except DataError as error:
        raise RequestError(400, str(error)) from None


def execution_parameters(most_bytes: int, at_once: int) -> dict[str, int]:
    """Return the settings of a batch job of the platform, which sends 100 MB at most, in all its concurrent
    requests together.
    """
    megabytes = min(max(most_bytes >> 20, 1), _MOST_PAYLOAD_MB)
    return {
        "MaxConcurrentTransforms": min(at_once, _MOST_PAYLOAD_MB // megabytes),
        "MaxPayloadInMB": megabytes,
    }


def predictions(lines: bytes, route: Route, headers: Headers, request_id: str) -> Response:
    """Return the answer with predictions."""
    return Response(lines, headers=_echoed(route, headers, request_id), media_type="text/csv")


def refusal(error: RequestError, route: Route | None, headers: Headers, request_id: str) -> Response:
    """Return the answer with an error's sentence, in the form that the caller understands."""
    if route is None or not route.is_platform:
        return PlainTextResponse(error.sentence + "\n", error.status, error.headers)
    status, kind, body = _platform_error(error)
    echoed = _echoed(route, headers, request_id)
    return JSONResponse(body, status, {**echoed, **error.headers, "x-amzn-ErrorType": kind})


def _platform_error(error: RequestError) -> tuple[int, str, Mapping[str, object]]:
    match error.status:
        case 400:  # how the platform reports a container's refusal
            body = {
                "Message": f'Received client error (400) from primary with message "{error.sentence}".',
                "OriginalStatusCode": 400,
                "OriginalMessage": error.sentence,
                "LogStreamArn": "",
            }
            return 424, "ModelError", body
        case 401:
            return 403, "AccessDeniedException", {"Message": error.sentence}
        case 503:
            return 503, "ServiceUnavailable", {"Message": error.sentence}
        case 500 | 504:
            return error.status, "InternalFailure", {"Message": error.sentence}
    return error.status, "ValidationError", {"Message": error.sentence}


def _echoed(route: Route, headers: Headers, request_id: str) -> dict[str, str]:
    echoed = {}  # Serve adds x-request-id
    if route.is_platform:
        echoed["x-amzn-RequestId"] = request_id
        echoed["x-Amzn-Invoked-Production-Variant"] = headers.get(
            "x-amzn-sagemaker-target-variant", "AllTraffic"
        )
    for name in (CUSTOM_ATTRIBUTES, "x-amzn-sagemaker-inference-id"):
        if name in headers:
            echoed[name] = headers[name]
    return echoed
