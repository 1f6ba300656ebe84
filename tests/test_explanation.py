from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lstmfcn.checkpoint import Checkpoint
from lstmfcn.classes import ClassLabels
from lstmfcn.dataset import Dataset
from lstmfcn.ensemble import Ensemble
from lstmfcn.errors import DataError
from lstmfcn.explanation import explain
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.predictor import Predictor
from lstmfcn.training import fit
from tests.samples import LENGTH, TINY, best_of, make_channels, make_dataset, make_labels

WINDOW = slice(60, 85)


def with_wave(num_cases: int, seed: int) -> Dataset:
    """Noise, in the known window of which there is one wave, upside down in one of the classes.

    A wave has no mean, so that normalising a series leaves no trace of its class outside the window.
    """
    random = np.random.default_rng(seed)
    targets = np.arange(num_cases) % 2
    series = random.normal(0, 0.3, (num_cases, 120))
    series[:, WINDOW] += np.where(targets == 1, 2.0, -2.0)[:, None] * np.sin(np.linspace(0, 2 * np.pi, 25))
    return Dataset(series.astype(np.float32), targets, ClassLabels(["down", "up"]))


def test_the_map_lies_in_the_window_that_tells_the_classes_apart() -> None:
    hyperparameters = Hyperparameters(filters_1=16, filters_2=32, filters_3=16, batch_size=16, epochs=20)
    checkpoint = best_of(with_wave(120, seed=0), hyperparameters, recipe="fast")
    unseen = with_wave(40, seed=1)

    explanation = explain(checkpoint, unseen.series)

    assert (explanation.predicted == unseen.targets).all()
    speaking_for = np.maximum(explanation.contributions, 0)
    shares = speaking_for[:, WINDOW].sum(axis=1) / speaking_for.sum(axis=1)
    assert shares.mean() >= 0.7


@pytest.mark.parametrize("channels", [1, 3])
def test_what_all_parts_add_is_the_logit_beyond_the_mean_of_the_classes(
    channels: int, trained: Checkpoint, trained_channels: Checkpoint
) -> None:
    checkpoint = trained if channels == 1 else trained_channels
    series = (make_dataset if channels == 1 else make_channels)(10, seed=3).series
    model = checkpoint.build_model()
    with torch.inference_mode():
        logits = model(torch.from_numpy(checkpoint.scaled(series)))
        beyond = logits - model.linear.bias - (logits - model.linear.bias).mean(dim=1, keepdim=True)

    explanation = explain(checkpoint, series)

    assert explanation.contributions.shape == (10, LENGTH)
    of_predicted = beyond[torch.arange(10), torch.from_numpy(explanation.predicted)]
    added = explanation.contributions.sum(axis=1) + explanation.recurrent
    np.testing.assert_allclose(added, of_predicted, rtol=1e-4, atol=1e-5)


def test_an_ensemble_is_explained_by_the_mean_of_its_networks(
    trained: Checkpoint, retrained: Checkpoint
) -> None:
    series = make_dataset(6, seed=4).series
    ensemble = Ensemble((trained, retrained))

    explanation = explain(ensemble, series)

    assert (explanation.predicted == Predictor(ensemble).predicted(series)).all()
    alone = [explain(member, series).contributions for member in (trained, retrained)]
    np.testing.assert_allclose(explanation.contributions, np.mean(alone, axis=0), rtol=1e-5, atol=1e-7)


def test_of_two_classes_with_one_output_a_part_speaks_for_one_as_it_speaks_against_the_other() -> None:
    (epoch,) = fit(
        replace(make_dataset(20), task="binary"), hyperparameters=TINY.model_copy(update={"epochs": 1})
    )
    checkpoint = epoch.checkpoint
    assert checkpoint is not None
    series = make_dataset(10, seed=3).series
    model = checkpoint.build_model()
    with torch.inference_mode():
        output = (model(torch.from_numpy(checkpoint.scaling(series))) - model.linear.bias).numpy()[:, 0]

    explanation = explain(checkpoint, series)

    added = explanation.contributions.sum(axis=1) + explanation.recurrent
    signs = np.where(explanation.predicted == 1, 0.5, -0.5)
    np.testing.assert_allclose(added, signs * output, rtol=1e-4, atol=1e-5)


def test_labels_are_not_explained(trained_labels: Checkpoint) -> None:
    with pytest.raises(DataError, match=r"^a multilabel network predicts no single class"):
        explain(trained_labels, make_labels(2).series)


@pytest.fixture(scope="module")
def retrained() -> Checkpoint:
    """Another network that predicts make_dataset as `trained` does."""
    hyperparameters = Hyperparameters(
        filters_1=4, filters_2=4, filters_3=4, batch_size=20, lr=0.02, epochs=40
    )
    return best_of(make_dataset(40), hyperparameters, seed=1)


def test_a_network_of_an_ensemble_weighs_as_it_does_in_the_prediction(
    trained: Checkpoint, retrained: Checkpoint
) -> None:
    surer = dict(trained.weights)
    for name in ("linear.weight", "linear.bias"):
        surer[name] = 10 * surer[name]
    calibrated = replace(trained, weights=surer, temperature=10.0)
    series = make_dataset(10, seed=3).series

    explanation = explain(Ensemble((calibrated, retrained)), series)

    expected = explain(Ensemble((trained, retrained)), series)
    np.testing.assert_allclose(explanation.contributions, expected.contributions, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(explanation.recurrent, expected.recurrent, rtol=1e-5, atol=1e-6)
