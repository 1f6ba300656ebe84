from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from lstmfcn.checkpoint import Checkpoint
from lstmfcn.training import fit
from tests.samples import TINY, make_dataset

# One thread: with several, tests crawl on a machine whose cores are busy.
torch.set_num_threads(1)

# A busy machine is no failure.
settings.register_profile("lstmfcn", deadline=None, max_examples=50)
settings.load_profile("lstmfcn")

# Read when Ray is imported, and inherited by its processes.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
os.environ.pop("RAY_ADDRESS", None)


@pytest.fixture(scope="session")
def trained() -> Checkpoint:
    """A network that tells the two classes of make_dataset apart."""
    epochs = fit(make_dataset(40), hyperparameters=TINY.model_copy(update={"epochs": 60}))
    return [epoch.checkpoint for epoch in epochs if epoch.checkpoint is not None][-1]


@pytest.fixture(scope="session")
def checkpoint_folder(trained: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    trained.save(folder)
    return folder
