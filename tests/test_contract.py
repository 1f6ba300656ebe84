from __future__ import annotations

import json

import pytest
from starlette.datastructures import Headers

from lstmfcn.prediction_format import PredictionColumn
from serve_app import contract
from serve_app.contract import RequestError, Route

INVOKE = Route("invoke")
PLATFORM = Route("invoke", is_platform=True)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/ping", Route("ping")),
        ("/", Route("model")),
        ("/model", Route("model")),
        ("/invocations", INVOKE),
        ("/execution-parameters", Route("execution-parameters")),
        ("/endpoints/gun-point-2/invocations", PLATFORM),
        ("/endpoints/my__model--2/invocations", PLATFORM),
        ("/behind/a/prefix/endpoints/x/invocations", PLATFORM),
    ],
)
def test_paths_of_the_container_and_of_boto3_are_known(path: str, expected: Route) -> None:
    assert contract.route(path) == expected


@pytest.mark.parametrize(
    "path", ["/pings", "/invocations/", "/endpoints//invocations", "/endpoints/invocations"]
)
def test_another_path_is_answered_with_those_that_there_are(path: str) -> None:
    with pytest.raises(RequestError) as refused:
        contract.route(path)

    assert (refused.value.status, refused.value.sentence) == (
        404,
        f"there is no '{path}'; there are GET /ping, GET /model, POST /invocations and"
        " POST /endpoints/<name>/invocations",
    )


def test_a_path_is_repeated_without_what_would_break_the_line() -> None:
    with pytest.raises(RequestError) as refused:
        contract.route("/a\r\nb")

    assert refused.value.sentence.startswith(r"there is no '/a\r\nb'; there are")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_read_may_be_asked_for_without_its_body(method: str) -> None:
    contract.check(method, Route("ping"), Headers({}), most_bytes=100)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/csv"},
        {"Content-Type": "text/csv; charset=ISO-8859-1"},
        {"Content-Type": "Text/CSV; charset=utf-8; header=absent"},
        {"Accept": "*/*"},
        {"Accept": "application/json, text/csv;q=0.5"},
        {"Accept": "text/*"},
        {"Accept": "text/csv, */*;q=0"},
        {"Accept": ""},
        {"Content-Encoding": "identity"},
        {"Content-Encoding": ""},
        {"Content-Length": "100"},
    ],
)
def test_csv_in_and_out_is_accepted_however_it_is_said(headers: dict[str, str]) -> None:
    contract.check("POST", INVOKE, Headers(headers), most_bytes=100)


@pytest.mark.parametrize(
    ("method", "headers", "status", "sentence"),
    [
        ("GET", {}, 405, "the path takes POST, not GET"),
        ("HEAD", {}, 405, "the path takes POST, not HEAD"),
        (
            "POST",
            {"Content-Type": "application/json"},
            415,
            "Content-Type is application/json; this endpoint takes text/csv",
        ),
        (
            "POST",
            {"Content-Type": "application/x-www-form-urlencoded"},
            415,
            "Content-Type is application/x-www-form-urlencoded; this endpoint takes text/csv"
            " (curl -H 'Content-Type: text/csv')",
        ),
        (
            "POST",
            {"Content-Type": 'text/csv; charset="UTF-16"'},
            415,
            'Content-Type says charset="utf-16"; this endpoint takes UTF-8',
        ),
        (
            "POST",
            {"Content-Encoding": "gzip"},
            415,
            "Content-Encoding is gzip; this endpoint takes plain text/csv",
        ),
        (
            "POST",
            {"Accept": "application/json"},
            406,
            "Accept is application/json; this endpoint answers text/csv",
        ),
        ("POST", {"Accept": "text/csv;q=0"}, 406, "Accept is text/csv;q=0; this endpoint answers text/csv"),
        (
            "POST",
            {"Accept": "*/*, text/csv;q=0"},
            406,
            "Accept is */*, text/csv;q=0; this endpoint answers text/csv",
        ),
        ("POST", {"Content-Length": "101"}, 413, "the body has more than 100 bytes; use jobs.transform"),
    ],
)
def test_what_will_not_do_is_refused(
    method: str, headers: dict[str, str], status: int, sentence: str
) -> None:
    with pytest.raises(RequestError) as refused:
        contract.check(method, INVOKE, Headers(headers), most_bytes=100)

    assert (refused.value.status, refused.value.sentence) == (status, sentence)


