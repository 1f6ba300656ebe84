from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lstmfcn import results, storage
from lstmfcn.calibration import calibrated
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.ensemble import Ensemble, load_checkpoint
from lstmfcn.errors import CheckpointError, OutputError
from lstmfcn.plan import Plan
from lstmfcn.record import Record
from lstmfcn.results import Results
from lstmfcn.trials import Trial, TrialFolders
from tests.samples import make_dataset


def make(output: Path, **plan: int) -> Results:
    record = Record(plan=Plan(**plan), search_space={}, data="", description="", versions={})
    return Results(record, TrialFolders(output), started=0.0)


def trained_trial(output: Path, trained: Checkpoint, number: int, accuracy: float) -> Trial:
    """One with a checkpoint, whose epoch is its number."""
    replace(trained, epoch=number).save(TrialFolders(output).folder(number))
    return Trial(
        number=number,
        hyperparameters=trained.hyperparameters.model_copy(update={"lr": 0.01 * number}),
        best_epoch=number,
        best_metrics={"valid_accuracy": accuracy, "valid_loss": 1.0},
    )


def test_the_best_follows_the_trials_now_and_then(
    trained: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = make(tmp_path)
    kept.update(trained_trial(tmp_path, trained, 1, 0.5))
    assert not (tmp_path / "best").exists()
    monkeypatch.setattr(results, "_SECONDS_BETWEEN_WRITES", 0.0)
    monkeypatch.setattr(results, "_PAUSE_PER_SECOND", 0.0)

    epochs = []
    for number, accuracy in ((1, 0.5), (2, 0.75), (3, 0.25)):
        kept.update(trained_trial(tmp_path, trained, number, accuracy))
        epochs.append(Checkpoint.load(tmp_path / "best").epoch)

    assert epochs == [1, 2, 2]
    assert Record.read(tmp_path).best_trial == 2
    assert len((tmp_path / "leaderboard.csv").read_text().splitlines()) == 4


def test_a_sweep_that_another_run_took_the_folder_from_writes_no_result(
    trained: Checkpoint, tmp_path: Path
) -> None:
    record = Record(plan=Plan(), search_space={}, data="", description="", versions={})
    folders = TrialFolders(tmp_path)
    folders.ownership.take()
    kept = Results(record, folders, started=0.0)
    kept.update(trained_trial(tmp_path, trained, 1, 0.5))
    TrialFolders(tmp_path).ownership.take()

    with pytest.raises(OutputError, match=r"was taken over by another run; this one ends$"):
        kept.write()

    assert storage.names(tmp_path) == ["trials"]


def test_what_takes_long_to_write_is_written_the_less_often(
    trained: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "_SECONDS_BETWEEN_WRITES", 0.0)
    monkeypatch.setattr(results, "_PAUSE_PER_SECOND", 1e6)
    kept = make(tmp_path)

    for number, accuracy in ((1, 0.5), (2, 0.75)):
        kept.update(trained_trial(tmp_path, trained, number, accuracy))

    assert Checkpoint.load(tmp_path / "best").epoch == 1


def test_a_checkpoint_that_is_being_replaced_is_left_for_later(
    trained: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "_SECONDS_BETWEEN_WRITES", 0.0)
    monkeypatch.setattr(results, "_PAUSE_PER_SECOND", 0.0)
    kept = make(tmp_path)
    trial = trained_trial(tmp_path, trained, 1, 0.5)
    kept.update(trial)
    better = trained_trial(tmp_path, trained, 2, 0.75)
    (weights,) = TrialFolders(tmp_path).folder(2).glob("weights-*")
    content = Path(str(weights)).read_bytes()
    Path(str(weights)).unlink()

    kept.update(better)
    assert Checkpoint.load(tmp_path / "best").epoch == 1
    with pytest.raises(CheckpointError, match="is missing"):
        kept.write()

    Path(str(weights)).write_bytes(content)
    kept.update(better)
    assert Checkpoint.load(tmp_path / "best").epoch == 2


def test_an_ensemble_takes_the_place_of_one_network_and_the_other_way_round(
    trained: Checkpoint, tmp_path: Path
) -> None:
    trials = [trained_trial(tmp_path, trained, number, 0.25 * number) for number in (1, 2, 3)]
    for ensemble, expected in ((1, [3]), (3, [3, 2, 1]), (2, [3, 2]), (1, [3])):
        kept = make(tmp_path, ensemble=ensemble)
        kept.begin(trials, 3)
        kept.write()

        best = load_checkpoint(tmp_path / "best")
        members = best.members if isinstance(best, Ensemble) else (best,)
        assert [member.epoch for member in members] == expected
        names = {path.name for path in (tmp_path / "best").iterdir()}
        assert len(names) == (2 if ensemble == 1 else 1 + ensemble)


def test_the_best_is_calibrated_when_the_sweep_ends(trained: Checkpoint, tmp_path: Path) -> None:
    kept = make(tmp_path)
    kept.begin([trained_trial(tmp_path, trained, 1, 0.5)], 1)
    validation = make_dataset(40, seed=8)

    kept.write()
    assert Checkpoint.load(tmp_path / "best").temperature == 1.0
    kept.write(calibrate_on=validation)
    assert Checkpoint.load(tmp_path / "best").temperature == calibrated(trained, validation).temperature


def test_an_ensemble_holds_a_network_once(trained: Checkpoint, tmp_path: Path) -> None:
    kept = make(tmp_path, ensemble=3)
    first = trained_trial(tmp_path, trained, 4, 0.75)
    for trial in (first, first.model_copy(update={"number": 5}), trained_trial(tmp_path, trained, 6, 0.5)):
        kept.update(trial)
    kept.write()

    best = load_checkpoint(tmp_path / "best")
    assert isinstance(best, Ensemble)
    assert [member.epoch for member in best.members] == [4, 6]


def test_an_epoch_that_a_trial_took_over_is_told_from_its_own(trained: Checkpoint, tmp_path: Path) -> None:
    kept = make(tmp_path)
    kept.update(trained_trial(tmp_path, trained, 3, 0.25))
    kept.write()
    copied = replace(trained, epoch=3, weights={name: 0 * one for name, one in trained.weights.items()})
    taken_over = trained_trial(tmp_path, copied, 3, 0.5)
    kept.update(taken_over)
    kept.write()

    assert Checkpoint.load(tmp_path / "best").digest() == copied.digest()


def test_of_trials_that_train_alike_only_the_better_is_in_best(trained: Checkpoint, tmp_path: Path) -> None:
    one, twin, other = (trained_trial(tmp_path, trained, number, 1 / number) for number in (1, 2, 3))
    twin = twin.model_copy(update={"hyperparameters": one.hyperparameters})

    assert results.trials_in_best([one, twin, other], Plan(ensemble=2)) == [one, other]
    assert results.trials_in_best([one, twin, other], Plan(ensemble=2, scheduler="pbt")) == [one, twin]


def test_best_goes_when_the_only_trial_that_it_held_fails(trained: Checkpoint, tmp_path: Path) -> None:
    kept = make(tmp_path)
    trial = trained_trial(tmp_path, trained, 1, 0.5)
    kept.update(trial)
    kept.write()
    assert Record.read(tmp_path).best_trial == 1

    kept.update(trial.model_copy(update={"status": "failed", "error": "train_loss became nan"}))
    kept.write()

    assert "best" not in storage.names(tmp_path)
    assert Record.read(tmp_path).best_trial is None
