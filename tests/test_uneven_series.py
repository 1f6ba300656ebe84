"""Series with missing values and of unequal lengths, from training to prediction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jobs.train import train
from jobs.tune import tune
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.predictor import Predictor
from tests.commands import SMALL, refused, status_of
from tests.samples import make_dataset, write_csv, write_gappy_csv

TREATED = ("--missing", "interpolate", "--length", "pad")


@pytest.mark.parametrize("job", [train, tune])
def test_without_the_settings_they_are_refused(
    job: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = write_gappy_csv(tmp_path / "train.csv", make_dataset(40), labelled=True)
    output = tmp_path / "output"

    told = refused(capsys, output, job, "--training", training, "--length", "pad")
    assert "is missing, and values follow; --missing interpolate, in training, fills that" in told
    told = refused(capsys, output, job, "--training", training, "--missing", "interpolate")
    assert "columns where row 1 has" in told


def test_a_training_goes_on_with_the_same_treatment_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = write_gappy_csv(tmp_path / "train.csv", make_dataset(40), labelled=True)
    flags = ("--training", training, "--output", tmp_path / "model", "--missing", "interpolate", *SMALL)
    assert status_of(train, *flags, "--length", "pad", "--epochs", 1) == 0

    assert status_of(train, *flags, "--length", "resample", "--epochs", 2, "--resume") == 2
    assert "length" in capsys.readouterr().err
    assert status_of(train, *flags, "--length", "pad", "--epochs", 2, "--resume") == 0


def test_sound_series_lead_to_the_same_network_whatever_would_be_done_to_others(tmp_path: Path) -> None:
    dataset = make_dataset(20)
    training = write_csv(tmp_path / "train.csv", dataset, labelled=True)
    flags = ("--training", training, "--epochs", 2, *SMALL)
    assert status_of(train, *flags, "--output", tmp_path / "plain") == 0
    assert status_of(train, *flags, *TREATED, "--output", tmp_path / "treated") == 0

    plain, treated = (Checkpoint.load(tmp_path / name) for name in ("plain", "treated"))

    assert all(plain.weights[name].equal(treated.weights[name]) for name in plain.weights)
    assert np.array_equal(
        Predictor(plain).probabilities(dataset.series), Predictor(treated).probabilities(dataset.series)
    )
