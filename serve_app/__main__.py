"""Serve a checkpoint on this machine: `python -m serve_app --help`."""

from __future__ import annotations

import signal
import socket
from typing import Annotated

from cyclopts import Parameter, validators
from ray import serve

from lstmfcn.cluster import connection, refuse_unsatisfiable
from lstmfcn.command import LocationFlag, NotNegative, run
from lstmfcn.devices import Precision
from lstmfcn.errors import ResourceError
from serve_app.app import build_app
from serve_app.settings import Settings

Port = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=65535))]


def serve_checkpoint(
    *,
    checkpoint: LocationFlag,
    host: str = "127.0.0.1",
    port: Port = 8080,
    gpus_per_replica: NotNegative = 0,
    precision: Precision = "fp32",
) -> None:
    """Serve a checkpoint over HTTP on this machine until Ctrl-C.

    GET /ping answers 200; POST /invocations takes CSV of series without labels and answers
    one predicted label for each row.

    ```
    python -m serve_app --checkpoint sweep/best
    ```

    Args:
        checkpoint: Folder written by jobs.train, or the best/ folder of jobs.tune.
        host: Address to listen on. The default is reached from this machine only.
        port: Port to listen on.
        gpus_per_replica: GPUs for the predictor; a fraction shares one.
        precision: What the convolutions compute in: fp32; bf16; fp16 (on GPUs); auto, which is bf16 where the
            hardware computes in it, else fp32.
    """
    app = build_app(
        Settings(checkpoint=str(checkpoint), gpus_per_replica=gpus_per_replica, precision=precision)
    )
    _refuse_taken(host, port)
    with connection():
        refuse_unsatisfiable("a replica", 1, gpus_per_replica)
        try:
            serve.start(
                http_options={"host": host, "port": port}, logging_config={"enable_access_log": False}
            )
            serve.run(app, name="lstmfcn")
            url = f"http://{host}:{port}"
            curl = "curl --data-binary @series.csv -H 'Content-Type: text/csv'"
            print(f"serving {checkpoint} on {url}; Ctrl-C ends it", flush=True)
            print(f"try: {curl} {url}/invocations", flush=True)
            signal.pause()
        except KeyboardInterrupt:
            print("stopping", flush=True)
        finally:
            serve.delete("lstmfcn")


def _refuse_taken(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ResourceError(f"can't listen on {host} port {port}: {error.strerror}") from None


if __name__ == "__main__":
    run(serve_checkpoint, "python -m serve_app")
