"""SageMaker's contract with a container: `python -m jobs.sagemaker train` and `serve`."""

from __future__ import annotations

import json
import os
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal, NoReturn

from cyclopts import Parameter

from jobs.train import train
from lstmfcn import storage
from lstmfcn.checkpoint import CHECKPOINT
from lstmfcn.command import Port, outcome, run
from lstmfcn.errors import DataError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.start import CHOSEN
from lstmfcn.training_run import RECORD

_MAX_PAYLOAD = "SAGEMAKER_MAX_PAYLOAD_IN_MB"
_MOST_MEGABYTES = 100
"""The most that the platform lets a batch job choose."""
_OF_THE_PLATFORM = ("_", "sagemaker_")
"""Beginnings of the names of hyperparameters that a tuner or the SDK adds."""


def sagemaker(
    what: Literal["train", "serve"],
    /,
    *,
    root: Path = Path("/opt/ml"),
    host: str = "0.0.0.0",  # noqa: S104 (the platform calls from outside the container)
    port: Annotated[Port, Parameter(env_var="SAGEMAKER_BIND_TO_PORT")] = 8080,
) -> None:
    """Train or serve in a container, as SageMaker starts it.

    train reads input/config/hyperparameters.json, whose names are the flags of jobs.train, and the channels
    training, validation and model (a checkpoint to start from) below input/data. It writes model/, and
    output/failure when it can't. Where there is a folder checkpoints, it goes on from what that holds.

    serve answers /ping and /invocations with the checkpoint in model/.

    ```
    python -m jobs.sagemaker train --root /opt/ml
    ```

    Args:
        what: What the platform starts the container for.
        root: Folder of the platform's layout.
        host: Address to listen on.
        port: Port to listen on.
    """
    if what == "serve":
        _serve(root / "model", host, port)
    try:
        status, sentence = _train(root)
    except Exception as error:
        _tell(root, f"{type(error).__name__}: {error}")
        raise
    if status:
        _tell(root, sentence)
        print(sentence, file=sys.stderr)
        sys.exit(status)


def _serve(checkpoint: Path, host: str, port: int) -> NoReturn:
    from serve_app.__main__ import serve_checkpoint  # noqa: PLC0415 (Ray Serve, which training doesn't need)

    run(serve_checkpoint, "python -m serve_app", _flags_to_serve(checkpoint, host, port))


def _flags_to_serve(checkpoint: Path, host: str, port: int) -> list[str]:
    flags = ["--checkpoint", str(checkpoint), "--host", host, "--port", str(port)]
    if (megabytes := os.environ.get(_MAX_PAYLOAD, "")).isdecimal():  # of a batch job, for which 0 is no limit
        flags += ["--max-body-bytes", str((int(megabytes) or _MOST_MEGABYTES) << 20)]
    return flags


def _tell(root: Path, sentence: str) -> None:
    """Write the sentence that the platform shows as the reason of the failure."""
    storage.write_bytes(root / "output" / "failure", sentence.encode())


def _train(root: Path) -> tuple[int, str]:
    """Train as the platform's files say; return the exit status and, if not 0, a sentence."""
    storage.remove(root / "output", "failure")  # left by an earlier try
    model, kept, channels = root / "model", root / "checkpoints", root / "input" / "data"
    output = kept if kept.is_dir() else model
    try:
        with ExitStack() as stack:
            start = _checkpoint(channels / "model", stack)
            flags = _flags(root / "input" / "config" / "hyperparameters.json", starts=start is not None)
            flags += ["--training", str(channels / "training"), "--output", str(output)]
            if (channels / "validation").is_dir():
                flags += ["--validation", str(channels / "validation")]
            if start is not None:
                flags += ["--checkpoint", str(start)]
            # The platform starts an interrupted job again, with the folder that it kept.
            goes_on = output is kept and (kept / RECORD).is_file()
            flags.append("--resume" if goes_on else "--overwrite")
            ended = outcome(train, "python -m jobs.train", flags)
    except DataError as error:
        return 2, str(error)
    if output is kept and (kept / CHECKPOINT).is_file():
        shutil.copytree(kept, model, dirs_exist_ok=True)
    return ended


def _checkpoint(channel: Path, stack: ExitStack) -> Path | None:
    """Return the folder of the checkpoint to start from: the channel, or what an archive there holds."""
    if not channel.is_dir():
        return None
    archive = channel / "model.tar.gz"
    return stack.enter_context(storage.unpacked(archive)) if archive.is_file() else channel


def _flags(path: Path, *, starts: bool) -> list[str]:
    """Return flags of jobs.train from hyperparameters.json, which maps names to text. As in the reference
    product, a training that starts from a checkpoint ignores hyperparameters but lr, batch-size and epochs.
    """
    content = storage.read_bytes(path)
    try:
        values = json.loads(content)
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}") from None
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise DataError(f'{path} must map names to text, as in {{"batch-size": "64"}}')
    flags = []
    for given, value in values.items():
        name = given.replace("-", "_")
        if name.startswith(_OF_THE_PLATFORM):
            continue
        if starts and name in Hyperparameters.model_fields and name not in CHOSEN:
            print(f"{given} {value} is not used: the checkpoint in the channel model has its own", flush=True)
            continue
        flags.append(f"--{name.replace('_', '-')}={value}")
    return flags


if __name__ == "__main__":
    run(sagemaker, "python -m jobs.sagemaker")
