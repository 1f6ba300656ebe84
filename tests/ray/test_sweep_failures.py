"""Trials that fail: what is tried again, and what is said of them."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lstmfcn import tuning
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.errors import TrainingError
from lstmfcn.plan import Plan
from lstmfcn.start import Start
from lstmfcn.sweep import sweep
from lstmfcn.trial_process import TrialProcess
from lstmfcn.trial_run import TrialRun
from tests.ray.sweeps import LEARNING_RATES, TRAIN, VALID, read_rows, results, space

pytestmark = pytest.mark.usefixtures("cluster")


class Failing(TrialProcess):
    """Trials that fail, each by its learning rate in its own ways."""

    def current(self) -> TrialRun:
        if self.config["lr"] == 0.003 and not self._has_failed():
            raise RuntimeError("it could not be built")
        return super().current()

    def step(self) -> dict[str, Any]:
        rate = self.config["lr"]
        if rate == 0.002 or (rate == 0.004 and not self._has_failed()):
            os._exit(1)
        if rate == 0.004:
            raise RuntimeError("something else")
        if rate == 0.005:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().step()

    def _has_failed(self) -> bool:
        mark = Path(str(self._folders.folder(self.config["number"]))) / "failed"
        had = mark.exists()
        mark.touch()
        return had


def test_a_failed_trial_is_tried_again_then_listed_with_its_last_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "TrialProcess", Failing)
    ranges = space(lr={"categorical": [0.002, 0.003, 0.004, 0.005]}, epochs=2)
    plan = Plan(search="grid", max_failures=1, scheduler="none")

    ranked = sweep(TRAIN, VALID, ranges, plan, tmp_path)

    by_rate = sorted(ranked, key=lambda trial: trial.hyperparameters.lr)
    memory = "out of memory; run fewer trials at once, by more --cpus-per-trial, or use a smaller batch_size"
    assert [(trial.hyperparameters.lr, trial.status, trial.failures, trial.error) for trial in by_rate] == [
        (0.002, "failed", 1, "its process or its node was lost"),
        (0.003, "completed", 1, ""),
        (0.004, "failed", 1, "RuntimeError: something else"),
        (0.005, "failed", 1, memory),
    ]
    assert [row["error"] for row in read_rows(tmp_path)] == [trial.error for trial in ranked]
    assert Checkpoint.load(tmp_path / "best").hyperparameters == ranked[0].hyperparameters


class Fleeting(TrialProcess):
    """The first process that is set to another trial dies of it."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        mark = Path(str(self._folders.folder(new_config["number"]))).parent / "reset"
        if not mark.exists():
            mark.touch()
            os._exit(1)
        return super().reset_config(new_config)


def test_a_trial_whose_process_dies_before_it_begins_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "TrialProcess", Fleeting)
    plan = Plan(num_trials=6, max_failures=1, scheduler="none")

    ranked = sweep(TRAIN, VALID, space(lr=LEARNING_RATES, epochs=2), plan, tmp_path)

    assert [trial.status for trial in ranked] == 6 * ["completed"]
    assert sum(trial.failures for trial in ranked) == 1


class Dying(TrialProcess):
    """Each trial's process dies once, after two reports."""

    def step(self) -> dict[str, Any]:
        mark = Path(str(self._folders.folder(self.config["number"]))) / "died"
        report = super().step()
        if report["epoch"] >= 4 and not mark.exists():
            self.current().leave()
            mark.touch()
            os._exit(1)
        return report


@pytest.mark.long
def test_a_trial_whose_process_dies_goes_on_to_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranges = space(lr=LEARNING_RATES, epochs=20)
    plan = Plan(num_trials=2, scheduler="median")
    undisturbed = sweep(TRAIN, VALID, ranges, plan, tmp_path / "undisturbed")
    monkeypatch.setattr(tuning, "TrialProcess", Dying)

    disturbed = sweep(TRAIN, VALID, ranges, plan, tmp_path / "disturbed")

    assert results(disturbed) == results(undisturbed)
    assert [trial.failures for trial in disturbed] == [1, 1]


def test_a_sweep_in_which_all_trials_diverge_is_an_error_with_the_reason(
    trained: Checkpoint, tmp_path: Path
) -> None:
    weights = {
        name: torch.full_like(weight, math.nan) if weight.is_floating_point() else weight
        for name, weight in trained.weights.items()
    }
    start = Start(replace(trained, weights=weights))

    with pytest.raises(TrainingError) as failed:
        sweep(TRAIN, VALID, space(lr=0.001), Plan(num_trials=2), tmp_path, start=start)

    assert str(failed.value) == (
        "none of 2 trials succeeded; the first failed with: "
        "train_loss became nan in epoch 1; try an lr below 0.001"
    )
    assert [row["status"] for row in read_rows(tmp_path)] == ["failed", "failed"]
    assert not (tmp_path / "best").exists()
