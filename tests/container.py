"""A container as SageMaker lays it out, in a temporary folder."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

from jobs.sagemaker import sagemaker
from tests.commands import status_of
from tests.samples import make_dataset, write_csv

HYPERPARAMETERS = {
    "hidden-size": "3",
    "filters-1": "4",
    "filters-2": "4",
    "filters-3": "4",
    "lr": "0.01",
    "batch-size": "8",
    "epochs": "3",
}


def lay_out(root: Path, hyperparameters: object = HYPERPARAMETERS) -> Path:
    """Lay out a container's folder with channels to train on."""
    config = root / "input" / "config" / "hyperparameters.json"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps(hyperparameters))
    channels = root / "input" / "data"
    write_csv(channels / "training" / "train.csv", make_dataset(20), labelled=True)
    write_csv(channels / "validation" / "valid.csv", make_dataset(10, seed=1), labelled=True)
    return root


def pack(model: Path, channel: Path) -> None:
    """Pack what a training left into a channel, as the platform does."""
    channel.mkdir(parents=True)
    with tarfile.open(channel / "model.tar.gz", "w:gz") as archive:
        archive.add(model, ".")


def call(what: str, root: Path) -> int:
    """Call the container's command, and return its exit status."""
    return status_of(sagemaker, what, "--root", root)
