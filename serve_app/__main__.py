"""Serve a checkpoint on this machine: `python -m serve_app --help`."""

from __future__ import annotations

import sys

from lstmfcn.errors import ResourceError
from serve_app import ingress

try:
    ingress.set_variables()  # before Ray Serve is imported
except ResourceError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
# isort: split
import os
import signal
from functools import partial
from typing import Annotated

from cyclopts import Parameter, validators
from ray import serve

from lstmfcn import actors
from lstmfcn.capacity import refuse_unsatisfiable, telling_of_a_wait
from lstmfcn.cluster import connection, joins_another
from lstmfcn.command import Count, Port, WholeNumber, run
from lstmfcn.ensemble import load_checkpoint
from lstmfcn.storage import location
from serve_app.access import ApiKeys
from serve_app.app import application
from serve_app.settings import Settings

HeaderSeconds = Annotated[Count, Parameter(env_var=ingress.HEADER_SECONDS)]
# Ray limits HAProxy to 4096 connections, of all kinds together.
Connections = Annotated[
    WholeNumber, Parameter(validator=validators.Number(gte=1, lte=4000), env_var=ingress.CONNECTIONS)
]
LargeAtOnce = Annotated[Count, Parameter(env_var=ingress.LARGE_AT_ONCE)]


def serve_checkpoint(
    *,
    settings: Annotated[Settings, Parameter(name="*")],
    host: str = "127.0.0.1",
    port: Port = 8080,
    header_seconds: HeaderSeconds = ingress.LIMITS[ingress.HEADER_SECONDS],
    max_connections: Connections = ingress.LIMITS[ingress.CONNECTIONS],
    max_large_at_once: LargeAtOnce = ingress.LIMITS[ingress.LARGE_AT_ONCE],
) -> None:
    """Serve a checkpoint over HTTP on this machine until Ctrl-C.

    GET /ping answers 200; POST /invocations takes CSV of series without labels and answers one line for each
    row; POST /endpoints/{any-name}/invocations is what boto3 calls; GET /model says what is served.

    ```
    python -m serve_app --checkpoint sweep/best
    ```

    Args:
        settings: Settings of the endpoint.
        host: Address to listen on: 127.0.0.1, which is reached from this machine only, or 0.0.0.0, all
            addresses of IPv4; without HAProxy any other too.
        port: Port to listen on.
        header_seconds: Seconds within which a request's headers must arrive; also how long (5 at least) a
            client may pause in reading its answer, or stay after a refusal. Linux only.
        max_connections: Most open connections, at most 4000; requests on further ones are refused at once.
            Linux only.
        max_large_at_once: Most requests with bodies of more than 16 KB that a replica has at a time; others
            wait for their turn. Linux only.
    """
    os.environ[ingress.HEADER_SECONDS] = str(header_seconds)
    os.environ[ingress.CONNECTIONS] = str(max_connections)
    os.environ[ingress.LARGE_AT_ONCE] = str(max_large_at_once)
    os.environ[ingress.WAIT_SECONDS] = str(settings.max_wait_seconds)
    keys = ApiKeys.read(settings.api_keys)
    checkpoint = load_checkpoint(location(settings.checkpoint))
    app = application(settings, keys, checkpoint)
    is_guest = joins_another()
    address = ingress.usable_address(host, port, is_guest=is_guest)
    if not is_guest:
        ingress.refuse_too_many(settings.max_replicas or settings.replicas)
    with connection():
        status = serve.status()
        if status.proxies or status.applications:
            raise ResourceError(
                "Ray Serve already runs on this Ray; deploy with `serve deploy` and serve_app/config.yaml,"
                " or give this one a Ray of its own by RAY_ADDRESS=local"
            )
        size = settings.cpus_per_replica, settings.gpus_per_replica
        refuse_unsatisfiable("a replica", *size, settings.replicas)
        try:
            serve.start(http_options={"host": address, "port": port})
            have_begun = partial(actors.have_begun, "ServeReplica", settings.replicas)
            with telling_of_a_wait("a replica", *size, have_begun):
                serve.run(app, name="lstmfcn")
            url = f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
            print(_greeting(settings.checkpoint, url, checkpoint.num_values, with_key=len(keys) > 0))
            if not is_guest and (ports := ingress.open_ports()):
                print(ports)
            sys.stdout.flush()
            signal.pause()
        except KeyboardInterrupt:
            print("stopping", flush=True)
        finally:
            serve.delete("lstmfcn")
            if is_guest and not serve.status().applications:  # else its controller and HAProxy would stay
                serve.shutdown()  # type: ignore[no-untyped-call]


def _greeting(path: str, url: str, num_values: int, *, with_key: bool) -> str:
    key = "-H 'X-Api-Key: <key>' " if with_key else ""
    row = f"seq -s, {num_values} | sed 's/,$//'"  # macOS ends the row with a comma
    lines = [
        f"serving {path} on {url}; Ctrl-C ends it",
        f"try: {row} | curl --data-binary @- -H 'Content-Type: text/csv' {key}{url}/invocations",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    run(serve_checkpoint, "python -m serve_app")
