"""The network arranged for inference: the same function of a series as the model in evaluation mode, faster.

Batch normalisation is folded into the convolutions; each LSTM layer is one matrix product, without the
forget gate, which a zero state cancels. On a CPU in float32 the convolutions run in polyphase layout; on a
GPU, and in 16 bits, channels-last through the vendor's kernels.

A series must get the same bits in whatever batch and at whatever place in it, though matrix libraries choose
their kernels by shape and by the alignment of rows in memory. On a CPU in float32 it does, as measured with
MKL on AVX2: matrix products have at least 16 rows, each a multiple of 16 floats (64 bytes) long, in fresh,
aligned memory, and the caller gives the network one thread. Otherwise every batch must be filled up to the
same size: `needs_full_batches`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lstmfcn.model import LSTMFCN, OneStepLSTM
from lstmfcn.polyphase import PolyphaseBlock
from lstmfcn.tasks import TaskName, class_logits, probabilities

_MATMUL_ROWS = 16
_MATMUL_COLUMNS = 16
_LONGEST_POLYPHASE_KERNEL = 16
"""Longer ones pad every series too much."""

_SERIES_AT_ONCE_ON_CPU = 64
_SERIES_AT_ONCE_ON_GPU = 1024
_FEATURES_AT_ONCE_ON_GPU = 1 << 26
"""Numbers in the largest feature map: 256 MiB of float32."""


class InferenceNetwork:
    """Made from a model in evaluation mode; keeps to the model's device.

    The convolutions compute in `dtype`, the rest in float32.
    """

    @torch.inference_mode()
    def __init__(
        self,
        model: LSTMFCN,
        dtype: torch.dtype = torch.float32,
        temperature: float = 1.0,
        task: TaskName = "multiclass",
    ) -> None:
        self._temperature, self._task = temperature, task
        self._steps = [_LSTMStep(layer) for layer in model.recurrent.layers if isinstance(layer, OneStepLSTM)]
        self._weight = _aligned(class_logits(task, model.linear.weight.T).T, 1)
        self._bias = class_logits(task, model.linear.bias.clone())
        folded = [_folded(layer) for layer in model.convolutional.layers]
        on_gpu = self._bias.device.type != "cpu"
        length = model.recurrent.length
        longest_kernel = max(kernel.shape[2] for kernel, _ in folded)
        self.needs_full_batches = (
            on_gpu or dtype != torch.float32 or longest_kernel > _LONGEST_POLYPHASE_KERNEL
        )
        """Whether a series gets the same bits only in batches of `series_at_once`."""
        self._convolve: PolyphaseBlock | _ImageBlock
        if not self.needs_full_batches:
            self._convolve = PolyphaseBlock(folded, length)
            self.series_at_once = self._convolve.series_at_once
        else:
            self._convolve = _ImageBlock(folded, dtype)
            self.series_at_once = _SERIES_AT_ONCE_ON_CPU
            if on_gpu:
                features = length * max(len(kernel) for kernel, _ in folded)
                self.series_at_once = max(
                    1, min(_SERIES_AT_ONCE_ON_GPU, _FEATURES_AT_ONCE_ON_GPU // features)
                )

    @torch.inference_mode()
    def logits(self, series: Tensor) -> Tensor:
        """Scaled series (batch, length) -> logits (batch, classes)."""
        batch = len(series)
        hidden = series
        for step in self._steps:
            hidden = step(_aligned(hidden, _MATMUL_ROWS))
        features = torch.cat([hidden[:batch], self._convolve(series)], dim=1)
        return functional.linear(_aligned(features, _MATMUL_ROWS), self._weight, self._bias)[:batch]

    @torch.inference_mode()
    def __call__(self, series: Tensor) -> Tensor:
        """Scaled series (batch, length) -> probabilities (batch, classes)."""
        return probabilities(self._task, self.logits(series) / self._temperature)


class _LSTMStep:
    """One step of an LSTM layer from a state of zeros."""

    def __init__(self, lstm: OneStepLSTM) -> None:
        into, _, cell, out = lstm.gate_kernel().chunk(4)
        into_bias, _, cell_bias, out_bias = lstm.gate_bias().chunk(4)
        self._kernel = _aligned(torch.cat([into, out, cell]), 3 * lstm.hidden_size)
        self._bias = torch.cat([into_bias, out_bias, cell_bias])
        self._size = lstm.hidden_size

    def __call__(self, features: Tensor) -> Tensor:
        """(batch, features) -> (batch, hidden)."""
        gates = functional.linear(features, self._kernel, self._bias)
        into, out = gates[:, : 2 * self._size].sigmoid().chunk(2, dim=1)
        return out * (into * gates[:, 2 * self._size :].tanh()).tanh()


class _ImageBlock:
    """Convolutions with ReLU after each, of channels-last images of height 1; then the mean over time."""

    def __init__(self, folded: list[tuple[Tensor, Tensor]], dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._layers = [
            (kernel.unsqueeze(2).to(dtype, memory_format=torch.channels_last), bias.to(dtype))
            for kernel, bias in folded
        ]

    def __call__(self, series: Tensor) -> Tensor:
        """(batch, length) -> (batch, last filters), in float32."""
        image = series[:, None, None].to(self._dtype)  # (batch, channels, 1, length)
        for kernel, bias in self._layers:
            before, after = (kernel.shape[3] - 1) // 2, kernel.shape[3] // 2
            if after > before:  # an even kernel's odd step
                image = functional.pad(image, (0, 1))
            image = image.contiguous(memory_format=torch.channels_last)
            image = functional.conv2d(image, kernel, bias, padding=(0, before)).relu_()
        return image.mean(dim=(2, 3), dtype=torch.float32)


def _folded(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Convolution and batch normalisation as one: kernel (filters, channels, taps) and bias (filters,)."""
    _, convolution, norm, _ = layer.children()
    assert isinstance(convolution, nn.Conv1d)
    assert isinstance(norm, nn.BatchNorm1d)
    assert convolution.bias is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    bias = (convolution.bias - norm.running_mean) * scale + norm.bias
    return convolution.weight * scale[:, None, None], bias


def _aligned(matrix: Tensor, least_rows: int) -> Tensor:
    """A copy in fresh memory, filled up with zeros to `least_rows` rows and whole blocks of columns."""
    rows, columns = matrix.shape
    return functional.pad(matrix, (0, -columns % _MATMUL_COLUMNS, 0, max(0, least_rows - rows)))
