"""The network arranged for inference: the same function of a series as the model in evaluation mode, faster.

Batch normalisation is folded into the convolutions; for series of a single channel each LSTM layer is one
matrix product, without the forget gate, which a zero state cancels. On a CPU in float32 the convolutions run
in polyphase layout; on a GPU, and in 16 bits, channels-last through the vendor's kernels.

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

from lstmfcn.model import LSTM, LSTMFCN, SqueezeExcite
from lstmfcn.polyphase import Layer, PolyphaseBlock
from lstmfcn.tasks import TaskName, class_logits, probabilities

_MATMUL_ROWS = 16
_MATMUL_COLUMNS = 16
_LONGEST_POLYPHASE_KERNELS = (64, 16, 16)
"""Longest kernel of each layer in polyphase layout: a longer first one would pad every series too much, and
longer others, which have many channels, would multiply too much."""

_SERIES_AT_ONCE_ON_CPU = 64
_SERIES_AT_ONCE_ON_GPU = 1024
_FEATURES_AT_ONCE_ON_CPU = 1 << 22
_FEATURES_AT_ONCE_ON_GPU = 1 << 26
"""Most numbers in the largest feature map: 256 MiB of float32."""


class InferenceNetwork:
    """A network for inference, made from a model in evaluation mode, on the model's device.

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
        lstms = [layer for layer in model.recurrent.layers if isinstance(layer, LSTM)]
        self._recur = _OneStep(lstms) if model.channels == 1 else _ManySteps(lstms, model.channels)
        self._weight = _aligned(class_logits(task, model.linear.weight.T).T, 1)
        self._bias = class_logits(task, model.linear.bias.clone())
        layers = [_folded(layer, model.length) for layer in model.convolutional.layers]
        on_gpu = self._bias.device.type != "cpu"
        has_long_kernels = any(
            layer.kernel.shape[2] > longest
            for layer, longest in zip(layers, _LONGEST_POLYPHASE_KERNELS, strict=True)
        )
        self.needs_full_batches = on_gpu or dtype != torch.float32 or has_long_kernels
        """Whether a series gets the same bits only in batches of `series_at_once`."""
        self._convolve: PolyphaseBlock | _ImageBlock
        if not self.needs_full_batches:
            self._convolve = PolyphaseBlock(layers, model.length)
            self.series_at_once = self._convolve.series_at_once
        else:
            self._convolve = _ImageBlock(layers, dtype)
            most, most_features = (
                (_SERIES_AT_ONCE_ON_GPU, _FEATURES_AT_ONCE_ON_GPU)
                if on_gpu
                else (_SERIES_AT_ONCE_ON_CPU, _FEATURES_AT_ONCE_ON_CPU)
            )
            self.series_at_once = max(1, min(most, most_features // model.num_features))

    @torch.inference_mode()
    def logits(self, series: Tensor) -> Tensor:
        """Scaled series (batch, channels * length) -> logits (batch, classes)."""
        batch = len(series)
        features = torch.cat([self._recur(series)[:batch], self._convolve(series)], dim=1)
        return functional.linear(_aligned(features, _MATMUL_ROWS), self._weight, self._bias)[:batch]

    @torch.inference_mode()
    def __call__(self, series: Tensor) -> Tensor:
        """Scaled series (batch, channels * length) -> probabilities (batch, classes)."""
        logits = self.logits(series)
        return probabilities(self._task, logits if self._temperature == 1 else logits / self._temperature)


class _OneStep:
    """LSTM layers over a series as a single step."""

    def __init__(self, lstms: list[LSTM]) -> None:
        self._layers = [_LSTMStep(lstm) for lstm in lstms]

    def __call__(self, series: Tensor) -> Tensor:
        """(batch, length) -> (batch or more, hidden)."""
        hidden = series
        for layer in self._layers:
            hidden = layer(_aligned(hidden, _MATMUL_ROWS))
        return hidden


class _ManySteps:
    """LSTM layers over the channels as steps: the model's own, filled up with units of zero weights, whose
    states stay 0, so that every matrix has rows of whole blocks.
    """

    def __init__(self, lstms: list[LSTM], channels: int) -> None:
        self._layers = [_filled_up(lstm) for lstm in lstms]
        self._channels, self._size = channels, lstms[-1].hidden_size

    def __call__(self, series: Tensor) -> Tensor:
        """(batch, channels * length) -> (batch or more, hidden)."""
        by_channel = series.reshape(len(series) * self._channels, -1)
        aligned = _aligned(by_channel, _MATMUL_ROWS * self._channels)
        steps = torch.unflatten(aligned, 0, (-1, self._channels))
        for layer in self._layers:
            steps = layer(steps)
        return steps[:, -1, : self._size]


def _filled_up(lstm: LSTM) -> LSTM:
    sizes = [size + -size % _MATMUL_COLUMNS for size in (lstm.input_size, lstm.hidden_size)]
    with torch.device("meta"):  # where no random number is drawn
        filled = type(lstm)(*sizes).requires_grad_(False)
    weights = {}
    for name, empty in filled.state_dict().items():
        num_gates = max(1, len(empty) // filled.hidden_size)
        weight = lstm.state_dict()[name].unflatten(0, (num_gates, -1))
        weights[name] = weight.new_zeros(num_gates, len(empty) // num_gates, *empty.shape[1:])
        weights[name][tuple(map(slice, weight.shape))] = weight
        weights[name] = weights[name].flatten(0, 1)
    filled.load_state_dict(weights, assign=True)
    return filled


class _LSTMStep:
    """One step of an LSTM layer from a state of zeros.

    The sigmoid of x is (tanh(x / 2) + 1) / 2. So there is one function for all gates, and unlike
    torch.sigmoid it doesn't round a number by its place in memory.
    """

    def __init__(self, lstm: LSTM) -> None:
        into, _, cell, out = lstm.gate_kernel().chunk(4)
        into_bias, _, cell_bias, out_bias = lstm.gate_bias().chunk(4)
        self._kernel = _aligned(torch.cat([into / 2, cell, out / 2]), 3 * lstm.hidden_size)
        self._bias = torch.cat([into_bias / 2, cell_bias, out_bias / 2])
        self._half = self._bias.new_tensor(0.5)

    def __call__(self, features: Tensor) -> Tensor:
        """(batch, features) -> (batch, hidden)."""
        into, cell, out = functional.linear(features, self._kernel, self._bias).tanh_().chunk(3, dim=1)
        state = torch.addcmul(cell, into, cell).mul_(self._half).tanh_()
        return torch.addcmul(state, out, state).mul_(self._half)


class _ImageBlock:
    """Layers that work on channels-last images of height 1, then the mean over time."""

    def __init__(self, layers: list[Layer], dtype: torch.dtype) -> None:
        self._dtype, self._largest = dtype, torch.finfo(dtype).max
        self._channels = layers[0].kernel.shape[1]
        self._layers = [
            Layer(kernel.unsqueeze(2).to(dtype, memory_format=torch.channels_last), bias.to(dtype), weigh)
            for kernel, bias, weigh in layers
        ]

    def __call__(self, series: Tensor) -> Tensor:
        """(batch, channels * length) -> (batch, last filters), in float32."""
        image = torch.unflatten(series, 1, (self._channels, 1, -1)).to(self._dtype)
        for kernel, bias, weigh in self._layers:
            before, after = (kernel.shape[3] - 1) // 2, kernel.shape[3] // 2
            if after > before:  # an even kernel's odd step
                image = functional.pad(image, (0, 1))
            image = image.contiguous(memory_format=torch.channels_last)
            image = functional.conv2d(image, kernel, bias, padding=(0, before))
            image.clamp_(0, self._largest)  # the ReLU; in 16 bits, what overflows would become NaN
            if weigh is not None:
                weights = weigh(image.mean(dim=(2, 3), dtype=torch.float32))
                image *= weights[..., None, None].to(self._dtype)
        return image.mean(dim=(2, 3), dtype=torch.float32)


class _Excitation:
    """Computes what squeeze-and-excite multiplies the filters by."""

    def __init__(self, block: SqueezeExcite) -> None:
        # With a single row of weights the product would not be one of matrices.
        self._squeeze = _aligned(block.squeeze.weight, _MATMUL_COLUMNS)
        self._excite = _aligned(block.excite.weight, _MATMUL_COLUMNS)

    def __call__(self, means: Tensor) -> Tensor:
        """Means over time (batch, filters) -> factors (batch, filters)."""
        squeezed = functional.linear(_aligned(means, _MATMUL_ROWS), self._squeeze).relu_()
        excited = functional.linear(_aligned(squeezed, _MATMUL_ROWS), self._excite)
        # torch.sigmoid rounds a number by its place in memory, the tangent doesn't.
        batch, filters = means.shape
        return (excited[:batch, :filters] / 2).tanh() / 2 + 0.5


def _folded(layer: nn.Module, length: int) -> Layer:
    """Return convolution and batch normalisation as one layer, without taps that meet only padding in series
    of this length.
    """
    _, convolution, norm, _, *excite = layer.children()
    assert isinstance(convolution, nn.Conv1d)
    assert isinstance(norm, nn.BatchNorm1d)
    assert convolution.bias is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    bias = (convolution.bias - norm.running_mean) * scale + norm.bias
    weigh = [_Excitation(block) for block in excite if isinstance(block, SqueezeExcite)]
    (taps,) = convolution.kernel_size
    before, after = (max(0, reach - (length - 1)) for reach in ((taps - 1) // 2, taps // 2))
    kernel = convolution.weight[:, :, before : taps - after] * scale[:, None, None]
    return Layer(kernel, bias, *weigh)


def _aligned(matrix: Tensor, least_rows: int) -> Tensor:
    """Return a copy in fresh memory, filled up with zeros to `least_rows` and to whole blocks of columns."""
    rows, columns = matrix.shape
    return functional.pad(matrix, (0, -columns % _MATMUL_COLUMNS, 0, max(0, least_rows - rows)))
