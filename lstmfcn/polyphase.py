"""The convolutional block for inference on CPUs in float32, on feature maps in polyphase layout.

A feature map (batch, channels, length) is held as (4 phases, channels, columns): step 4 t + p of a series is
in phase p, column t of that series' columns. After its last step come columns of zeros, as far as a kernel
reaches, so that a shift in time is a shift of all columns at once. Before and after the phases lies what a
convolution reads of neighbouring columns, copied from them. Four neighbouring outputs, one of each phase, are
then what Winograd's filtering computes together; kernels that it doesn't suit are one matrix product a phase,
over windows of rows that need no copy. The memory of a batch serves the next one of its size: most of its
zeros stay, and views of its parts needn't be made again, which takes small networks longer than computing.

A series gets the same bits in whatever batch and at whatever place in it, because every matrix product sees
it as columns of its own. As measured with MKL that takes two things: rows of whole blocks of 16 floats
(64 bytes), and enough columns for PyTorch to leave every product to MKL.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lstmfcn import winograd
from lstmfcn.winograd import BIAS_POINT

_PHASES = winograd.OUTPUTS
_BLOCK = 16
_KEPT = 2
"""Most series, as a multiple of series_at_once, whose memory is kept for later batches of the same sizes."""
_FEWEST_MULTIPLICATIONS = 400
"""Fewest multiplications in each matrix of a batched product that PyTorch leaves to MKL; others it
computes in a loop of its own."""


class Layer(NamedTuple):
    """A convolution with ReLU after it."""

    kernel: Tensor
    """(filters, channels, taps)."""
    bias: Tensor
    """(filters,)."""
    weigh: Callable[[Tensor], Tensor] | None = None
    """Function from the means over time to what each filter is then multiplied by; both (batch, filters)."""


class PolyphaseBlock:
    """Layers, then the mean over time. A block is called always in inference mode, or never: it uses memory
    again, and PyTorch refuses to change memory of that mode outside it.
    """

    def __init__(self, layers: list[Layer], length: int) -> None:
        """`length` is the number of steps of each channel."""
        self._convolutions = [_convolution(layer.kernel, layer.bias) for layer in layers]
        self._weighs = [layer.weigh for layer in layers]
        self._channels, self._length = layers[0].kernel.shape[1], length
        reach = max(layer.kernel.shape[2] // 2 for layer in layers)
        self._width = -(-length // _PHASES) - (-reach // _PHASES)
        self._fewest_columns = max(-(-_FEWEST_MULTIPLICATIONS // layer.kernel.numel()) for layer in layers)
        most_rows = max(convolution.most_rows for convolution in self._convolutions)
        self.series_at_once = winograd.series_at_once(most_rows * self._width * 4)
        self._free_maps: dict[int, list[FeatureMap]] = {}
        """Free maps by the size of the batch; those in use are taken out, so that no threads share them."""

    def __call__(self, series: Tensor) -> Tensor:
        """(batch, channels * length) -> (batch, last filters)."""
        batch = len(series)
        maps = self._free_maps.pop(batch, None) or self._maps(batch)
        maps[0].fill(series)
        for convolution, weigh, before, after in zip(
            self._convolutions, self._weighs, maps[:-1], maps[1:], strict=True
        ):
            convolution.multiply(before.windows, out=after.phases)
            after.phases.clamp_min_(0.0)
            after.clear_padding()
            if weigh is not None:
                after.by_series *= weigh(after.means()).t().unsqueeze(2)
                after.clear_padding()  # 0 times a weight of NaN is NaN, and neighbours read it
            after.spread()
        means = maps[-1].means()
        if sum(tuple(self._free_maps)) + batch > _KEPT * self.series_at_once:
            self._free_maps.clear()
        self._free_maps[batch] = maps
        return means

    def _maps(self, batch: int) -> list[FeatureMap]:
        """Return new feature maps: that of the series, and those of what each convolution makes of them."""
        columns = max(batch * self._width, self._fewest_columns)
        columns += -columns % _BLOCK
        channels = [self._channels, *(convolution.num_filters for convolution in self._convolutions)]
        reaches = [*(convolution.reach for convolution in self._convolutions), _Reach(0, 0)]
        return [
            FeatureMap(reach, torch.zeros(reach.rows, num, columns), batch, self._width, self._length)
            for reach, num in zip(reaches, channels, strict=True)
        ]


def _convolution(kernel: Tensor, bias: Tensor) -> _Convolution:
    filters, channels, taps = kernel.shape
    chosen = _WinogradConvolution if winograd.pays(channels, filters, taps) else _DirectConvolution
    return chosen(kernel, bias)


class _Reach:
    """What a convolution that keeps the length reads of features: windows of (rows, channels, columns). Row r
    of a column is step r - `before`, counted from the column's first one. The four rows from `before` on are
    the phases themselves.
    """

    def __init__(self, before: int, after: int) -> None:
        """The convolution reads `before` steps before the first of four outputs, `after` after the last."""
        self.before, self.rows = before, before + _PHASES + after
        self._shifts = [n for n in range(-before // _PHASES, (_PHASES + after - 1) // _PHASES + 1) if n]

    def copies(self, windows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the parts of windows that are copies, each with what it copies from some columns away."""
        flat = windows.view(self.rows, -1)  # after each channel's last series come zeros
        for shift in self._shifts:
            first = max(0, _PHASES * shift + self.before)
            end = min(self.rows, _PHASES * (shift + 1) + self.before)
            target, source = flat[first:end], flat[first - _PHASES * shift : end - _PHASES * shift]
            if shift < 0:
                yield target[:, -shift:], source[:, :shift]
            else:
                yield target[:, :-shift], source[:, shift:]


