from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lstmfcn import training_run
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.errors import OutputError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.start import Start
from lstmfcn.training import Trainer, TrainingData, TrainingSettings
from lstmfcn.training_run import TrainingRecord, TrainingRun
from lstmfcn.training_state import TrainingState
from lstmfcn.treatment import Treatment
from tests.samples import TINY, make_dataset

TRAIN, VALID = make_dataset(20), make_dataset(11, seed=1)


def begin(
    output: Path,
    *,
    epochs: int = 20,
    data: TrainingData | None = None,
    patience: int | None = None,
    seed: int = 0,
    **hyperparameters: Any,
) -> TrainingRun:
    data = data or TrainingData.scaled(TRAIN, VALID, "series")
    chosen = TINY.model_copy(update={"epochs": epochs, "batch_size": 10, **hyperparameters})
    return TrainingRun(Trainer(data, chosen, TrainingSettings(seed=seed), patience=patience), output)


def go_on(output: Path, **changed: Any) -> list[int]:
    """The numbers of the epochs that were left."""
    run = begin(output, **changed)
    run.resume()
    return finish(run)


def finish(run: TrainingRun) -> list[int]:
    numbers = [epoch.number for epoch in run.epochs()]
    run.finish()
    return numbers


def left(output: Path) -> tuple[Any, ...]:
    """All that must not depend on interruptions."""
    state = TrainingState.load(output)
    assert state is not None
    rows = list(csv.DictReader((output / "metrics.csv").read_text().splitlines()))
    return (
        (output / "checkpoint.json").read_bytes(),
        (output / "training.json").read_bytes(),
        Checkpoint.load(output).digest(),
        [{name: row[name] for name in row if name != "seconds"} for row in rows],
        {name: weights.tolist() for name, weights in state.weights.items()},
        [{name: moment.tolist() for name, moment in moments.items()} for moments in state.moments],
        state.generators["cpu"].tolist(),
    )


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, nothing is written between the epochs unless a test wants it."""
    monkeypatch.setattr(training_run, "_SECONDS_BETWEEN_WRITES", math.inf)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty epochs in one run."""
    output = tmp_path_factory.mktemp("whole")
    assert finish(begin(output)) == list(range(1, 21))
    return output


def test_10_epochs_resumed_to_20_equal_20_in_one_run(whole: Path, tmp_path: Path) -> None:
    assert finish(begin(tmp_path, epochs=10)) == list(range(1, 11))
    torch.manual_seed(99)

    assert go_on(tmp_path) == list(range(11, 21))

    assert left(tmp_path) == left(whole)


def test_10_epochs_from_the_checkpoint_of_10_are_others_than_those_of_one_run(
    whole: Path, tmp_path: Path
) -> None:
    finish(begin(tmp_path / "first", epochs=10))
    data = TrainingData.scaled(TRAIN, VALID, "series", Start.load(tmp_path / "first"))

    assert finish(begin(tmp_path / "second", epochs=10, data=data)) == list(range(1, 11))

    assert Checkpoint.load(tmp_path / "second").digest() != Checkpoint.load(whole).digest()


