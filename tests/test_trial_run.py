from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lstmfcn import trial_run
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.devices import CPU
from lstmfcn.errors import ResourceError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.plan import Plan
from lstmfcn.training import Trainer, TrainingData, TrainingSettings
from lstmfcn.training_state import TrainingState
from lstmfcn.trial_run import TrialRun, TrialSettings
from lstmfcn.versions import common_versions
from tests.samples import TINY, make_dataset

DATA = TrainingData.scaled(make_dataset(20), make_dataset(11, seed=1), "series")


def begin(
    folder: Path,
    *,
    judged_every: int | None = None,
    hyperparameters: Hyperparameters = TINY,
    of_driver: dict[str, str] | None = None,
) -> TrialRun:
    settings = TrialSettings(
        objective=Plan().objective,
        training=TrainingSettings(),
        judged_every=judged_every,
        versions=of_driver or common_versions(),
    )
    return TrialRun(DATA, hyperparameters, folder, settings, [CPU])


def reports(run: TrialRun) -> Sequence[dict[str, Any]]:
    made = []
    while not run.is_done:
        made.append(run.advance())
    return made


def test_a_trial_reports_when_it_is_judged(tmp_path: Path) -> None:
    assert [report["epoch"] for report in reports(begin(tmp_path, judged_every=2))] == [2, 3]


def test_a_slow_trial_also_reports_in_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_run, "_SECONDS_BETWEEN_REPORTS", 0.0)

    assert [report["epoch"] for report in reports(begin(tmp_path, judged_every=2))] == [1, 2, 3]


def test_a_trial_that_is_left_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    whole = reports(begin(tmp_path / "whole"))[-1]
    first = begin(tmp_path / "parts", judged_every=2)
    first.advance()
    first.leave()

    last = reports(begin(tmp_path / "parts"))[-1]

    assert last["best_metrics"] | {"seconds": 0} == whole["best_metrics"] | {"seconds": 0}
    digests = [Checkpoint.load(tmp_path / name).digest() for name in ("whole", "parts")]
    assert digests[0] == digests[1]


def test_a_trial_that_is_left_for_good_keeps_its_results_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_run, "_SECONDS_BETWEEN_STATES", 0.0)
    run = begin(tmp_path, judged_every=2)
    run.advance()
    assert TrainingState.load(tmp_path) is not None

    run.leave(for_good=True)

    assert TrainingState.load(tmp_path) is None
    assert Checkpoint.load(tmp_path).epoch in (1, 2)
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 3


def test_a_trial_that_breaks_off_within_an_epoch_keeps_its_state_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(tmp_path).leave()
    run = begin(tmp_path)
    train = Trainer._train_epoch

    def break_off(trainer: Trainer) -> dict[str, float]:
        train(trainer)
        raise RuntimeError("torn")

    monkeypatch.setattr(Trainer, "_train_epoch", break_off)
    before = (tmp_path / "state.safetensors").read_bytes()

    with pytest.raises(RuntimeError, match="torn"):
        run.advance()
    run.leave()

    assert (tmp_path / "state.safetensors").read_bytes() == before


def test_a_trial_that_takes_over_another_one_keeps_its_state_and_its_best_epoch(tmp_path: Path) -> None:
    other = begin(tmp_path / "other", judged_every=2)
    other.advance()
    other.save(tmp_path / "saved")

    begin(tmp_path / "own").restore(tmp_path / "saved")

    state = TrainingState.load(tmp_path / "own")
    assert state is not None
    assert len(state.history) == 2
    assert Checkpoint.load(tmp_path / "own").epoch == state.best_epoch


def test_a_trial_whose_process_was_lost_goes_on_from_its_later_state(tmp_path: Path) -> None:
    run = begin(tmp_path / "own", judged_every=1)
    run.advance()
    run.save(tmp_path / "saved")
    run.advance()
    run.leave()

    again = begin(tmp_path / "own", judged_every=1)
    again.restore(tmp_path / "saved")

    assert again.advance()["epoch"] == 3


def test_a_trial_runs_on_no_node_with_other_versions_than_the_driver(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"the driver's is 1\.0; all nodes need the same$"):
        begin(tmp_path, of_driver={**common_versions(), "PyTorch": "1.0"})


def test_a_trial_that_goes_on_tells_tensorboard_every_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_run, "_SECONDS_BETWEEN_STATES", 0.0)
    begin(tmp_path, judged_every=2).advance()  # and killed, before it wrote what TensorBoard shows
    (tmp_path / "events.out.tfevents.00000002").touch()  # of an earlier part

    reports(begin(tmp_path))

    (events,) = tmp_path.glob("events*")
    assert events.name.endswith(".00000000")
    assert events.read_bytes().count(b"valid_loss") == 3
