from __future__ import annotations

from pathlib import Path

import pytest

from tests.samples import make_dataset, write_csv


@pytest.fixture
def train_csv(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "train.csv", make_dataset(20), labelled=True)


@pytest.fixture
def valid_csv(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "valid.csv", make_dataset(10, seed=1), labelled=True)
