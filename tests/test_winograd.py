import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lstmfcn import winograd


@given(taps=st.integers(2, 5), seed=st.integers(0, 1000))
def test_the_transforms_compute_a_filter(taps: int, seed: int) -> None:
    torch.manual_seed(seed)
    transforms = winograd.transforms(taps)
    values, kernel = torch.randn(winograd.OUTPUTS + taps - 1), torch.randn(taps)
    expected = values.unfold(0, taps, 1) @ kernel

    products = (transforms.kernel @ kernel) * (transforms.input @ values)

    assert torch.allclose(transforms.output @ products, expected, atol=1e-5)


@pytest.mark.parametrize("taps", [2, 3, 4, 5])
def test_a_bias_at_its_point_is_added_to_each_output(taps: int) -> None:
    products = torch.zeros(winograd.OUTPUTS + taps - 1)
    products[winograd.BIAS_POINT] = 7.0

    assert (winograd.transforms(taps).output @ products).tolist() == [7.0] * winograd.OUTPUTS
