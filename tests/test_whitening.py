from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lstmfcn import whitening
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.model import ConvolutionalBlock
from lstmfcn.recipe import RecipeName
from lstmfcn.start import Start
from lstmfcn.training import Trainer, TrainingData, TrainingSettings, fit
from lstmfcn.whitening import whiten
from tests.samples import TINY, make_dataset

TAPS, LENGTH = 4, 40


def first_layer(channels: int = 1) -> nn.Sequential:
    """Whose second, fourth, ... kernel is the first, second, ... tap alone."""
    block = ConvolutionalBlock(Hyperparameters(filters_1=2 * TAPS, kernel_size_1=TAPS), channels)
    layer = block.layers[0]
    assert isinstance(layer, nn.Sequential)
    with torch.no_grad():
        kernels_of(layer)[1::2] = torch.eye(TAPS).unsqueeze(1)
    return layer


def kernels_of(layer: nn.Sequential) -> Tensor:
    _, convolution, *_ = layer.children()
    assert isinstance(convolution, nn.Conv1d)
    return convolution.weight


def smooth_series(channels: int = 1) -> Tensor:
    """Random walks; of several channels, sizes a thousand times apart."""
    steps = torch.randn(50, channels, LENGTH, generator=torch.Generator().manual_seed(0))
    return (steps.cumsum(2) * 1000.0 ** torch.arange(channels).view(-1, 1)).flatten(1)


def features(layer: nn.Sequential, series: Tensor, channels: int = 1) -> Tensor:
    """(features, windows), before batch normalisation."""
    padding, convolution, *_ = layer.children()
    answers: Tensor = convolution(padding(torch.unflatten(series, 1, (channels, -1))))
    return answers.transpose(0, 1).flatten(1)


def test_whitened_features_are_uncorrelated_and_of_one_size() -> None:
    layer, series = first_layer(), smooth_series()
    before = features(layer, series)[1::2]
    assert torch.corrcoef(before)[0, 1] > 0.9

    whiten(layer, series)
    after = features(layer, series)[1::2]

    moments = after @ after.t() / after.shape[1]
    torch.testing.assert_close(moments, torch.eye(TAPS), atol=0.02, rtol=0)


def test_every_other_kernel_stays_as_it_was() -> None:
    layer = first_layer()
    before = kernels_of(layer).detach().clone()

    whiten(layer, smooth_series())

    assert torch.equal(kernels_of(layer)[::2], before[::2])
    assert not torch.equal(kernels_of(layer)[1::2], before[1::2])


@settings(max_examples=25)
@given(st.floats(1e-3, 1e3))
def test_features_dont_depend_on_the_size_of_the_series(size: float) -> None:
    small, large = first_layer(), first_layer()
    series = smooth_series()
    whiten(small, series)
    whiten(large, size * series)

    expected = features(small, series)[1::2]
    torch.testing.assert_close(features(large, size * series)[1::2], expected, atol=1e-3, rtol=1e-3)


def test_each_channel_is_whitened_by_its_own_windows() -> None:
    both, series = first_layer(channels=2), smooth_series(channels=2)
    whiten(both, series)

    for channel, of_channel in enumerate(series.chunk(2, dim=1)):
        alone = first_layer()
        whiten(alone, of_channel)
        torch.testing.assert_close(kernels_of(both)[1::2, channel], kernels_of(alone)[1::2, 0])


def test_a_channel_of_zeros_leaves_its_kernels_as_they_are() -> None:
    layer = first_layer()
    before = kernels_of(layer).detach().clone()

    whiten(layer, torch.zeros(5, LENGTH))

    assert torch.equal(kernels_of(layer), before)


def test_a_direction_in_which_windows_dont_differ_is_magnified_a_hundred_times_the_largest_at_most() -> None:
    layer, constant = first_layer(), torch.ones(1, 400_000)

    whiten(layer, constant)

    gains = torch.linalg.svdvals(kernels_of(layer).detach()[1::2, 0])
    assert gains[0] / gains[-1] == pytest.approx(100, rel=0.05)


def test_of_very_many_series_evenly_spaced_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whitening, "_MOST_CASES", 25)
    every, even = first_layer(), first_layer()
    series = smooth_series()
    whiten(every, series[::2])

    whiten(even, series)

    assert torch.equal(kernels_of(even)[1::2], kernels_of(every)[1::2])


def test_of_very_long_series_evenly_spaced_windows_do(monkeypatch: pytest.MonkeyPatch) -> None:
    every_fourth = TAPS * LENGTH // (TAPS - 1)
    monkeypatch.setattr(whitening, "_VALUES_AT_ONCE", every_fourth)
    layer, series = first_layer(), torch.zeros(1, LENGTH)
    series[:, ::TAPS] = 1  # after a step of padding, so at the second place in each of these windows

    whiten(layer, series)

    gains = kernels_of(layer).detach()[1::2, 0].diagonal()
    torch.testing.assert_close(gains, gains[1] * torch.tensor([100.0, 1, 100, 100]), rtol=1e-3, atol=0)


def test_moments_of_several_parts_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parted = first_layer(), first_layer()
    series = smooth_series()
    whiten(whole, series)
    monkeypatch.setattr(whitening, "_VALUES_AT_ONCE", 7 * TAPS * LENGTH)  # seven parts of 7, one of 1

    whiten(parted, series)

    torch.testing.assert_close(kernels_of(parted)[1::2], kernels_of(whole)[1::2])


def test_values_that_arent_finite_leave_kernels_as_they_are() -> None:
    layer = first_layer()
    before = kernels_of(layer).detach().clone()

    whiten(layer, torch.full((5, LENGTH), torch.nan))

    assert torch.equal(kernels_of(layer), before)


@pytest.mark.parametrize(("recipe", "whitened"), [("reference", False), ("paper", False), ("fast", True)])
def test_only_the_fast_recipe_begins_with_whitened_kernels(recipe: RecipeName, *, whitened: bool) -> None:
    def first_kernels(recipe: RecipeName) -> Tensor:
        data = TrainingData.scaled(make_dataset(20), None, "series")
        return (
            Trainer(data, TINY, TrainingSettings(recipe)).state().weights["convolutional.layers.0.1.weight"]
        )

    assert torch.equal(first_kernels(recipe), first_kernels("reference")) != whitened


def test_a_checkpoint_that_training_starts_from_keeps_its_kernels() -> None:
    *_, epoch = fit(make_dataset(20), hyperparameters=TINY, recipe="fast")
    assert epoch.checkpoint is not None

    data = TrainingData.scaled(make_dataset(20), None, "series", Start(epoch.checkpoint))
    weights = Trainer(data, TINY, TrainingSettings("fast")).state().weights

    assert all(torch.equal(weights[name], kept) for name, kept in epoch.checkpoint.weights.items())
