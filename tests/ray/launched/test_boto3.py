"""What boto3 and the SageMaker SDK make of an endpoint, by another `endpoint_url`."""

from __future__ import annotations

import codecs
import csv
import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from botocore import UNSIGNED

from lstmfcn.predictor import Predictor
from tests.ray.replica import boto3_client
from tests.samples import LENGTH, make_dataset

NOT_SIGNED = {"signature_version": UNSIGNED}


@pytest.mark.parametrize(
    ("config", "prefix"),
    [({}, ""), (NOT_SIGNED, ""), ({}, "/behind/a/prefix")],
    ids=["signed", "unsigned", "prefix"],
)
def test_boto3_invokes_it_by_another_endpoint_url(
    config: dict[str, Any], prefix: str, endpoint: httpx.Client, checkpoint_folder: Path
) -> None:
    series = make_dataset(5, seed=3).series
    body = "".join(",".join(map(str, row)) + "\n" for row in series)
    predictor = Predictor.load(checkpoint_folder)

    answer = boto3_client(f"{endpoint.base_url}{prefix}", **config).invoke_endpoint(
        EndpointName="any-name",
        ContentType="text/csv",
        Accept="text/csv",
        Body=body,
        CustomAttributes="columns=label,probabilities",
    )

    cells = predictor.cells(series, ("label", "probabilities"))
    assert answer["Body"].read() == b"".join(line + b"\n" for line in cells)
    assert answer["ContentType"].startswith("text/csv")
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert answer["CustomAttributes"] == "columns=label,probabilities"
    assert answer["ResponseMetadata"]["RequestId"]


def test_the_reference_products_call_with_a_header_and_its_reading_of_the_answer_work_unchanged(
    endpoint: httpx.Client, checkpoint_folder: Path
) -> None:
    series = make_dataset(5, seed=3).series
    dataset = pd.DataFrame(series, columns=[f"x_{step}" for step in range(1, LENGTH + 1)])
    predictor = Predictor.load(checkpoint_folder)

    response = boto3_client(str(endpoint.base_url)).invoke_endpoint(
        EndpointName="any-name", ContentType="text/csv", Body=dataset.to_csv(index=False)
    )
    predictions = pd.read_csv(io.StringIO(response["Body"].read().decode("utf-8")))

    assert list(predictions.columns) == ["y_1", "y_2", "p_1", "p_2"]
    probabilities = predictions[["p_1", "p_2"]].to_numpy(np.float32)
    assert np.array_equal(probabilities, predictor.probabilities(series))
    assert np.array_equal(predictions[["y_1", "y_2"]].to_numpy().argmax(axis=1), predictor.predicted(series))


def test_boto3_raises_the_parsers_sentence_once(endpoint: httpx.Client) -> None:
    client = boto3_client(str(endpoint.base_url))

    with pytest.raises(client.exceptions.ModelError) as refused:
        client.invoke_endpoint(EndpointName="any-name", ContentType="text/csv", Body="1,abc\n")

    answer = refused.value.response
    assert answer["OriginalStatusCode"] == 400
    assert answer["OriginalMessage"] == f"body: row 1 has 2 columns where {LENGTH} are expected"
    assert answer["ResponseMetadata"]["RetryAttempts"] == 0


@pytest.mark.parametrize(
    ("changed", "status", "sentence"),
    [
        (
            {"ContentType": "application/json"},
            415,
            "Content-Type is application/json; this endpoint takes text/csv",
        ),
        ({"Accept": "application/json"}, 406, "Accept is application/json; this endpoint answers text/csv"),
        (
            {"Body": b"0" * (6 * 1024 * 1024 + 1)},
            413,
            "the body has more than 6291456 bytes; use jobs.transform",
        ),
    ],
)
def test_boto3_raises_validation_errors(
    changed: dict[str, Any], status: int, sentence: str, endpoint: httpx.Client
) -> None:
    client = boto3_client(str(endpoint.base_url), **NOT_SIGNED)
    request = {"EndpointName": "any-name", "ContentType": "text/csv", "Body": b"1,2\n", **changed}

    with pytest.raises(client.exceptions.ValidationError) as refused:
        client.invoke_endpoint(**request)

    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert refused.value.response["ResponseMetadata"]["RetryAttempts"] == 0
    assert refused.value.response["Error"]["Message"] == sentence


@pytest.mark.parametrize("end", ["", "\n"])
def test_the_sdks_serializer_and_deserializer_are_understood(
    end: str, endpoint: httpx.Client, checkpoint_folder: Path
) -> None:
    """What sagemaker 2.257.7's Predictor sends by boto3 with CSVSerializer, of an array without a last line
    end and of a DataFrame with one, and how its CSVDeserializer reads the answer.
    """
    series = make_dataset(4, seed=3).series
    rows = io.StringIO()
    csv.writer(rows, lineterminator="\n").writerows(series)

    answer = boto3_client(str(endpoint.base_url)).invoke_endpoint(
        EndpointName="any-name",
        ContentType="text/csv",
        Accept="text/csv",
        Body=rows.getvalue().removesuffix("\n") + end,
    )

    read = list(csv.reader(codecs.getreader("utf-8")(answer["Body"])))
    assert read == [[label] for label in Predictor.load(checkpoint_folder).labels(series)]
