"""The convolutional block for inference on CPUs in float32, on feature maps in polyphase layout.

A feature map (batch, channels, length) is held as (4 phases, channels, columns): step 4 t + p of a series is
in phase p, column t of that series' columns. After its last step come columns of zeros, as far as a kernel
reaches, so that a shift in time is a shift of all columns at once. Before and after the phases lies what a
convolution reads of neighbouring columns, copied from them. Four neighbouring outputs, one of each phase, are
then what Winograd's filtering computes together; kernels that it doesn't suit are one matrix product a phase,
over windows of rows that need no copy.

A series gets the same bits in whatever batch and at whatever place in it, because every matrix product sees
it as columns of its own. As measured with MKL that takes two things: rows of whole blocks of 16 floats
(64 bytes), and enough columns for PyTorch to leave every product to MKL.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lstmfcn import winograd
from lstmfcn.winograd import BIAS_POINT

_PHASES = winograd.OUTPUTS
_BLOCK = 16
_FEW_VALUES = 1 << 14
"""In a convolution's windows: so many are gathered one by one in less time than by slices."""
_FEWEST_MULTIPLICATIONS = 400
"""A batched product with fewer than these in each matrix is computed by PyTorch's own loop."""


class Layer(NamedTuple):
    """A convolution with ReLU after it."""

    kernel: Tensor
    """(filters, channels, taps)."""
    bias: Tensor
    """(filters,)."""
    weigh: Callable[[Tensor], Tensor] | None = None
    """From the means over time to what each filter is multiplied by at last; (batch, filters) both."""


