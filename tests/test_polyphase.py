import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from lstmfcn.polyphase import FeatureMap, Layer, PolyphaseBlock


def random_layers(channels: int, filters: list[int], taps: list[int]) -> list[Layer]:
    torch.manual_seed(0)
    widths = [channels, *filters]
    return [
        Layer(torch.randn(after, before, kernel) / before, torch.randn(after))
        for before, after, kernel in zip(widths[:-1], widths[1:], taps, strict=True)
    ]


def weights(means: Tensor) -> Tensor:
    """NaN where a mean is infinite."""
    return torch.tanh(means) + 0 * means


def plain(layers: list[Layer], series: Tensor) -> Tensor:
    """(batch, channels * length) -> (batch, last filters), in float64."""
    features = torch.unflatten(series.double(), 1, (layers[0].kernel.shape[1], -1))
    for kernel, bias, weigh in layers:
        taps = kernel.shape[2]
        padded = functional.pad(features, ((taps - 1) // 2, taps // 2))
        features = functional.conv1d(padded, kernel.double(), bias.double()).relu()
        if weigh is not None:
            features *= weigh(features.mean(dim=2)).unsqueeze(2)
    return torch.mean(features, dim=2)


@given(
    batch=st.integers(1, 40),
    channels=st.integers(1, 3),
    filters=st.lists(st.sampled_from([1, 4, 32, 40]), min_size=3, max_size=3),
    taps=st.lists(st.integers(1, 16) | st.integers(17, 64), min_size=3, max_size=3),
    length=st.integers(1, 40),
    weigh=st.sampled_from([None, weights]),
)
@settings(max_examples=100, deadline=None)
def test_it_is_convolutions_with_relu_and_the_mean_over_time(
    batch: int,
    channels: int,
    filters: list[int],
    taps: list[int],
    length: int,
    weigh: Callable[[Tensor], Tensor] | None,
) -> None:
    layers = [layer._replace(weigh=weigh) for layer in random_layers(channels, filters, taps)]
    series = torch.randn(batch, channels * length)
    expected = plain(layers, series)

    means = PolyphaseBlock(layers, length)(series)

    assert (means - expected).abs().max() <= 1e-5 * (1 + expected.abs().max())


def test_a_batch_leaves_nothing_behind_for_the_next_one() -> None:
    layers = [layer._replace(weigh=weights) for layer in random_layers(1, [4, 5, 3], [8, 5, 3])]
    first, second = torch.randn(2, 30, 23)
    used = PolyphaseBlock(layers, 23)
    assert not used(1e38 * first).isfinite().all()
    used(first[:7])

    assert torch.equal(used(second), PolyphaseBlock(layers, 23)(second))


def test_a_row_whose_features_overflow_leaves_its_neighbours_as_they_are() -> None:
    layers = [layer._replace(weigh=weights) for layer in random_layers(2, [4, 32, 33], [8, 5, 3])]
    series = torch.randn(30, 2 * 23)
    expected = PolyphaseBlock(layers, 23)(series)
    others = torch.arange(30) != 7
    series[7] = 3e38

    for batch in (series, series[:12]):
        means = PolyphaseBlock(layers, 23)(batch)
        assert not means[7].isfinite().all()
        assert torch.equal(means[others[: len(batch)]], expected[: len(batch)][others[: len(batch)]])


def test_threads_may_share_it() -> None:
    block = PolyphaseBlock(random_layers(1, [32, 32, 32], [8, 5, 3]), 50)
    batches = list(torch.randn(60, 20, 50))
    expected = [block(batch) for batch in batches]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(block, batches))

    assert all(map(torch.equal, found, expected))


def test_memory_is_kept_for_no_more_than_twice_the_series_that_go_through_at_once() -> None:
    block = PolyphaseBlock(random_layers(1, [4, 4, 4], [3, 3, 3]), 20)
    for batch in range(1, 100):
        block(torch.randn(batch, 20))

    gc.collect()
    kept = [held for held in gc.get_objects() if type(held) is FeatureMap]
    num_series = sum(held.by_series.shape[2] for held in kept) / 4  # maps of each batch
    assert 0 < num_series <= 2 * block.series_at_once
