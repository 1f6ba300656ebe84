"""First kernels that see in what neighbouring values differ.

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
"""Of the largest moment, added to all: directions in which windows hardly differ aren't magnified at will."""
_MOST_CASES = 2048
_VALUES_AT_ONCE = 1 << 22


@torch.no_grad()
def whiten(layer: nn.Sequential, series: Tensor) -> None:
    """Every second kernel of a layer of padding and convolution, by the windows of series (cases, channels *
    length). Each channel for itself; one of zeros only leaves its kernels as they are.

    The others stay random: where small differences are noise, the local mean is what tells classes apart.
    """
    padding, convolution, *_ = layer.children()
    assert isinstance(convolution, nn.Conv1d)
    kernels = convolution.weight[1::2]
    _, channels, taps = kernels.shape
    moments = torch.zeros(channels, taps, taps, dtype=torch.float64)
    some = series[:: -(-len(series) // _MOST_CASES)]
    for part in torch.split(some, max(1, _VALUES_AT_ONCE // (some.shape[1] * taps))):
        padded = padding(torch.unflatten(part.cpu().double(), 1, (channels, -1)))
        windows = padded.unfold(2, taps, 1).transpose(0, 1).flatten(1, 2)  # (channels, windows, taps)
        moments += windows.mT @ windows / (some.numel() // channels)
    kernels.copy_(torch.einsum("fct,ctu->fcu", kernels, _inverse_roots(moments).to(kernels.dtype)))


def _inverse_roots(moments: Tensor) -> Tensor:
    """Of symmetric matrices (channels, taps, taps)."""
    values, vectors = torch.linalg.eigh(moments)
    largest = values[:, -1:]
    scales = torch.where(largest > 0, (values + _LEAST_SHARE * largest).rsqrt(), 1.0)
    roots: Tensor = vectors * scales.unsqueeze(1) @ vectors.mT
    return roots
