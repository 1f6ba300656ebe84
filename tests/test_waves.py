from __future__ import annotations

import numpy as np
import pytest

from lstmfcn.waves import make_waves


@pytest.mark.parametrize(
    ("target", "first_period"),
    [
        (0, [0, 2.93, 10, 17.07, 20, 17.07, 10, 2.93]),
        (1, [10, 0, 10, 20, 10, 0, 10, 20]),
        (2, [0, -7.07, 10, 27.07, 20, 7.07, 10, 12.93]),
    ],
)
def test_without_noise_a_class_is_a_cosine_a_sine_or_both(target: int, first_period: list[float]) -> None:
    dataset = make_waves(3, length=81, noise=0)

    (series,) = dataset.series[dataset.targets == target]
    np.testing.assert_allclose(series, [*first_period * 10, first_period[0]], atol=0.01)


def test_noise_is_added_to_every_value() -> None:
    dataset = make_waves(3000, noise=10)

    noise = dataset.series - make_waves(3000, noise=0).series
    assert noise.mean() == pytest.approx(0, abs=0.1)
    assert noise.std(axis=0) == pytest.approx(np.full(100, 10), rel=0.1)


def test_classes_are_of_one_size_as_nearly_as_can_be_and_in_random_order() -> None:
    dataset = make_waves(700)

    assert dataset.classes.names == ("0", "1", "2")
    assert np.bincount(dataset.targets).tolist() == [234, 233, 233]
    assert len(np.unique(dataset.targets[:30])) == 3


def test_a_seed_gives_the_same_series_and_another_one_others() -> None:
    first, again, other = make_waves(5, seed=3), make_waves(5, seed=3), make_waves(5, seed=4)

    np.testing.assert_array_equal(first.series, again.series)
    np.testing.assert_array_equal(first.targets, again.targets)
    assert not np.isclose(first.series, other.series).any()
