"""Initial first kernels that see how neighbouring values differ.

Neighbouring values of a smooth series are alike, so all random kernels answer with nearly the same feature,
the local mean. Kernels that are multiplied by the inverse root of the windows' second moments answer in all
directions alike. Known from images: Coates and Ng, "The Importance of Encoding Versus Training with Sparse
Coding and Vector Quantization", ICML 2011; as the first layer of a network: Jordan, arXiv 2404.00498,
section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_LEAST_SHARE = 1e-4
"""Share of the largest eigenvalue that is added to all, which bounds how much a direction is magnified."""
_MOST_CASES = 2048
_VALUES_AT_ONCE = 1 << 22


@torch.no_grad()
def whiten(layer: nn.Sequential, series: Tensor) -> None:
    """Whiten, in place, every second kernel of (padding, convolution) with the second moments of the windows
    of series, (cases, channels * length). Each channel is treated by itself; one of zeros only leaves its
    kernels as they are.

    The others stay random: where small differences are noise, the local mean is what tells classes apart.
    """
    padding, convolution, *_ = layer.children()
    assert isinstance(convolution, nn.Conv1d)
    kernels = convolution.weight[1::2]
    _, channels, taps = kernels.shape
    some = series[:: -(-len(series) // _MOST_CASES)]
    for channel, of_channel in enumerate(torch.unflatten(some, 1, (channels, -1)).unbind(1)):
        root = _inverse_root(_second_moments(of_channel, padding, taps))
        kernels[:, channel] = kernels[:, channel] @ root.to(kernels.dtype)


def _second_moments(series: Tensor, padding: nn.Module, taps: int) -> Tensor:
    """Return the second moments of all windows of `taps` steps: (taps, taps), in float64."""
    moments = torch.zeros(taps, taps, dtype=torch.float64)
    values_each = series.shape[1] * taps
    step = 1 + values_each // _VALUES_AT_ONCE  # for very long series some of the windows suffice
    for part in torch.split(series, max(1, _VALUES_AT_ONCE // values_each)):
        windows = padding(part.cpu().double()).unfold(1, taps, step).flatten(0, 1)
        moments += windows.t() @ windows * (len(part) / len(series) / len(windows))
    return moments


def _inverse_root(moments: Tensor) -> Tensor:
    """Return the inverse root of a symmetric matrix; the identity for zeros, or for values that aren't
    finite, which the loss of the first epoch will reveal.
    """
    if not moments.any() or not moments.isfinite().all():
        return torch.eye(len(moments), dtype=moments.dtype)
    values, vectors = torch.linalg.eigh(moments)
    scales = (values + _LEAST_SHARE * values[-1]).rsqrt()
    root: Tensor = vectors * scales @ vectors.t()
    return root
