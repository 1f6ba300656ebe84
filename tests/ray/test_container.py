"""A container of the platform from training to answers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import boto3
import httpx
from botocore import UNSIGNED
from botocore.config import Config

from lstmfcn.predictor import Predictor
from tests.container import call, lay_out, pack
from tests.samples import make_dataset, write_csv
from tests.servers import free_port, haproxy_ports, pings, started


def test_a_container_trains_and_another_one_serves_what_it_left(tmp_path: Path) -> None:
    trained, serving = lay_out(tmp_path / "trained"), tmp_path / "serving"
    assert call("train", trained) == 0
    pack(trained / "model", serving / "model")
    unpack = ["tar", "xzf", "model.tar.gz"]
    subprocess.run(unpack, cwd=serving / "model", check=True)  # as the platform does
    body = write_csv(tmp_path / "data.csv", make_dataset(5, seed=2), labelled=False).read_bytes()
    url = f"http://127.0.0.1:{free_port()}"
    ports = {"SAGEMAKER_BIND_TO_PORT": url.rpartition(":")[2], **haproxy_ports()}
    command = [sys.executable, "-m", "jobs.sagemaker", "serve", "--root", str(serving), "--host", "127.0.0.1"]

    with started(command, {**os.environ, **ports}) as process:
        *_, ping = pings(process, url)
        answer = httpx.post(f"{url}/invocations", content=body, headers={"Content-Type": "text/csv"})
        client = boto3.client(
            "sagemaker-runtime",
            endpoint_url=url,
            region_name="us-east-1",
            config=Config(signature_version=UNSIGNED),
        )
        by_name = client.invoke_endpoint(EndpointName="any", ContentType="text/csv", Body=body)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0  # then the platform kills

    assert ping.content == b""
    expected = Predictor.load(trained / "model").predict_csv(body, source="body")
    assert answer.content == by_name["Body"].read() == expected
