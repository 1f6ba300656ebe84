import random
from typing import Any

import pytest
import torch

from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.inference import InferenceNetwork
from lstmfcn.model import LSTMFCN

SMALL: dict[str, Any] = {f"filters_{i}": 4 for i in (1, 2, 3)} | {f"kernel_size_{i}": 3 for i in (1, 2, 3)}


def trained_model(length: int, **hyperparameters: Any) -> LSTMFCN:
    """A model whose batch normalisation has seen data."""
    torch.manual_seed(0)
    model = LSTMFCN(5, length, Hyperparameters(**hyperparameters))
    for _ in range(3):
        model(torch.randn(64, length) + 1)
    return model.eval()


@pytest.mark.parametrize(
    "hyperparameters",
    [
        {},
        SMALL,
        {"num_layers": 3, "hidden_size": 20, "filters_1": 7, "kernel_size_1": 4},
        {"kernel_size_1": 1, "kernel_size_2": 2, "kernel_size_3": 1, "filters_3": 1},
    ],
)
@pytest.mark.parametrize("length", [2, 31, 96])
def test_it_is_the_function_that_the_model_is(hyperparameters: dict[str, Any], length: int) -> None:
    model = trained_model(length, **hyperparameters)
    series = torch.randn(50, length)

    probabilities = InferenceNetwork(model)(series)

    assert torch.allclose(probabilities, torch.softmax(model(series), dim=1), atol=1e-6)


def test_the_place_of_a_series_in_its_batch_changes_no_bit() -> None:
    choose = random.Random(0).choice
    for _ in range(30):
        sizes = {f"filters_{i}": choose([1, 3, 4, 7, 16, 33]) for i in (1, 2, 3)}
        kernels = {f"kernel_size_{i}": choose([1, 2, 3, 5, 8]) for i in (1, 2, 3)}
        length = choose([2, 5, 16, 50, 101])
        model = trained_model(length, hidden_size=choose([3, 8, 13, 64]), **sizes, **kernels)
        network = InferenceNetwork(model)
        series = torch.randn(128, length)
        whole = network(series)
        for size in (1, 2, 3, 7, 16, 17, 40):
            start = choose(range(128 - size))

            assert torch.equal(network(series[start : start + size]), whole[start : start + size])
