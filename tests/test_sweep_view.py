from __future__ import annotations

import io

import pytest
from rich.console import Console

from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.metrics import Objective
from lstmfcn.sweep_view import SweepView
from lstmfcn.trials import Status, Trial


def trial(number: int, status: Status, accuracy: float) -> Trial:
    return Trial(
        number=number,
        hyperparameters=Hyperparameters(epochs=20),
        status=status,
        epoch=12,
        metrics={"valid_accuracy": 0.625, "train_loss": 0.25},
        best_epoch=8,
        best_metrics={"valid_accuracy": accuracy, "valid_loss": 0.5},
        seconds=3.25,
        error="it broke" if status == "failed" else "",
    )


def table_of(view: SweepView) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    console.print(view.table())
    assert isinstance(console.file, io.StringIO)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def test_trials_that_run_come_first_then_the_best() -> None:
    with SweepView(Objective.of("valid_accuracy")) as view:
        view.begin([trial(1, "completed", 0.7), trial(2, "stopped early", 0.9)], 4)
        view.update(trial(3, "running", 0.6))

        assert table_of(view) == [
            "trial status epoch valid_accuracy best seconds",
            "3 running 12/20 0.6250 0.6000 3.2",
            "2 stopped early 12/20 0.6250 0.9000 3.2",
            "1 completed 12/20 0.6250 0.7000 3.2",
        ]


def test_a_trial_that_ends_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with SweepView(Objective.of("valid_accuracy")) as view:
        view.begin([], 2)
        view.update(Trial(number=1, hyperparameters=Hyperparameters()))
        view.update(trial(1, "completed", 0.75))
        view.update(trial(2, "failed", 0.75))

    assert capsys.readouterr().out == (
        "trial 1 completed after 12 epochs, 3.2 s; best epoch: 8"
        " valid_accuracy: 0.75000000 valid_loss: 0.50000000\n"
        "trial 2 failed: it broke\n"
    )