def break_off_in(epoch: int, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Within an epoch, when the network has changed already."""
    train = Trainer._train_epoch

    def breaking(trainer: Trainer) -> dict[str, float]:
        metrics = train(trainer)
        if trainer.epoch + 1 == epoch:
            raise error
        return metrics

    monkeypatch.setattr(Trainer, "_train_epoch", breaking)


def test_a_killed_training_goes_on_from_what_it_wrote_last(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_run, "_SECONDS_BETWEEN_WRITES", 0.0)
    with monkeypatch.context() as m:
        break_off_in(6, m, MemoryError())
        with pytest.raises(MemoryError):
            list(begin(tmp_path).epochs())
    assert Checkpoint.load(tmp_path).epoch <= 5

    assert go_on(tmp_path) == list(range(6, 21))

    assert left(tmp_path) == left(whole)


def test_an_interrupted_training_keeps_its_best_epoch_and_goes_on_from_its_last_state(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(begin(tmp_path, epochs=3))
    with monkeypatch.context() as m:
        break_off_in(15, m, KeyboardInterrupt())
        run = begin(tmp_path)
        run.resume()
        with pytest.raises(KeyboardInterrupt):
            list(run.epochs())
        kept = run.finish()
    assert kept is not None
    assert 3 < kept.epoch < 15
    assert Checkpoint.load(tmp_path).digest() == kept.digest()

    again = begin(tmp_path)
    again.resume()
    assert next(again.epochs()).number == 4
    again.finish()
    assert Checkpoint.load(tmp_path).digest() == kept.digest()

    go_on(tmp_path)
    assert left(tmp_path) == left(whole)


def test_a_training_that_is_done_stays_as_it_is(whole: Path) -> None:
    before = left(whole)

    assert go_on(whole) == []

    assert left(whole) == before


def test_a_training_that_ran_out_of_patience_goes_on_with_more(tmp_path: Path) -> None:
    stopped = finish(begin(tmp_path, epochs=40, patience=2, lr=1e-9))
    assert len(stopped) < 40

    assert go_on(tmp_path, epochs=40, patience=2, lr=1e-9) == []
    assert go_on(tmp_path, epochs=40, patience=3, lr=1e-9) == [len(stopped) + 1]


def test_a_training_that_was_killed_before_it_wrote_a_state_starts_again(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "training.json").write_bytes((whole / "training.json").read_bytes())

    assert go_on(tmp_path) == list(range(1, 21))

    assert left(tmp_path) == left(whole)


def test_a_training_that_replaces_another_one_does_not_go_on_from_its_state(tmp_path: Path) -> None:
    finish(begin(tmp_path, epochs=2, lr=0.02))
    list(begin(tmp_path).epochs())  # killed before it wrote anything

    with pytest.raises(
        OutputError, match=r"^--resume: lr has changed: it was 0.02, now it is 0.01; --overwrite"
    ):
        go_on(tmp_path)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"hidden_size": 5},
            "--resume: hidden_size has changed: it was 3, now it is 5; --overwrite starts over",
        ),
        ({"seed": 1}, "--resume: seed has changed: it was 0, now it is 1; --overwrite starts over"),
        (
            {"data": TrainingData.scaled(TRAIN, None, "series"), "batch_size": 7},
            "--resume: the training or validation data has changed; --overwrite starts over",
        ),
        (
            {"data": TrainingData.scaled(TRAIN, VALID, "training-set")},
            "--resume: scaling has changed: it was series, now it is training-set; --overwrite starts over",
        ),
        (
            {"data": TrainingData.scaled(replace(TRAIN, treatment=Treatment(length="pad")), VALID, "series")},
            "--resume: length has changed: it was equal, now it is pad; --overwrite starts over",
        ),
        ({"epochs": 19}, "--resume: 20 epochs are done; epochs is 19, and must be at least as many"),
    ],
)
def test_another_training_is_refused(changed: dict[str, Any], sentence: str, whole: Path) -> None:
    before = left(whole)

    with pytest.raises(OutputError) as refused:
        go_on(whole, **changed)

    assert str(refused.value) == sentence
    assert left(whole) == before


def test_another_checkpoint_to_start_from_is_refused(trained: Checkpoint, tmp_path: Path) -> None:
    data = TrainingData.scaled(TRAIN, VALID, "series", Start(trained))
    finish(begin(tmp_path, epochs=1, data=data))
    other = Start(replace(trained, temperature=2.0))

    assert go_on(tmp_path, epochs=2, data=data) == [2]
    with pytest.raises(OutputError, match=r"^--resume: the checkpoint that the training started from has"):
        go_on(tmp_path, epochs=2, data=replace(data, start=other))


def test_a_folder_without_a_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as refused:
        go_on(tmp_path)

    assert str(refused.value) == f"--resume: {tmp_path} holds no training.json of a training"


def test_the_record_knows_no_difference_between_what_is_given_and_what_is_default(tmp_path: Path) -> None:
    data = TrainingData.scaled(TRAIN, None, "series")
    given = TrainingRecord.of(Trainer(data, Hyperparameters(**Hyperparameters().model_dump())))

    given.refuse_other(TrainingRecord.of(Trainer(data, Hyperparameters())))


@pytest.mark.parametrize(("accuracy", "is_kept"), [(0.0, False), (1.0, True)])
def test_an_epoch_that_was_kept_on_another_way_stays_if_none_is_better(
    accuracy: float, is_kept: bool, whole: Path, tmp_path: Path
) -> None:
    finish(begin(tmp_path, epochs=3))
    metrics = {"train_loss": 0.0, "train_accuracy": 1.0, "valid_loss": 0.0, "valid_accuracy": accuracy}
    replace(Checkpoint.load(tmp_path), epoch=100, metrics=metrics).save(tmp_path)

    go_on(tmp_path)

    assert Checkpoint.load(tmp_path).epoch == (100 if is_kept else Checkpoint.load(whole).epoch)
