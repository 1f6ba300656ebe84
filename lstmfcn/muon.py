"""The optimiser Muon (Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024,
kellerjordan.github.io/posts/muon): kernels of convolutions move along their mean gradient made orthogonal, so
that every direction among the filters is learnt at one speed; all other parameters move as Adam moves them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from lstmfcn.adam import Adam

_MOMENTUM = 0.95
_ITERATIONS = 5
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan's
_LEAST_NORM = 1e-7
_TIMES_ADAMS_RATE = 10
"""Learning rate of the kernels, as a multiple of that of all other parameters."""


class Muon:
    """Moves kernels, at ten times the learning rate, as torch.optim.Muon moves matrices with a row for each
    filter, and other parameters by Adam. Steps are made orthogonal in `dtype`.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        parameters = list(parameters)
        self.lr = lr
        """Learning rate; may change between steps."""
        self._kernels = [parameter for parameter in parameters if parameter.ndim == 3]
        self._means = [torch.zeros_like(kernel) for kernel in self._kernels]
        self._weight_decay, self._dtype = weight_decay, dtype
        self._rest = Adam([parameter for parameter in parameters if parameter.ndim != 3], lr, weight_decay)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self._rest.zero_grad()
        for kernel in self._kernels:
            kernel.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Change the parameters that have a gradient, which must be the same ones every time."""
        self._rest.lr = self.lr
        self._rest.step()
        lr = _TIMES_ADAMS_RATE * self.lr
        for kernel, mean in zip(self._kernels, self._means, strict=True):
            if kernel.grad is None:
                continue
            mean.lerp_(kernel.grad, 1 - _MOMENTUM)
            ahead = kernel.grad.lerp(mean, _MOMENTUM).flatten(1)  # Nesterov's
            filters, inputs = ahead.shape
            kernel.mul_(1 - lr * self._weight_decay)
            step = _orthogonal(ahead.to(self._dtype)).view_as(kernel)
            kernel.add_(step, alpha=-lr * math.sqrt(max(1, filters / inputs)))

    @property
    def moments(self) -> list[dict[str, Tensor]]:
        """Mean of the gradients of each kernel, then Adam's moments of each other trained parameter."""
        return [{"mean": mean} for mean in self._means] + self._rest.moments

    def restore(self, moments: Sequence[dict[str, Tensor]]) -> None:
        """Go on from these moments."""
        for mean, named in zip(self._means, moments, strict=False):
            mean.copy_(named["mean"])
        self._rest.restore(moments[len(self._means) :])


def _orthogonal(matrix: Tensor) -> Tensor:
    """Return the matrix with its singular values moved near 1, by Newton-Schulz iteration."""
    if matrix.shape[0] > matrix.shape[1]:
        return _orthogonal(matrix.t()).t()
    linear, cubic, quintic = _COEFFICIENTS
    matrix = matrix / matrix.norm().clamp(min=_LEAST_NORM)
    for _ in range(_ITERATIONS):
        gram = matrix @ matrix.t()
        polynomial = torch.addmm(gram, gram, gram, beta=cubic, alpha=quintic)
        matrix = torch.addmm(matrix, polynomial, matrix, beta=linear)
    return matrix