@pytest.mark.parametrize(
    ("query", "attributes", "expected"),
    [
        ("", None, None),
        ("", "trace=1", None),
        ("columns=probabilities", None, ("probabilities",)),
        ("", "trace=1; columns=label,probabilities", ("label", "probabilities")),
        ("columns=label", "columns=probabilities", ("label",)),
    ],
)
def test_a_request_may_ask_for_columns(
    query: str, attributes: str | None, expected: tuple[PredictionColumn, ...] | None
) -> None:
    headers = Headers({} if attributes is None else {contract.CUSTOM_ATTRIBUTES: attributes})

    assert contract.asked_columns(query.encode(), headers) == expected


def test_unknown_columns_are_refused() -> None:
    with pytest.raises(RequestError) as refused:
        contract.asked_columns(b"columns=all", Headers({}))

    assert refused.value.sentence == "columns is 'all'; it can be label, probabilities or label,probabilities"


def test_on_the_containers_path_an_error_is_a_sentence() -> None:
    response = contract.refusal(RequestError(400, "body is empty"), INVOKE, Headers({}), "id")

    assert (response.status_code, response.body) == (400, b"body is empty\n")


@pytest.mark.parametrize(
    ("error", "status", "kind", "body"),
    [
        (RequestError(413, "too large"), 413, "ValidationError", {"Message": "too large"}),
        (RequestError(401, "a key"), 403, "AccessDeniedException", {"Message": "a key"}),
        (contract.overloaded("busy", "requests"), 503, "ServiceUnavailable", {"Message": "busy"}),
        (RequestError(504, "late"), 504, "InternalFailure", {"Message": "late"}),
        (
            RequestError(400, "body is empty"),
            424,
            "ModelError",
            {
                "Message": 'Received client error (400) from primary with message "body is empty".',
                "OriginalStatusCode": 400,
                "OriginalMessage": "body is empty",
                "LogStreamArn": "",
            },
        ),
    ],
)
def test_on_boto3s_path_an_error_has_the_platforms_form(
    error: RequestError, status: int, kind: str, body: dict[str, object]
) -> None:
    response = contract.refusal(error, PLATFORM, Headers({}), "id")

    assert (response.status_code, response.headers["x-amzn-errortype"]) == (status, kind)
    assert json.loads(bytes(response.body)) == body


def test_what_the_platform_echoes_is_echoed() -> None:
    sent = {
        "X-Amzn-SageMaker-Custom-Attributes": "trace=1",
        "X-Amzn-SageMaker-Inference-Id": "i-1",
        "X-Amzn-SageMaker-Target-Variant": "Second",
    }

    headers = contract.predictions(b"1\n", PLATFORM, Headers(sent), "id").headers

    assert headers["x-amzn-sagemaker-custom-attributes"] == "trace=1"
    assert headers["x-amzn-sagemaker-inference-id"] == "i-1"
    assert headers["x-amzn-invoked-production-variant"] == "Second"
    assert headers["x-amzn-requestid"] == "id"
    assert headers["content-type"] == "text/csv; charset=utf-8"


@pytest.mark.parametrize(
    ("most_bytes", "at_once", "megabytes"),
    [(1000, 4, 1), (6 << 20, 4, 6), (30 << 20, 3, 30), (60 << 20, 1, 60), (1 << 30, 1, 100)],
)
def test_a_batch_job_is_told_what_the_platform_lets_it_send(
    most_bytes: int, at_once: int, megabytes: int
) -> None:
    assert contract.execution_parameters(most_bytes, 4) == {
        "MaxConcurrentTransforms": at_once,
        "MaxPayloadInMB": megabytes,
    }


@pytest.mark.parametrize(
    ("method", "path", "allowed"), [("GET", "/invocations", "POST"), ("PUT", "/ping", "GET")]
)
def test_another_method_is_told_which_one_is_allowed(method: str, path: str, allowed: str) -> None:
    with pytest.raises(RequestError) as refused:
        contract.check(method, contract.route(path), Headers({}), most_bytes=100)

    assert (refused.value.status, refused.value.headers) == (405, {"Allow": allowed})
