from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch

from lstmfcn.errors import CheckpointError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.training import Trainer, TrainingData, TrainingPrecision, TrainingSettings
from lstmfcn.training_state import STATE, TrainingState
from tests.samples import TINY, make_dataset

DATA = TrainingData.scaled(make_dataset(30), make_dataset(11, seed=1), "series")


def weights(trainer: Trainer) -> dict[str, list[float]]:
    return {name: tensor.tolist() for name, tensor in trainer.state().weights.items()}


def metrics(trainer: Trainer) -> list[dict[str, float]]:
    return [{name: row[name] for name in row if name != "seconds"} for row in trainer.history]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_that_goes_on_ends_as_one_that_was_not_interrupted(
    precision: TrainingPrecision, tmp_path: Path
) -> None:
    hyperparameters = Hyperparameters(**{**TINY.model_dump(), "epochs": 6, "num_layers": 2})
    whole = Trainer(DATA, hyperparameters, TrainingSettings(precision=precision))
    for _ in range(6):
        whole.step()

    before = Trainer(DATA, hyperparameters, TrainingSettings(precision=precision))
    for _ in range(3):
        before.step()
    before.state().save(tmp_path)
    torch.manual_seed(99)
    after = Trainer(DATA, hyperparameters, TrainingSettings(precision=precision, seed=5))
    state = TrainingState.load(tmp_path)
    assert state is not None
    after.restore(state)
    while not after.is_done:
        after.step()

    assert weights(after) == weights(whole)
    assert metrics(after) == metrics(whole)
    assert after.best_epoch == whole.best_epoch


def test_the_header_of_a_state_grows_by_no_epoch(tmp_path: Path) -> None:
    trainer = Trainer(DATA, TINY, TrainingSettings())
    trainer.step()
    state = trainer.state()
    long = replace(state, history=[*state.history, *({**state.history[0], "seconds": n} for n in range(999))])

    lengths = []
    for one in (state, long):
        one.save(tmp_path)
        lengths.append(int.from_bytes((tmp_path / STATE).read_bytes()[:8], "little"))
    loaded = TrainingState.load(tmp_path)

    assert abs(lengths[1] - lengths[0]) < 1_000
    assert loaded is not None
    assert loaded.history == long.history


def test_where_nothing_was_saved_there_is_no_state(tmp_path: Path) -> None:
    assert TrainingState.load(tmp_path) is None


def test_a_state_that_cannot_be_read_is_not_told_as_none(tmp_path: Path) -> None:
    (tmp_path / STATE).mkdir()

    with pytest.raises(CheckpointError, match=r"state.safetensors is a directory where a file is expected$"):
        TrainingState.load(tmp_path)


def test_another_safetensors_file_is_refused(tmp_path: Path) -> None:
    Trainer(DATA, TINY).state().save(tmp_path)
    path = tmp_path / STATE
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    safetensors.torch.save_file({"weight": torch.zeros(1)}, path, metadata)

    with pytest.raises(CheckpointError, match=r"state.safetensors is damaged"):
        TrainingState.load(tmp_path)


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    Trainer(DATA, TINY).state().save(tmp_path)
    path = tmp_path / STATE
    path.write_bytes(path.read_bytes()[:100])

    with pytest.raises(CheckpointError, match=r"state.safetensors is damaged"):
        TrainingState.load(tmp_path)
