"""Winograd's minimal filtering: m outputs of a filter with k taps from m + k - 1 multiplications,
not from m k.

S. Winograd, "Arithmetic Complexity of Computations", SIAM 1980; for neural networks: Lavin and Gray,
"Fast Algorithms for Convolutional Neural Networks", CVPR 2016, arXiv 1509.09308.

With an input d of m + k - 1 values and a kernel g of k taps, the m outputs are
`output @ ((kernel @ g) * (input @ d))`. Over channels the product in the middle becomes m + k - 1 matrix
products, and they are nearly all of the work.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

OUTPUTS = 4
"""m, the number of outputs. With 4, float32 has the error that it has without transforms (2e-7 of the largest
feature, with the paper's kernels); 6 would be a tenth faster and five times less exact."""

BIAS_POINT = 1
"""Index of the product to which a bias is added: that at the point 1, which goes into each output once."""

_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)
_FEWEST_CHANNELS = 32
_TAPS = range(2, 6)
_CACHED_BYTES = 4 << 20
_MOST_SERIES = 512


@dataclass(frozen=True, slots=True)
class Transforms:
    """The three matrices for kernels of k taps, in float32."""

    input: Tensor
    """(m + k - 1, m + k - 1)."""
    kernel: Tensor
    """(m + k - 1, k)."""
    output: Tensor
    """(m, m + k - 1)."""


def pays(channels: int, filters: int, taps: int) -> bool:
    """Whether fewer multiplications outweigh the transforms, and the transforms are exact enough."""
    return min(channels, filters) >= _FEWEST_CHANNELS and taps in _TAPS


def series_at_once(bytes_each: int) -> int:
    """Return how many series of `bytes_each` can go through together while their features stay in the CPU's
    cache.
    """
    return max(1, min(_MOST_SERIES, _CACHED_BYTES // bytes_each))


@cache
def transforms(taps: int) -> Transforms:
    """Return the transforms by Toom and Cook: polynomials are multiplied by multiplying their values at
    m + k - 1 points, the last one infinity; the filter is the transpose of that.
    """
    size = OUTPUTS + taps - 1
    values = _values(size, size)
    interpolation = np.linalg.inv(values).T
    scale = np.abs(interpolation).max(axis=1, keepdims=True)
    return Transforms(
        input=torch.tensor(interpolation / scale, dtype=torch.float32),
        kernel=torch.tensor(_values(size, taps) * scale, dtype=torch.float32),
        output=torch.tensor(_values(size, OUTPUTS).T, dtype=torch.float32).contiguous(),
    )


def _values(points: int, coefficients: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return what a polynomial's coefficients contribute to its values: (points, coefficients)."""
    values = np.zeros((points, coefficients))
    values[:-1] = np.vander(_POINTS[: points - 1], coefficients, increasing=True)
    values[-1, -1] = 1.0  # at infinity only the leading coefficient counts
    return values
