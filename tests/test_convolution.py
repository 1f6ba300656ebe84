import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lstmfcn.convolution import Convolution


@given(
    batch=st.integers(1, 40),
    channels=st.sampled_from([1, 4, 32, 40]),
    filters=st.sampled_from([1, 7, 32, 33]),
    taps=st.integers(1, 9),
    length=st.integers(1, 30),
)
@settings(max_examples=100)
def test_values_and_gradients_are_those_of_a_plain_convolution(
    batch: int, channels: int, filters: int, taps: int, length: int
) -> None:
    torch.manual_seed(0)
    convolution = Convolution(channels, filters, taps)
    plain = nn.Conv1d(channels, filters, taps).double()
    plain.load_state_dict(convolution.state_dict())
    series = torch.randn(batch, channels, length + taps - 1, requires_grad=True)
    exact_series = series.detach().double().requires_grad_()
    weights = torch.randn(batch, filters, length)

    output, exact_output = convolution(series), plain(exact_series)
    (output * weights).sum().backward()
    (exact_output * weights).sum().backward()

    assert convolution.bias is not None
    assert plain.bias is not None
    pairs = [
        (output.detach(), exact_output.detach()),
        (series.grad, exact_series.grad),
        (convolution.weight.grad, plain.weight.grad),
        (convolution.bias.grad, plain.bias.grad),
    ]
    for ours, exact in pairs:
        assert ours is not None
        assert exact is not None
        scale = max(1.0, float(exact.abs().max()))
        assert torch.allclose(ours.double(), exact, rtol=0, atol=2e-5 * scale)


@pytest.mark.parametrize(("channels", "taps"), [(1, 8), (40, 5), (40, 9)])
def test_under_autocast_images_are_convolved_in_bfloat16_channels_last(channels: int, taps: int) -> None:
    torch.manual_seed(0)
    convolution = Convolution(channels, 33, taps)
    series = torch.randn(3, channels, 20)

    with torch.autocast("cpu", torch.bfloat16):
        output = convolution(series.unsqueeze(2).contiguous(memory_format=torch.channels_last))
    output.sum().backward()

    assert output.dtype == torch.bfloat16
    assert output.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(output.squeeze(2).float(), convolution(series), atol=0.05)
    assert convolution.weight.grad is not None
    assert convolution.weight.grad.dtype == torch.float32