class FeatureMap:
    """The features of a batch, in memory that is used again for the next batch, with views of its parts."""

    def __init__(self, reach: _Reach, windows: Tensor, batch: int, width: int, length: int) -> None:
        """`windows` are zeros, (rows, channels, columns), that the next convolution is to read; a series has
        `width` columns.
        """
        used, tiles, last_phases = batch * width, -(-length // _PHASES), length % _PHASES
        self.windows = windows
        self.phases = windows[reach.before : reach.before + _PHASES]
        """(4, channels, columns)."""
        self.by_series = self.phases[:, :, :used].view(_PHASES, -1, batch, width)
        """The same memory as (4, channels, batch, columns of a series)."""
        self._steps = self.by_series[..., :tiles].permute(2, 1, 3, 0)
        padding = [self.phases[:, :, used:], self.by_series[..., tiles:]]
        if last_phases:
            padding.append(self.by_series[last_phases:, ..., tiles - 1])
        self._padding = [part for part in padding if part.numel()]
        self._copies = list(reach.copies(windows))
        self._length = length
        self._share = windows.new_tensor(1 / length)

    def fill(self, series: Tensor) -> None:
        """Fill it with series: (batch, channels * length)."""
        batch, channels, tiles, _ = self._steps.shape
        steps = series.reshape(batch, channels, self._length)
        if missing := -self._length % _PHASES:
            steps = functional.pad(steps, (0, missing))
        self._steps.copy_(steps.view(batch, channels, tiles, _PHASES))
        self.spread()

    def clear_padding(self) -> None:
        """Write zeros where no series has a step."""
        for part in self._padding:
            part.zero_()

    def spread(self) -> None:
        """Copy the features to the other places where the windows have them."""
        for target, source in self._copies:
            target.copy_(source)

    def means(self) -> Tensor:
        """Return the means over time, (batch, channels); where there is padding the features must be zero."""
        _, channels, batch, width = self.by_series.shape
        total = self.phases.sum(0)[:, : batch * width]
        return total.view(channels, batch, width).sum(2).t() * self._share


class _Convolution(ABC):
    """One convolution that keeps the length."""

    most_rows: int
    """Rows of the largest matrix."""

    def __init__(self, kernel: Tensor, bias: Tensor) -> None:
        self.num_filters, _, taps = kernel.shape
        self.reach = _Reach((taps - 1) // 2, taps // 2)
        self._bias = bias[:, None].clone()

    @abstractmethod
    def multiply(self, windows: Tensor, out: Tensor) -> None:
        """Write to `out` what becomes of windows: (rows, channels, columns) -> (4, filters, columns)."""


class _WinogradConvolution(_Convolution):
    def __init__(self, kernel: Tensor, bias: Tensor) -> None:
        super().__init__(kernel, bias)
        filters, channels, taps = kernel.shape
        self.most_rows = self.reach.rows * max(channels, filters)
        self._transforms = winograd.transforms(taps)
        by_tap = kernel.permute(2, 0, 1).reshape(taps, -1).double()
        transformed = (self._transforms.kernel.double() @ by_tap).to(kernel.dtype)
        self._kernel = transformed.view(-1, filters, channels)

    def multiply(self, windows: Tensor, out: Tensor) -> None:
        rows, channels, columns = windows.shape
        values = self._transforms.input @ windows.view(rows, -1)
        products = torch.bmm(self._kernel, values.view(rows, channels, columns))
        products[BIAS_POINT] += self._bias
        torch.mm(self._transforms.output, products.view(rows, -1), out=out.view(_PHASES, -1))


class _DirectConvolution(_Convolution):
    def __init__(self, kernel: Tensor, bias: Tensor) -> None:
        super().__init__(kernel, bias)
        filters, channels, _ = kernel.shape
        self.most_rows = max(self.reach.rows * channels, _PHASES * filters)
        matrix = kernel.transpose(1, 2).flatten(1)  # (filters, taps * channels)
        self._kernel = matrix.contiguous().expand(_PHASES, -1, -1)

    def multiply(self, windows: Tensor, out: Tensor) -> None:
        _, channels, columns = windows.shape
        inputs = self._kernel.shape[2]
        of_phases = windows.as_strided(
            (_PHASES, inputs, columns), (channels * columns, columns, 1), windows.storage_offset()
        )
        torch.baddbmm(self._bias, self._kernel, of_phases, out=out)