class PolyphaseBlock:
    """Layers, then the mean over time."""

    def __init__(self, layers: list[Layer], length: int) -> None:
        """For series of `length` steps in each channel."""
        convolutions = [_convolution(layer.kernel, layer.bias) for layer in layers]
        self._first = convolutions[0].reach
        followings = [*(convolution.reach for convolution in convolutions[1:]), _Reach(0, 0)]
        weighs = [layer.weigh for layer in layers]
        self._layers = list(zip(convolutions, weighs, followings, strict=True))
        """Each with what the next one reads of its features."""
        self._channels, self._length = layers[0].kernel.shape[1], length
        self._tiles = -(-length // _PHASES)
        reach = max(layer.kernel.shape[2] // 2 for layer in layers)
        self._width = self._tiles - (-reach // _PHASES)
        self._fewest_columns = max(-(-_FEWEST_MULTIPLICATIONS // layer.kernel.numel()) for layer in layers)
        most_rows = max(convolution.most_rows for convolution in convolutions)
        self._few = _FEW_VALUES // (most_rows * self._width)
        self._known_gathers: dict[int, list[Any]] = {}
        self.series_at_once = winograd.series_at_once(most_rows * self._width * 4)

    def __call__(self, series: Tensor) -> Tensor:
        """(batch, channels * length) -> (batch, last filters)."""
        batch = len(series)
        features = self._of_few(series) if batch <= self._few else self._of_many(series)
        return self._means(features, batch)

    def _means(self, features: Tensor, batch: int) -> Tensor:
        """Over time, of features without padding: (4, filters, columns) -> (batch, filters)."""
        total = features.sum(0)[:, : batch * self._width]
        return total.view(-1, batch, self._width).sum(2).t() / self._length

    def _of_many(self, series: Tensor) -> Tensor:
        """(batch, channels * length) -> the last layer's features, (4, filters, columns)."""
        batch = len(series)
        windows = self._windows(series)
        for convolution, weigh, following in self._layers:
            following_windows = following.room(windows, convolution.num_filters, windows.shape[2])
            features = following.phases(following_windows)
            convolution.multiply(windows, out=features)
            features.clamp_min_(0.0)
            self._clear_padding(features, batch)
            if weigh is not None:
                self._weigh(features, weigh, batch)
            following.spread(following_windows)
            windows = following_windows
        return windows

    def _of_few(self, series: Tensor) -> Tensor:
        """The same bits, where calling PyTorch so often would take longer than computing."""
        *gathers, is_padding = self._gathers(len(series))
        features = series
        for (convolution, weigh, _), (index, is_empty) in zip(self._layers, gathers, strict=True):
            windows = features.reshape(-1).index_select(0, index).view(is_empty.shape)
            features = convolution.multiply(windows.masked_fill_(is_empty, 0)).clamp_min_(0.0)
            if weigh is not None:
                self._weigh(features.masked_fill_(is_padding, 0), weigh, len(series))
        return features.masked_fill_(is_padding, 0)

    def _weigh(self, features: Tensor, weigh: Callable[[Tensor], Tensor], batch: int) -> None:
        """Multiply each filter by its weight, in place."""
        weights = weigh(self._means(features, batch))
        by_series = features[:, :, : batch * self._width].view(_PHASES, -1, batch, self._width)
        by_series *= weights.t().unsqueeze(2)

    def _gathers(self, batch: int) -> list[Any]:
        """For each convolution where in the features before it each value of its windows is found, and which
        are zero; at last, where features are padding, (4, 1, columns). Found by sending positions through
        instead of values.
        """
        if batch in self._known_gathers:
            return self._known_gathers[batch]
        gathers: list[Any] = []
        values = self._channels * self._length
        windows = self._windows(torch.arange(1, batch * values + 1).view(batch, values))
        for convolution, _, following in self._layers:
            gathers.append(((windows - 1).clamp_min_(0).flatten(), windows == 0))
            windows = following.room(windows, convolution.num_filters, windows.shape[2])
            features = following.phases(windows)
            torch.arange(1, features.numel() + 1, out=features.view(-1))
            self._clear_padding(features, batch)
            following.spread(windows)
        gathers.append(windows[:, :1] == 0)
        self._known_gathers[batch] = gathers
        return gathers

    def _windows(self, series: Tensor) -> Tensor:
        """(batch, channels * length) -> what the first convolution reads, (rows, channels, columns)."""
        batch = len(series)
        used = batch * self._width
        columns = max(used, self._fewest_columns)
        windows = self._first.room(series, self._channels, columns + -columns % _BLOCK)
        phases = self._first.phases(windows)
        phases[:, :, used:] = 0
        by_channel = series.reshape(batch, self._channels, self._length)
        padded = functional.pad(by_channel, (0, self._width * _PHASES - self._length))
        steps = padded.view(batch, self._channels, self._width, _PHASES).permute(3, 1, 0, 2)
        phases[:, :, :used].view(_PHASES, self._channels, batch, self._width).copy_(steps)
        self._first.spread(windows)
        return windows

    def _clear_padding(self, features: Tensor, batch: int) -> None:
        """Zeros where no series has a step."""
        used = batch * self._width
        features[:, :, used:] = 0
        by_series = features[:, :, :used].view(_PHASES, -1, batch, self._width)
        by_series[..., self._tiles :] = 0
        last_phases = self._length % _PHASES
        if last_phases:
            by_series[last_phases:, ..., self._tiles - 1] = 0


def _convolution(kernel: Tensor, bias: Tensor) -> _Convolution:
    filters, channels, taps = kernel.shape
    chosen = _WinogradConvolution if winograd.pays(channels, filters, taps) else _DirectConvolution
    return chosen(kernel, bias)


class _Reach:
    """What a convolution that keeps the length reads of features: windows of (rows, channels, columns), of
    which row r of a column is the step r - before, counted from the first one in the column. The rows from
    `before` on are the four phases themselves.
    """

    def __init__(self, before: int, after: int) -> None:
        """Steps `before` the first and `after` the last of four outputs."""
        self._before, self.rows = before, before + _PHASES + after
        shifts = range(-before // _PHASES, (_PHASES + after - 1) // _PHASES + 1)
        self._copied = [self._copies(shift) for shift in shifts if shift != 0]

    def _copies(self, shift: int) -> tuple[slice, slice, int]:
        """Rows that are copies, those that they are copied from, and by how many columns they are ahead."""
        first = max(0, _PHASES * shift + self._before)
        end = min(self.rows, _PHASES * (shift + 1) + self._before)
        return slice(first, end), slice(first - _PHASES * shift, end - _PHASES * shift), shift

    def room(self, like: Tensor, channels: int, columns: int) -> Tensor:
        """For windows of numbers of the same type."""
        return like.new_empty(self.rows, channels, columns)

    def phases(self, windows: Tensor) -> Tensor:
        """The features in windows: (4, channels, columns)."""
        return windows[self._before : self._before + _PHASES]

    def spread(self, windows: Tensor) -> None:
        """Copy the features to the other rows."""
        flat = windows.view(self.rows, -1)  # after each channel's last series come zeros
        for targets, sources, shift in self._copied:
            target, source = flat[targets], flat[sources]
            if shift < 0:
                target[:, :-shift] = 0
                target[:, -shift:] = source[:, :shift]
            else:
                target[:, -shift:] = 0
                target[:, :-shift] = source[:, shift:]


class _Convolution(ABC):
    """One convolution that keeps the length."""

    def __init__(self, kernel: Tensor, bias: Tensor) -> None:
        filters, channels, taps = kernel.shape
        self.num_filters = filters
        self.reach = _Reach((taps - 1) // 2, taps // 2)
        self._bias = bias[:, None].clone()
        self.most_rows = self.reach.rows * max(channels, filters)
        """Rows of the largest matrix."""

    @abstractmethod
    def multiply(self, windows: Tensor, out: Tensor | None = None) -> Tensor:
        """(rows, channels, columns) -> (4, filters, columns)."""


class _WinogradConvolution(_Convolution):
    def __init__(self, kernel: Tensor, bias: Tensor) -> None:
        super().__init__(kernel, bias)
        filters, channels, taps = kernel.shape
        self._transforms = winograd.transforms(taps)
        by_tap = kernel.permute(2, 0, 1).reshape(taps, -1).double()
        transformed = (self._transforms.kernel.double() @ by_tap).to(kernel.dtype)
        self._kernel = transformed.view(-1, filters, channels)

    def multiply(self, windows: Tensor, out: Tensor | None = None) -> Tensor:
        rows, channels, columns = windows.shape
        values = self._transforms.input @ windows.view(rows, -1)
        products = torch.bmm(self._kernel, values.view(rows, channels, columns))
        products[BIAS_POINT] += self._bias
        flat = None if out is None else out.view(_PHASES, -1)
        return torch.mm(self._transforms.output, products.view(rows, -1), out=flat).view(_PHASES, -1, columns)


class _DirectConvolution(_Convolution):
    def __init__(self, kernel: Tensor, bias: Tensor) -> None:
        super().__init__(kernel, bias)
        matrix = kernel.transpose(1, 2).flatten(1)  # (filters, taps * channels)
        self._kernel = matrix.contiguous().expand(_PHASES, -1, -1)

    def multiply(self, windows: Tensor, out: Tensor | None = None) -> Tensor:
        _, channels, columns = windows.shape
        inputs = self._kernel.shape[2]
        of_phases = windows.as_strided(
            (_PHASES, inputs, columns), (channels * columns, columns, 1), windows.storage_offset()
        )
        return torch.baddbmm(self._bias, self._kernel, of_phases, out=out)
