import random
from typing import Any

import numpy as np
import pytest
import torch

from lstmfcn.classes import ClassLabels
from lstmfcn.dataset import Dataset
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.inference import InferenceNetwork
from lstmfcn.model import LSTMFCN
from lstmfcn.training import fit

SMALL: dict[str, Any] = {f"filters_{i}": 4 for i in (1, 2, 3)} | {f"kernel_size_{i}": 3 for i in (1, 2, 3)}


def trained_model(length: int, channels: int = 1, **hyperparameters: Any) -> LSTMFCN:
    """A model whose batch normalisation has seen data."""
    torch.manual_seed(0)
    model = LSTMFCN(5, length, Hyperparameters(**hyperparameters), channels)
    with torch.no_grad():
        model(torch.randn(16, channels * length) + 1)
    return model.eval()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "hyperparameters",
    [
        {},
        SMALL,
        {"squeeze_excite": 1, "filters_1": 33, "filters_2": 16},
        {"num_layers": 3, "hidden_size": 20, "filters_1": 7, "kernel_size_1": 4},
        SMALL | {"num_layers": 2, "attention": 1},
        {"kernel_size_1": 1, "kernel_size_2": 2, "kernel_size_3": 1, "filters_3": 1},
    ],
)
@pytest.mark.parametrize("length", [2, 31, 96])
def test_logits_are_the_models_within_a_hundred_thousandth_of_the_largest(
    hyperparameters: dict[str, Any], length: int, channels: int
) -> None:
    model = trained_model(length, channels, **hyperparameters)
    series = torch.randn(50, channels * length)
    expected = model(series)

    logits = InferenceNetwork(model).logits(series)

    tolerance = 1e-5 * expected.abs().max(dim=1, keepdim=True).values
    assert ((logits - expected).abs() <= tolerance).all()
    best, second = expected.topk(2, dim=1).values.t()
    is_clear = best - second > tolerance[:, 0]
    assert torch.equal(logits.argmax(1)[is_clear], expected.argmax(1)[is_clear])


def test_logits_of_a_trained_network_are_within_it_too() -> None:
    random = np.random.default_rng(0)
    targets = random.integers(0, 5, 200)
    series = np.sin(np.arange(40) * (1 + targets[:, None]) / 8) + random.normal(size=(200, 40)) / 2
    dataset = Dataset(series.astype(np.float32), targets, ClassLabels(list("abcde")))
    *_, last = fit(
        dataset,
        hyperparameters=Hyperparameters(epochs=8, batch_size=32, filters_1=32, filters_2=64, filters_3=32),
    )
    assert last.checkpoint is not None
    model = last.checkpoint.build_model()
    scaled = torch.from_numpy(last.checkpoint.scaling(dataset.series))
    expected = model(scaled)

    logits = InferenceNetwork(model).logits(scaled)

    assert last.metrics["train_accuracy"] > 0.9
    assert ((logits - expected).abs() <= 1e-5 * expected.abs().max(dim=1, keepdim=True).values).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("long", [{"kernel_size_1": 65}, {"kernel_size_2": 17}, {"kernel_size_3": 40}])
def test_with_a_long_kernel_too_it_is_the_models_function(long: dict[str, int], channels: int) -> None:
    model = trained_model(40, channels, **SMALL | long | {"squeeze_excite": 1})
    series = torch.randn(50, channels * 40)
    network = InferenceNetwork(model)

    assert network.needs_full_batches
    assert torch.allclose(network.logits(series), model(series), atol=1e-5)


@pytest.mark.parametrize("kernel_size", [4, 5, 6, 7, 8, 9, 200])
@pytest.mark.parametrize("length", [2, 3, 4])
def test_no_kernel_is_too_long_for_short_series(kernel_size: int, length: int) -> None:
    model = trained_model(length, **SMALL | {f"kernel_size_{i}": kernel_size for i in (1, 2, 3)})
    series = torch.randn(50, length)
    network = InferenceNetwork(model)

    assert not network.needs_full_batches
    assert torch.allclose(network.logits(series), model(series), atol=1e-5)


def test_probabilities_are_the_softmax_of_logits() -> None:
    network = InferenceNetwork(trained_model(20, **SMALL))
    series = torch.randn(50, 20)

    assert torch.equal(network(series), torch.softmax(network.logits(series), dim=1))


@pytest.mark.parametrize("hyperparameters", [{}, SMALL])
def test_in_bfloat16_probabilities_are_those_of_float32_within_its_precision(
    hyperparameters: dict[str, Any],
) -> None:
    model = trained_model(24, **hyperparameters)
    series = torch.randn(8, 24)

    probabilities = InferenceNetwork(model, torch.bfloat16)(series)

    assert probabilities.dtype == torch.float32
    exact = InferenceNetwork(model)(series)
    assert torch.allclose(probabilities, exact, atol=0.02)
    assert not torch.equal(probabilities, exact)


def test_the_place_of_a_series_in_its_batch_changes_no_bit() -> None:
    choose = random.Random(1).choice
    for number in range(50):
        sizes = {f"filters_{i}": choose([1, 2, 3, 4, 7, 16, 33, 64]) for i in (1, 2, 3)}
        kernels = {f"kernel_size_{i}": choose([1, 2, 3, 5, 8, 16]) for i in (2, 3)}
        kernels["kernel_size_1"] = choose([1, 2, 3, 5, 8, 16, 32, 64])
        length, channels = choose([2, 3, 5, 16, 50, 101]), choose([1, 1, 2, 3, 6, 20])
        variant = {"squeeze_excite": number % 2, "attention": choose([0, 1]), "num_layers": choose([1, 2])}
        hidden_size = choose([3, 8, 13, 64])
        model = trained_model(length, channels, hidden_size=hidden_size, **variant, **sizes, **kernels)
        network = InferenceNetwork(model)
        series = torch.randn(128, channels * length)
        whole = network(series)
        for size in (1, 2, 3, 7, 16, 17, 40):
            start = choose(range(128 - size))

            assert torch.equal(network(series[start : start + size]), whole[start : start + size])


def test_what_overflows_16_bits_becomes_no_nan() -> None:
    model = trained_model(20, **SMALL)
    with torch.no_grad():
        model.get_parameter("convolutional.layers.0.1.weight").mul_(100)

    probabilities = InferenceNetwork(model, torch.float16)(torch.full((1, 20), 10_000.0))

    assert probabilities.sum() == pytest.approx(1)


def test_fewer_long_series_are_computed_at_once() -> None:
    sizes = {"filters_1": 16, "filters_2": 16, "filters_3": 16, "kernel_size_1": 65}

    assert InferenceNetwork(trained_model(500, **sizes)).series_at_once == 64
    assert InferenceNetwork(trained_model(20_000, **sizes)).series_at_once == 13
