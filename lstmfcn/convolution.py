"""The convolution that the network trains with: nn.Conv1d, with faster arithmetic on CPUs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from lstmfcn import winograd
from lstmfcn.winograd import BIAS_POINT, OUTPUTS

_LARGEST_UNFOLDED = 64
"""Most inputs of an output for which one matrix product is fastest."""


class Convolution(nn.Conv1d):
    """nn.Conv1d of stride 1 without padding."""

    def __init__(self, channels: int, filters: int, taps: int) -> None:
        super().__init__(channels, filters, taps)

    def forward(self, input: Tensor) -> Tensor:
        """(batch, channels, length) -> (batch, filters, length - taps + 1).

        Under autocast on a CPU, images of height 1: (batch, channels, 1, length).
        """
        if input.device.type != "cpu":
            return super().forward(input)
        if in_bfloat16_on_cpu(input):
            return _channels_last(input, self.weight, self.bias)
        filters, channels, taps = self.weight.shape
        if input.dtype == torch.float32 and len(input) > 0 and input.shape[2] >= taps:
            if winograd.pays(channels, filters, taps):
                return _convolved(_Winograd, input, self.weight, self.bias)
            if channels * taps <= _LARGEST_UNFOLDED:
                return _convolved(_Unfolded, input, self.weight, self.bias)
        return super().forward(input)


def in_bfloat16_on_cpu(tensor: Tensor) -> bool:
    """Whether operations on a tensor run under autocast on a CPU."""
    return tensor.device.type == "cpu" and torch.is_autocast_enabled("cpu")


def _channels_last(image: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    _, channels, taps = weight.shape
    if channels * taps > _LARGEST_UNFOLDED:
        return functional.conv2d(image, weight.unsqueeze(2), bias)
    # (batch, 1, length, channels * taps)
    windows = image.unfold(3, taps, 1).permute(0, 2, 3, 1, 4).flatten(3)
    return functional.linear(windows, weight.flatten(1), bias).permute(0, 3, 1, 2)


def _convolved(function: type[torch.autograd.Function], *operands: Tensor | None) -> Tensor:
    result: Tensor = function.apply(*operands)  # type: ignore[no-untyped-call]
    return result


class _Unfolded(torch.autograd.Function):
    """One matrix product of the kernel and every window of the input."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        filters, channels, taps = weight.shape
        length = input.shape[2] - taps + 1
        windows = _windows(input, taps, 1).view(taps * channels, -1)
        kernel = weight.transpose(1, 2).reshape(filters, taps * channels)
        ctx.save_for_backward(kernel, windows)
        ctx.input_shape = input.shape
        output = torch.addmm(bias[:, None], kernel, windows).view(filters, -1, length)
        return output.transpose(0, 1).contiguous()  # which batch normalisation is fastest with

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        kernel, windows = ctx.saved_tensors
        batch, filters, length = gradient.shape
        channels = ctx.input_shape[1]
        gradient = gradient.transpose(0, 1).reshape(filters, -1)
        weight_gradient = (gradient @ windows.t()).view(filters, -1, channels).transpose(1, 2)
        input_gradient = None
        if ctx.needs_input_grad[0]:
            by_window = (kernel.t() @ gradient).view(-1, channels, batch, length)
            input_gradient = _add_windows(by_window, 1, ctx.input_shape)
        return input_gradient, weight_gradient, gradient.sum(1)


class _Winograd(torch.autograd.Function):
    """Winograd's minimal filtering, a few series at a time to stay in cache. Saves the transformed input."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        filters, channels, taps = weight.shape
        batch, _, input_length = input.shape
        length = input_length - taps + 1
        tiles = -(-length // OUTPUTS)
        transforms = winograd.transforms(taps)
        points = len(transforms.input)
        padded = functional.pad(input, (0, tiles * OUTPUTS - length))
        kernel = (transforms.kernel @ weight.permute(2, 0, 1).reshape(taps, -1)).view(points, filters, -1)
        output = input.new_empty(batch, filters, tiles, OUTPUTS)
        ctx.at_once = winograd.series_at_once(points * max(channels, filters) * tiles * input.itemsize)
        saved = []
        parts = torch.split(padded, ctx.at_once), torch.split(output, ctx.at_once)
        for some, result in zip(*parts, strict=True):
            windows = _windows(some, points, OUTPUTS)
            values = (transforms.input @ windows.view(points, -1)).view(points, channels, -1)
            products = torch.bmm(kernel, values)
            products[BIAS_POINT] += bias[:, None]
            outputs = (transforms.output @ products.view(points, -1)).view(OUTPUTS, filters, -1, tiles)
            result.copy_(outputs.permute(2, 1, 3, 0))
            saved.append(values)
        ctx.save_for_backward(kernel, *saved)
        ctx.taps, ctx.input_length, ctx.tiles = taps, input_length, tiles
        return output.view(batch, filters, -1)[:, :, :length].contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        kernel, *saved = ctx.saved_tensors
        points, filters, channels = kernel.shape
        transforms = winograd.transforms(ctx.taps)
        bias_gradient = gradient.sum((0, 2))
        gradient = functional.pad(gradient, (0, ctx.tiles * OUTPUTS - gradient.shape[2]))
        kernel_gradient = torch.zeros_like(kernel)
        input_gradients = []
        for some, values in zip(torch.split(gradient, ctx.at_once), saved, strict=True):
            outputs = _windows(some, OUTPUTS, OUTPUTS)
            products = (transforms.output.t() @ outputs.view(OUTPUTS, -1)).view(points, filters, -1)
            kernel_gradient.baddbmm_(products, values.transpose(1, 2))
            if ctx.needs_input_grad[0]:
                by_value = torch.bmm(kernel.transpose(1, 2), products).view(points, -1)
                windows = (transforms.input.t() @ by_value).view(points, channels, len(some), ctx.tiles)
                shape = (len(some), channels, points - OUTPUTS + ctx.tiles * OUTPUTS)
                input_gradients.append(_add_windows(windows, OUTPUTS, shape))
        weight_gradient = transforms.kernel.t() @ kernel_gradient.view(points, -1)
        return (
            torch.cat(input_gradients)[:, :, : ctx.input_length] if input_gradients else None,
            weight_gradient.view(ctx.taps, filters, channels).permute(1, 2, 0),
            bias_gradient,
        )


def _windows(input: Tensor, size: int, step: int) -> Tensor:
    """(batch, channels, length) -> (size, channels, batch, count): windows that begin `step` apart."""
    return input.unfold(2, size, step).permute(3, 1, 0, 2).contiguous()


def _add_windows(windows: Tensor, step: int, shape: tuple[int, int, int]) -> Tensor:
    """Add every window where _windows took it from, in zeros of `shape`: the transpose of _windows."""
    size, channels, batch, count = windows.shape
    total = windows.new_zeros(shape)
    by_series, by_channel, _ = total.stride()
    for start in range(0, size, step):
        some = windows[start : start + step]  # no two of these overlap
        strides = (1, by_channel, by_series, step)
        total.as_strided((len(some), channels, batch, count), strides, start).add_(some)
    return total
