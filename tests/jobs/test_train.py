"""Training as a user runs it, and what tune refuses as it does."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.evaluate import evaluate
from jobs.explain import explain
from jobs.train import train
from jobs.tune import tune
from lstmfcn import storage
from lstmfcn.calibration import calibrated
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.object_storage import ObjectPath
from lstmfcn.plan import TrainingPlan
from lstmfcn.storage import Location
from lstmfcn.training import Epoch, Trainer
from tests.commands import SMALL, refused, refused_call, status_of
from tests.samples import (
    BROKEN_FOR_ANY_JOB,
    LENGTH,
    broken_input,
    make_beats,
    make_dataset,
    make_labels,
    write_csv,
    write_gappy_csv,
    write_named_csv,
)


@pytest.mark.usefixtures("composed")
def test_train_writes_checkpoint_metrics_and_picture(
    train_csv: Path, valid_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model"

    flags = ("--training", train_csv, "--validation", valid_csv, "--output", output, "--epochs", 3, *SMALL)
    assert status_of(train, *flags) == 0

    checkpoint = Checkpoint.load(output)
    assert {path.name for path in output.iterdir()} == {
        "checkpoint.json",
        "learning-curve.png",
        "metrics.csv",
        "state.safetensors",
        "training.json",
        next(output.glob("weights-*")).name,
    }
    assert (checkpoint.classes.names, checkpoint.length) == (("down", "up"), LENGTH)
    rows = list(csv.DictReader((output / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[checkpoint.epoch - 1]["valid_loss"]) == checkpoint.metrics["valid_loss"]
    log = capsys.readouterr().out
    for name in ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy"):
        logged = re.findall(rf"{name}: ([0-9\.]+)", log)  # as a SageMaker metric definition reads it
        assert logged == [f"{float(row[name]):.8f}" for row in rows]
        closing = re.findall(rf"{name.replace('_', ':').replace('accuracy', 'acc')} ([0-9\.]+)", log)
        assert closing == [logged[checkpoint.epoch - 1]]
    assert f"best epoch: {checkpoint.epoch} of 3, checkpoint in {output}" in log


def test_what_is_asked_of_a_training_is_how_it_is_trained(train_csv: Path, tmp_path: Path) -> None:
    flags = {"recipe": "paper", "class_weight": "balanced", "seed": "3", "scaling": "training-set"}
    given = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
    output = tmp_path / "model"

    assert status_of(train, "--training", train_csv, "--output", output, "--epochs", 1, *SMALL, *given) == 0

    record = json.loads((output / "training.json").read_text())
    assert {name: str(record[name]) for name in flags} == flags
    assert Checkpoint.load(output).scaling.method == "training-set"


def test_patience_ends_a_training(train_csv: Path, tmp_path: Path) -> None:
    flags = ("--training", train_csv, "--output", tmp_path / "model", *SMALL, "--lr", 1e-9, "--epochs", 50)

    assert status_of(train, *flags, "--patience", 2) == 0

    rows = (tmp_path / "model" / "metrics.csv").read_text().splitlines()[1:]
    assert len(rows) == Checkpoint.load(tmp_path / "model").epoch + 2 < 50


@pytest.mark.parametrize("job", [train, tune])
def test_results_within_the_data_are_refused(
    job: Callable[..., None], train_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train_csv.parent

    assert "all of whose CSV files are data" in refused_call(capsys, folder / "model", job, training=folder)


def test_a_training_that_is_killed_before_it_has_a_state_does_not_go_on_from_that_of_the_one_it_replaces(
    train_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--training", train_csv, "--epochs", 3, *SMALL)
    assert status_of(train, *flags, "--output", tmp_path / "whole", "--seed", 1) == 0
    assert status_of(train, *flags, "--output", tmp_path / "model") == 0
    commit = storage.PendingFile.commit

    def commit_unless_killed(file: storage.PendingFile, path: Location) -> None:
        if path.name.startswith("weights-"):
            raise Killed
        commit(file, path)

    with monkeypatch.context() as m:
        m.setattr(storage.PendingFile, "commit", commit_unless_killed)
        with pytest.raises(Killed):
            status_of(train, *flags, "--output", tmp_path / "model", "--seed", 1, "--overwrite")

    assert status_of(train, *flags, "--output", tmp_path / "model", "--seed", 1, "--resume") == 0

    whole, resumed = (Checkpoint.load(tmp_path / name) for name in ("whole", "model"))
    assert resumed.digest() == whole.digest()


def test_train_resumes_with_more_epochs(train_csv: Path, tmp_path: Path) -> None:
    flags = ("--training", train_csv, "--output", tmp_path / "model", *SMALL)
    assert status_of(train, *flags, "--epochs", 2) == 0

    assert status_of(train, *flags, "--epochs", 3, "--resume") == 0

    assert len((tmp_path / "model" / "metrics.csv").read_text().splitlines()) == 1 + 3
    assert Checkpoint.load(tmp_path / "model").hyperparameters.epochs == 3


def test_train_starts_from_a_checkpoint_and_adds_its_new_classes(
    train_csv: Path, checkpoint_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_csv.write_text(train_csv.read_text() + "flat," + ",".join(["1"] * LENGTH) + "\n")
    output = tmp_path / "model"
    flags = ("--training", train_csv, "--checkpoint", checkpoint_folder, "--epochs", 1)

    assert "--new-classes adds it" in refused(capsys, output, train, *flags)
    assert "hidden_size is 3" in refused(capsys, output, train, *flags, "--new-classes", "--hidden-size", 4)
    assert "scaling is series" in refused(
        capsys, output, train, *flags, "--new-classes", "--scaling=training-set"
    )
    assert status_of(train, *flags, "--new-classes", "--output", output) == 0

    checkpoint = Checkpoint.load(output)
    assert checkpoint.classes.names == ("down", "flat", "up")
    assert checkpoint.hyperparameters.hidden_size == 3


@pytest.mark.parametrize("job", [train, tune])
def test_flags_that_contradict_each_other_or_need_another_are_refused(
    job: Callable[..., None], train_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--training", train_csv)

    told = refused(capsys, tmp_path / "output", job, *flags, "--resume", "--overwrite")
    assert told.startswith("--resume goes on and --overwrite starts over; give one of them")
    told = refused(capsys, tmp_path / "output", job, *flags, "--new-classes")
    assert told.startswith("--new-classes adds to a checkpoint's classes; add --checkpoint")
    told = refused(capsys, tmp_path / "output", job, *flags, "--id-columns", "a\nb")
    assert told.startswith(r"--id-columns is 'a\nb'; it must be positions")


def test_patience_needs_a_measure_of_what_is_better(
    train_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = refused(
        capsys, tmp_path / "output", train, "--training", train_csv, "--recipe", "fast", "--patience", 3
    )

    assert told.startswith("--patience needs validation data with --recipe fast; add --validation")


def test_both_formats_lead_to_the_same_network(
    train_csv: Path, valid_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--epochs", 2, *SMALL)
    training = write_named_csv(tmp_path / "named.csv", make_dataset(20), labelled=True, seed=0)

    assert status_of(train, "--training", train_csv, "--output", tmp_path / "a", *flags) == 0
    assert status_of(train, "--training", training, "--output", tmp_path / "b", *flags) == 0

    log = capsys.readouterr().out
    assert "20 series of length 12 in 2 classes (task multiclass, without a header)" in log
    assert "20 series of length 12 in 2 classes (task multiclass, with a header)" in log
    first, named = Checkpoint.load(tmp_path / "a"), Checkpoint.load(tmp_path / "b")
    assert all(first.weights[name].equal(named.weights[name]) for name in first.weights)
    assert (first.classes.names, named.classes.names) == (("down", "up"), ("y_1", "y_2"))


def test_five_classes_of_which_some_are_rare_are_the_same_in_both_formats(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write_csv(tmp_path / "first.csv", make_beats(), labelled=True)
    named = write_named_csv(tmp_path / "named.csv", make_beats(), labelled=True)
    flags = ("--epochs", 2, "--class-weight", "balanced", *SMALL)
    scores = []
    for number, path in enumerate((first, named)):
        model = tmp_path / str(number)
        assert status_of(train, "--training", path, "--validation", path, "--output", model, *flags) == 0
        capsys.readouterr()
        assert status_of(evaluate, "--checkpoint", model, "--data", named, "--json") == 0
        scores.append(json.loads(capsys.readouterr().out))

    assert scores[0]["confusion"] == scores[1]["confusion"]
    assert [row["support"] for row in scores[1]["classes"].values()] == [90, 3, 5, 2, 10]


def test_labels_are_trained_calibrated_and_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training = write_named_csv(tmp_path / "train.csv", make_labels(40), labelled=True)
    model = tmp_path / "model"
    flags = ("--training", training, "--validation", training, "--output", model, "--epochs", 2, *SMALL)

    assert status_of(train, *flags, "--task", "multilabel", "--calibrate") == 0
    assert status_of(evaluate, "--checkpoint", model, "--data", training) == 0

    assert "40 series of length 12 in 2 labels (task multilabel, with a header)" in capsys.readouterr().out
    data = write_named_csv(tmp_path / "data.csv", make_labels(2), labelled=False)
    assert status_of(explain, "--checkpoint", model, "--data", data, "--output", tmp_path / "explained") == 2
    assert capsys.readouterr().err.startswith("a multilabel network predicts no single class")


def test_train_refuses_an_output_folder_with_a_checkpoint(
    train_csv: Path, checkpoint_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (checkpoint_folder / "checkpoint.json").read_bytes()

    assert status_of(train, "--training", train_csv, "--output", checkpoint_folder, "--epochs", 1) == 2
    assert "already holds a result (checkpoint.json)" in capsys.readouterr().err
    assert (checkpoint_folder / "checkpoint.json").read_bytes() == before


def test_train_replaces_a_checkpoint_when_told_to(
    train_csv: Path, trained: Checkpoint, tmp_path: Path
) -> None:
    trained.save(tmp_path / "model")

    flags = ("--training", train_csv, "--output", tmp_path / "model", "--epochs", 1, *SMALL, "--overwrite")
    assert status_of(train, *flags) == 0
    assert Checkpoint.load(tmp_path / "model").hyperparameters.epochs == 1


def test_an_interrupted_training_keeps_its_best_epoch(
    train_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer.step
    epochs_left = iter(range(2))

    def until_interrupted(trainer: Trainer) -> Epoch:
        if next(epochs_left, None) is None:
            raise KeyboardInterrupt
        return step(trainer)

    monkeypatch.setattr(Trainer, "step", until_interrupted)

    assert status_of(train, "--training", train_csv, "--output", tmp_path / "model", *SMALL) == 130

    rows = list(csv.DictReader((tmp_path / "model" / "metrics.csv").read_text().splitlines()))
    best = min(rows, key=lambda row: float(row["train_loss"]))
    assert len(rows) == 2
    assert Checkpoint.load(tmp_path / "model").epoch == int(best["epoch"])


def test_a_diverging_training_ends_with_status_1_and_advice(
    train_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Trainer, "_train_epoch", lambda _: {"train_loss": float("nan")})

    assert status_of(train, "--training", train_csv, "--output", tmp_path / "model") == 1
    assert capsys.readouterr().err == "train_loss became nan in epoch 1; try an lr below 0.001\n"
    assert not (tmp_path / "model").exists()


def test_training_and_evaluation_read_and_write_object_storage(
    train_csv: Path, valid_csv: Path, bucket: ObjectPath, capsys: pytest.CaptureFixture[str]
) -> None:
    place = bucket / "jobs"
    storage.write_bytes(place / "train.csv", train_csv.read_bytes())
    storage.write_bytes(place / "valid.csv", valid_csv.read_bytes())

    flags = ("--training", place / "train.csv", "--output", place / "model", "--epochs", 2, *SMALL)
    assert status_of(train, *flags) == 0
    assert status_of(train, *flags) == 2
    assert f"--output {place}/model already holds a result" in capsys.readouterr().err
    assert status_of(train, *flags, "--overwrite") == 0
    flags = ("--checkpoint", place / "model", "--data", place / "valid.csv", "--output", place / "evaluation")
    assert status_of(evaluate, *flags) == 0

    assert set(storage.names(place / "evaluation")) == {"evaluation.json", "confusion-matrix.png"}


def test_train_calibrates_on_the_validation_data(train_csv: Path, valid_csv: Path, tmp_path: Path) -> None:
    flags = ("--training", train_csv, "--validation", valid_csv, "--epochs", 2, *SMALL)
    assert status_of(train, *flags, "--output", tmp_path / "plain") == 0
    assert status_of(train, *flags, "--output", tmp_path / "calibrated", "--calibrate") == 0

    plain, warm = Checkpoint.load(tmp_path / "plain"), Checkpoint.load(tmp_path / "calibrated")
    assert plain.temperature == 1.0
    assert warm.temperature == calibrated(plain, make_dataset(10, seed=1)).temperature


def test_a_resumed_training_is_calibrated_only_if_it_is_asked_for_again(
    train_csv: Path, valid_csv: Path, tmp_path: Path
) -> None:
    flags = ("--training", train_csv, "--validation", valid_csv, "--epochs", 2, *SMALL)
    output = ("--output", tmp_path / "model")
    assert status_of(train, *flags, *output, "--calibrate") == 0
    assert Checkpoint.load(tmp_path / "model").temperature != 1.0

    assert status_of(train, *flags, *output, "--resume") == 0

    assert Checkpoint.load(tmp_path / "model").temperature == 1.0


def test_calibration_without_validation_data_is_refused(
    train_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = refused(capsys, tmp_path / "output", train, "--training", train_csv, "--calibrate")

    assert told == "--calibrate needs validation data; add --validation\n"


@pytest.mark.parametrize("kind", [*BROKEN_FOR_ANY_JOB, "one class only"])
@pytest.mark.parametrize("job", [train, tune])
def test_broken_training_data_is_refused_in_one_sentence(
    job: Callable[..., None], kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = broken_input(kind, tmp_path / "input", labelled=True)

    assert str(path) in refused_call(capsys, tmp_path / "output", job, training=path)


@pytest.mark.parametrize("kind", [*BROKEN_FOR_ANY_JOB, "wrong length", "unknown label"])
@pytest.mark.parametrize("job", [train, tune])
def test_broken_validation_data_is_refused_in_one_sentence(
    job: Callable[..., None], kind: str, train_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = broken_input(kind, tmp_path / "input", labelled=True)

    told = refused_call(capsys, tmp_path / "output", job, training=train_csv, validation=path)
    assert str(path) in told


class Killed(BaseException):
    """Raised where a process would be killed, and by all that it would write after that."""


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("num_files", range(6))
def test_training_killed_before_any_file_is_there_leaves_a_whole_checkpoint_or_none(
    num_files: int, overwrite: bool, train_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "model"
    network = Hyperparameters(epochs=2, filters_1=4, filters_2=4, filters_3=4, batch_size=8)
    if overwrite:
        train(training=train_csv, output=output, hyperparameters=network)
    commit, left = storage.PendingFile.commit, iter(range(num_files))

    def commit_unless_killed(file: storage.PendingFile, path: Location) -> None:
        if next(left, None) is None:
            raise Killed
        commit(file, path)

    monkeypatch.setattr(storage.PendingFile, "commit", commit_unless_killed)
    with pytest.raises(Killed):
        train(
            training=train_csv,
            output=output,
            hyperparameters=network,
            plan=TrainingPlan(seed=1),
            overwrite=overwrite,
        )

    has_own = num_files >= 3  # training.json, weights, checkpoint.json
    assert (output / "checkpoint.json").exists() == (overwrite or has_own)
    if overwrite or has_own:
        assert Checkpoint.load(output).epoch in (1, 2)


@pytest.mark.parametrize(("length", "named"), [("pad", False), ("resample", True)])
def test_a_network_learns_from_series_with_gaps_and_of_unequal_lengths(
    length: str, named: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = write_gappy_csv(tmp_path / "train.csv", make_dataset(40), labelled=True, named=named)
    valid = write_gappy_csv(tmp_path / "valid.csv", make_dataset(20, seed=1), labelled=True, named=named)
    data = write_gappy_csv(tmp_path / "data.csv", make_dataset(5, seed=2), labelled=False, named=named)
    model = tmp_path / "model"
    flags = (
        "--training",
        training,
        "--validation",
        valid,
        "--output",
        model,
        "--lr",
        0.01,
        *[f for f in SMALL if "batch" not in f],
    )
    assert status_of(train, *flags, "--length", length) == 2
    assert "is missing, and values follow" in capsys.readouterr().err

    assert (
        status_of(
            train, *flags, "--length", length, "--missing", "interpolate", "--epochs", 60, "--batch-size", 20
        )
        == 0
    )
    assert f"missing values interpolate, lengths {length}" in capsys.readouterr().out
    assert status_of(evaluate, "--checkpoint", model, "--data", valid, "--json") == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] >= 0.9
    told = ("--checkpoint", model, "--data", data, "--rows", "1,2", "--output", tmp_path / "explanation")
    assert status_of(explain, *told) == 0

    checkpoint = Checkpoint.load(model)
    assert (checkpoint.treatment.missing, checkpoint.treatment.length) == ("interpolate", length)
    assert checkpoint.length == LENGTH
