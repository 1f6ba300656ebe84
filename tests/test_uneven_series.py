"""Series with missing values and of unequal lengths, from training to prediction."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jobs.evaluate import evaluate
from jobs.train import train
from jobs.tune import tune
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.predictor import Predictor
from tests.samples import LENGTH, make_dataset, write_csv, write_uneven_csv
from tests.test_jobs import SMALL, refused, status_of

TREATED = ("--missing", "interpolate", "--length", "pad")


@pytest.mark.parametrize("length", ["pad", "resample"])
def test_what_a_network_was_trained_to_take_every_job_takes_without_a_flag(
    length: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = write_uneven_csv(tmp_path / "train.csv", make_dataset(40), labelled=True)
    flags = ("--training", training, "--validation", training, "--epochs", 60, "--lr", 0.01, *SMALL)

    treated = ("--missing", "interpolate", "--length", length)
    assert status_of(train, *flags, *treated, "--output", tmp_path / "model") == 0

    assert f"(task multiclass, without a header, missing values interpolate, lengths {length})" in (
        capsys.readouterr().out
    )
    loaded = Checkpoint.load(tmp_path / "model")
    assert (loaded.length, loaded.treatment.missing, loaded.treatment.length) == (
        LENGTH,
        "interpolate",
        length,
    )
    assert status_of(evaluate, "--checkpoint", tmp_path / "model", "--data", training, "--json") == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == pytest.approx(loaded.metrics["valid_accuracy"])
    rows = write_uneven_csv(tmp_path / "rows.csv", make_dataset(40), labelled=False).read_bytes()
    assert Predictor(loaded).predict_csv(rows, source="rows").count(b"\n") == 40


@pytest.mark.parametrize("job", [train, tune])
def test_without_the_settings_they_are_refused(
    job: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = write_uneven_csv(tmp_path / "train.csv", make_dataset(40), labelled=True)
    output = tmp_path / "output"

    told = refused(capsys, output, job, "--training", training, "--length", "pad")
    assert "is missing, and values follow; a network that was trained with --missing interpolate" in told
    told = refused(capsys, output, job, "--training", training, "--missing", "interpolate")
    assert "columns where row 1 has" in told


@pytest.mark.parametrize("job", [train, tune])
def test_training_that_starts_from_a_checkpoint_has_its_treatment(
    job: Callable[..., None], trained: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained.save(tmp_path / "start")
    training = write_uneven_csv(tmp_path / "train.csv", make_dataset(40), labelled=True)
    flags = ("--training", training, "--checkpoint", tmp_path / "start")

    told = refused(capsys, tmp_path / "output", job, *flags, "--length", "pad")
    assert told == "length is equal in the checkpoint that training starts from, got pad\n"
    told = refused(capsys, tmp_path / "output", job, *flags, "--missing", "interpolate")
    assert told == "missing is refuse in the checkpoint that training starts from, got interpolate\n"


def test_a_training_goes_on_with_the_same_treatment_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = write_uneven_csv(tmp_path / "train.csv", make_dataset(40), labelled=True)
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
