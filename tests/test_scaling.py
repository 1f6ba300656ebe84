import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from lstmfcn.scaling import Scaling, ScalingMethod

MATRICES = arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(2, 20)),
    elements=st.floats(-1e6, 1e6, width=32),
)


def test_each_series_is_normalised_by_itself() -> None:
    series = np.array([[1, 3], [10, 30]], np.float32)

    assert Scaling.fitted("series", series)(series).tolist() == [[-1, 1], [-1, 1]]


def test_the_training_set_variant_uses_one_mean_and_deviation() -> None:
    scaling = Scaling.fitted("training-set", np.array([[1, 3], [5, 7]], np.float32))

    assert scaling.mean == 4
    assert scaling.deviation == pytest.approx(5**0.5)
    assert scaling(np.array([[4, 4 + 5**0.5]], np.float32))[0].tolist() == pytest.approx([0, 1], abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.5, 1e30, -1e-30, 3.4e38])
def test_a_constant_series_becomes_zeros(value: float) -> None:
    assert Scaling()(np.full((1, 7), value, np.float32)).tolist() == [[0] * 7]


@pytest.mark.parametrize("value", [2.5, 0.1, 1e-30])
def test_a_constant_training_set_becomes_zeros(value: float) -> None:
    series = np.full((3, 7), value, np.float32)

    assert Scaling.fitted("training-set", series)(series).tolist() == [[0] * 7] * 3


@pytest.mark.parametrize("method", ["series", "training-set"])
@pytest.mark.parametrize("unit", [1e-4, 1e-9, 1e-12])
def test_values_in_a_unit_that_makes_them_small_are_scaled_like_others(
    method: ScalingMethod, unit: float
) -> None:
    series = np.float32(unit) * np.array([[1, 3], [10, 30]], np.float32)

    scaled = Scaling.fitted(method, series)(series).astype(np.float64)

    assert (scaled.std(axis=1) if method == "series" else scaled.std()) == pytest.approx(1, rel=1e-4)


def test_what_is_flat_but_for_rounding_becomes_next_to_nothing() -> None:
    flat = np.array([[0.1 + 0.2 - 0.3, 0, 0.1 + 0.2 - 0.3, 0]], np.float32)

    assert np.abs(Scaling()(flat)).max() < 1e-6


def test_what_no_network_could_compute_with_is_taken_for_less() -> None:
    scaling = Scaling.fitted("training-set", np.array([[1, 3], [5, 7]], np.float32))

    assert scaling(np.array([[3.4e38, -3.4e38]], np.float32)).tolist() == [[10_000, -10_000]]


@given(MATRICES)
def test_scaled_series_have_mean_0_and_deviation_at_most_1(
    series: np.ndarray[tuple[int, int], np.dtype[np.float32]],
) -> None:
    scaled = Scaling()(series).astype(np.float64)

    assert np.abs(scaled.mean(axis=1)).max() < 1e-5
    assert scaled.std(axis=1).max() < 1 + 1e-5


@given(MATRICES)
def test_a_series_is_scaled_alike_alone_and_among_others(
    series: np.ndarray[tuple[int, int], np.dtype[np.float32]],
) -> None:
    alone = np.concatenate([Scaling()(series[row : row + 1]) for row in range(len(series))])

    assert alone.tobytes() == Scaling()(series).tobytes()


def test_values_far_beyond_the_training_set_stay_finite() -> None:
    scaling = Scaling(method="training-set", mean=0.0, deviation=1e-5)

    assert np.isfinite(scaling(np.array([[1e34, -1e34]], np.float32))).all()


def test_the_greatest_values_do_not_overflow() -> None:
    series = np.array([[3e38, -3e38]], np.float32)

    assert Scaling()(series).tolist() == [[1, -1]]


def test_each_channel_is_normalised_by_itself() -> None:
    series = np.array([[1, 3, 10, 30], [5, 7, -2, -2]], np.float32)

    assert Scaling.fitted("series", series, 2)(series, 2).tolist() == [[-1, 1, -1, 1], [-1, 1, 0, 0]]


def test_the_training_set_variant_uses_one_mean_and_deviation_for_each_channel() -> None:
    training = np.array([[1, 3, 10, 10], [5, 7, 30, 30]], np.float32)

    scaling = Scaling.fitted("training-set", training, channels=2)

    assert scaling.mean == (4, 20)
    assert scaling.deviation == pytest.approx((5**0.5, 10))
    assert scaling(np.array([[4, 4 + 5**0.5, 20, 0]], np.float32), 2)[0].tolist() == pytest.approx(
        [0, 1, 0, -2], abs=1e-6
    )
    assert Scaling.model_validate_json(scaling.model_dump_json()) == scaling


@given(MATRICES, st.integers(1, 4))
def test_a_channel_is_scaled_as_a_series_of_its_own(values: NDArray[np.float32], channels: int) -> None:
    row = np.tile(values, channels)
    alone = Scaling()(values)

    assert np.array_equal(Scaling()(row, channels), np.tile(alone, channels))
