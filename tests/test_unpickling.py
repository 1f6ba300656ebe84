"""Nothing that a user brings is unpickled: each kind of file, with a pickle in it that makes a folder."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lstmfcn.checkpoint import CHECKPOINT, Checkpoint
from lstmfcn.dataset import read_training
from lstmfcn.errors import CheckpointError, DataError, HyperparameterError
from lstmfcn.search_space import SearchSpace
from lstmfcn.training_state import STATE, TrainingState


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._folder),)


def pickled(trap: Trap) -> bytes:
    return pickle.dumps({"weight": trap})


def as_pytorch_saves(trap: Trap) -> bytes:
    content = io.BytesIO()
    torch.save({"weight": trap}, content)
    return content.getvalue()


@pytest.fixture
def sprung(tmp_path: Path) -> Path:
    return tmp_path / "sprung"


@pytest.fixture(params=[pickled, as_pytorch_saves])
def content(request: pytest.FixtureRequest, sprung: Path) -> bytes:
    make: Callable[[Trap], bytes] = request.param
    return make(Trap(sprung))


def test_the_trap_works(sprung: Path) -> None:
    pickle.loads(pickled(Trap(sprung)))  # noqa: S301 (to see that it would be noticed)

    assert sprung.exists()


def test_weights_of_a_checkpoint(trained: Checkpoint, content: bytes, sprung: Path, tmp_path: Path) -> None:
    trained.save(tmp_path / "model")
    path = tmp_path / "model" / CHECKPOINT
    document = json.loads(path.read_bytes())
    document["sha256"] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(document))
    (tmp_path / "model" / document["weights"]).write_bytes(content)

    with pytest.raises(CheckpointError, match="is not a safetensors file"):
        Checkpoint.load(tmp_path / "model")

    assert not sprung.exists()


def test_the_state_of_a_training(content: bytes, sprung: Path, tmp_path: Path) -> None:
    (tmp_path / STATE).write_bytes(content)

    with pytest.raises(CheckpointError, match="is damaged"):
        TrainingState.load(tmp_path)

    assert not sprung.exists()


def test_data(content: bytes, sprung: Path, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(content)

    with pytest.raises(DataError):
        read_training(tmp_path / "train.csv")

    assert not sprung.exists()


def test_a_search_space(sprung: Path, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(f"lr: !!python/object/apply:os.mkdir [{sprung}]\n")

    with pytest.raises(HyperparameterError, match="hyperparameter lr must be a number"):
        SearchSpace.read(tmp_path / "space.yaml")

    assert not sprung.exists()
