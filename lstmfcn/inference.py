"""The network arranged for inference: the same function of a series as the model in evaluation mode, faster.

Batch normalisation is folded into the convolutions, which run channels-last; each LSTM layer's only step
is one matrix product, without the recurrent kernel and the forget gate, which a zero state cancels.

A series gets the same bits in whatever batch and at whatever place in it, though matrix libraries choose
their kernels by shape and by the alignment of rows in memory. So, on CPUs as measured with MKL and oneDNN:
matrix products have at least 16 rows, each a multiple of 16 floats (64 bytes) long, in fresh, aligned
memory; convolutions have at least 2 series and no kernel of one step, which would run as a matrix product.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lstmfcn.model import LSTMFCN

_MATMUL_ROWS = 16
_MATMUL_COLUMNS = 16
_CONVOLUTION_ROWS = 2


class InferenceNetwork:
    """Made from a model in evaluation mode; keeps to the model's device."""

    @torch.inference_mode()
    def __init__(self, model: LSTMFCN) -> None:
        self._steps = [_LSTMStep(layer) for layer in model.recurrent.layers if isinstance(layer, nn.LSTM)]
        self._convolutions = [_Convolution(layer) for layer in model.convolutional.layers]
        self._weight = _aligned(model.linear.weight, model.linear.out_features)
        self._bias = model.linear.bias.clone()

    @torch.inference_mode()
    def __call__(self, series: Tensor) -> Tensor:
        """Scaled series (batch, length) -> probabilities (batch, classes)."""
        batch = len(series)
        hidden = series
        for step in self._steps:
            hidden = step(_aligned(hidden, _MATMUL_ROWS))
        features = torch.cat([hidden[:batch], self._convolve(series)], dim=1)
        logits = functional.linear(_aligned(features, _MATMUL_ROWS), self._weight, self._bias)
        return torch.softmax(logits, dim=1)[:batch]

    def _convolve(self, series: Tensor) -> Tensor:
        """(batch, length) -> (batch, filters_3)."""
        batch, length = series.shape
        image = series.new_zeros(max(batch, _CONVOLUTION_ROWS), 1, 1, length)
        image[:batch, 0, 0] = series
        for convolution in self._convolutions:
            image = convolution(image)  # (batch, filters, 1, length)
        return image.mean(dim=(2, 3))[:batch]


class _LSTMStep:
    """One step of an LSTM layer from a state of zeros."""

    def __init__(self, lstm: nn.LSTM) -> None:
        input_kernel, _, input_bias, recurrent_bias = lstm.all_weights[0]
        into, _, cell, out = input_kernel.chunk(4)
        into_bias, _, cell_bias, out_bias = (input_bias + recurrent_bias).chunk(4)
        self._kernel = _aligned(torch.cat([into, out, cell]), 3 * lstm.hidden_size)
        self._bias = torch.cat([into_bias, out_bias, cell_bias])
        self._size = lstm.hidden_size

    def __call__(self, features: Tensor) -> Tensor:
        """(batch, features) -> (batch, hidden)."""
        gates = functional.linear(features, self._kernel, self._bias)
        into, out = gates[:, : 2 * self._size].sigmoid().chunk(2, dim=1)
        return out * (into * gates[:, 2 * self._size :].tanh()).tanh()


class _Convolution:
    """Padding, convolution, batch normalisation and ReLU as one convolution of images of height 1."""

    def __init__(self, layer: nn.Module) -> None:
        _, convolution, norm, _ = layer.children()
        assert isinstance(convolution, nn.Conv1d)
        assert isinstance(norm, nn.BatchNorm1d)
        assert convolution.bias is not None
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        kernel = convolution.weight * scale[:, None, None]
        if kernel.shape[2] == 1:
            kernel = functional.pad(kernel, (1, 1))
        size = kernel.shape[2]
        self._kernel = kernel.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        self._bias = (convolution.bias - norm.running_mean) * scale + norm.bias
        self._right = size // 2 - (size - 1) // 2  # an even kernel's odd step of padding
        self._both = (size - 1) // 2

    def __call__(self, image: Tensor) -> Tensor:
        """(batch, channels, 1, length) -> (batch, filters, 1, length)."""
        if self._right:
            image = functional.pad(image, (0, self._right))
        image = image.contiguous(memory_format=torch.channels_last)
        return functional.conv2d(image, self._kernel, self._bias, padding=(0, self._both)).relu_()


def _aligned(matrix: Tensor, least_rows: int) -> Tensor:
    """A copy in fresh memory, filled up with zeros to `least_rows` rows and whole blocks of columns."""
    rows, columns = matrix.shape
    padded = matrix.new_zeros(max(rows, least_rows), columns + -columns % _MATMUL_COLUMNS)
    padded[:rows, :columns] = matrix
    return padded
