from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lstmfcn.calibration import calibrated, expected_calibration_error
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.dataset import Dataset
from lstmfcn.evaluation import evaluate
from lstmfcn.predictor import Predictor
from tests.samples import make_dataset, make_labels


@pytest.fixture
def wrong_in_a_quarter() -> Dataset:
    """Labelled series of which every fourth has the other label, so that no network is right more often."""
    dataset = make_dataset(80, seed=5)
    return replace(dataset, targets=np.where(np.arange(80) % 8 < 2, 1 - dataset.targets, dataset.targets))


def test_the_error_is_the_gap_between_confidence_and_accuracy_in_each_bin() -> None:
    probabilities = np.array([[0.9, 0.1], [0.92, 0.08], [0.4, 0.6], [1.0, 0.0]], np.float32)
    targets = np.array([0, 1, 1, 0])

    # bins of a fifteenth: 0.9 and 0.92 are 0.82 too sure together, 0.6 is 0.4 too modest, 1 is right
    assert expected_calibration_error(probabilities, targets) == pytest.approx((0.82 + 0.4) / 4)


def test_a_network_that_is_too_sure_gets_to_say_how_often_it_is_right(
    trained: Checkpoint, wrong_in_a_quarter: Dataset
) -> None:
    before = evaluate(Predictor(trained), wrong_in_a_quarter).summary
    after = evaluate(Predictor(calibrated(trained, wrong_in_a_quarter)), wrong_in_a_quarter).summary

    assert before["accuracy"] == after["accuracy"] == 0.75
    assert before["expected_calibration_error"] > 0.15
    assert after["expected_calibration_error"] < 0.03
    assert after["log_loss"] < before["log_loss"]
    assert after["log_loss"] == pytest.approx(-0.75 * np.log(0.75) - 0.25 * np.log(0.25), abs=0.02)


def test_calibration_keeps_every_label(trained: Checkpoint, wrong_in_a_quarter: Dataset) -> None:
    series = make_dataset(200, seed=6).series

    assert Predictor(calibrated(trained, wrong_in_a_quarter)).labels(series) == Predictor(trained).labels(
        series
    )


def test_a_logit_whose_probability_is_rounded_to_1_is_known_nevertheless(
    trained_labels: Checkpoint,
) -> None:
    weights = dict(trained_labels.weights)
    weights["linear.weight"] = torch.zeros_like(weights["linear.weight"])
    weights["linear.bias"] = torch.full_like(weights["linear.bias"], 20.0)
    targets = np.ones((100, 2), np.int64)
    targets[:5] = 0  # a probability of 0.95 is right, whose logit is 2.94

    warm = calibrated(replace(trained_labels, weights=weights), replace(make_labels(100), targets=targets))

    assert warm.temperature == pytest.approx(20 / np.log(0.95 / 0.05), rel=0.01)


def test_what_a_network_is_sure_of_and_wrong_counts_in_full(trained_labels: Checkpoint) -> None:
    weights = dict(trained_labels.weights)
    weights["linear.weight"] = torch.zeros_like(weights["linear.weight"])
    weights["linear.bias"] = torch.tensor([80.0, 6.0])
    targets = np.ones((100, 2), np.int64)
    targets[:3, 0] = 0

    warm = calibrated(replace(trained_labels, weights=weights), replace(make_labels(100), targets=targets))

    temperatures = np.linspace(0.05, 20, 10_000)
    first, second = 80 / temperatures, 6 / temperatures
    losses = 0.03 * first + np.log1p(np.exp(-first)) + np.log1p(np.exp(-second))
    assert warm.temperature == pytest.approx(temperatures[losses.argmin()], rel=0.01)


def test_calibrating_again_changes_nothing(trained: Checkpoint, wrong_in_a_quarter: Dataset) -> None:
    once = calibrated(trained, wrong_in_a_quarter)

    assert calibrated(once, wrong_in_a_quarter).temperature == once.temperature


def test_a_temperature_divides_the_logits(trained: Checkpoint) -> None:
    series = make_dataset(20, seed=7).series
    plain = np.log(Predictor(trained).probabilities(series))
    halved = np.log(Predictor(replace(trained, temperature=2.0)).probabilities(series))

    np.testing.assert_allclose(halved[:, 1] - halved[:, 0], (plain[:, 1] - plain[:, 0]) / 2, atol=1e-4)


def test_a_checkpoint_keeps_its_temperature(trained: Checkpoint, tmp_path: Path) -> None:
    warm = replace(trained, temperature=1.75)
    warm.save(tmp_path)

    assert Checkpoint.load(tmp_path).temperature == 1.75
    assert warm.digest() != trained.digest()


def test_labels_are_calibrated_by_one_temperature_and_stay_the_same(trained_labels: Checkpoint) -> None:
    validation = make_labels(80, seed=5)
    wrong_in_a_quarter = replace(
        validation, targets=np.where(np.arange(80)[:, None] % 4, validation.targets, 1 - validation.targets)
    )

    warm = calibrated(trained_labels, wrong_in_a_quarter)

    before, after = (evaluate(Predictor(one), wrong_in_a_quarter).summary for one in (trained_labels, warm))
    assert warm.temperature > 1
    assert after["log_loss"] < before["log_loss"]
    assert after["expected_calibration_error"] < before["expected_calibration_error"]
    assert after["confusion"] == before["confusion"]
