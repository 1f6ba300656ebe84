"""An optimiser: Adam (Kingma and Ba, "Adam: A Method for Stochastic Optimization", arXiv 1412.6980).

It uses PyTorch's fused kernel but not torch.optim, whose first step imports PyTorch's compiler: that takes
every process as long as the rest of PyTorch, and longer than many a trial of a sweep trains.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8  # the paper's


class Adam:
    """Bit for bit what torch.optim.Adam(..., fused=True) does; with weight decay, torch.optim.AdamW."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, weight_decay: float = 0.0) -> None:
        self.lr = lr
        """Learning rate; may change between steps."""
        self._parameters = list(parameters)
        self._weight_decay = weight_decay
        self._moments: list[dict[str, Tensor]] = []

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Change the parameters that have a gradient, which must be the same ones every time."""
        trained = [parameter for parameter in self._parameters if parameter.grad is not None]
        if not self._moments:
            self._moments = [
                {
                    "step": torch.zeros((), device=parameter.device),
                    "mean": torch.zeros_like(parameter),
                    "square": torch.zeros_like(parameter),
                }
                for parameter in trained
            ]
        steps = [moments["step"] for moments in self._moments]
        torch._foreach_add_(steps, 1)
        torch._fused_adamw_(
            trained,
            [parameter.grad for parameter in trained if parameter.grad is not None],
            [moments["mean"] for moments in self._moments],
            [moments["square"] for moments in self._moments],
            [],
            steps,
            lr=self.lr,
            beta1=_BETA_1,
            beta2=_BETA_2,
            weight_decay=self._weight_decay,
            eps=_EPSILON,
            amsgrad=False,
            maximize=False,
        )

    @property
    def moments(self) -> list[dict[str, Tensor]]:
        """Number of steps, mean of the gradients and mean of their squares for each trained parameter."""
        return self._moments

    def restore(self, moments: Sequence[dict[str, Tensor]]) -> None:
        """Go on from these moments."""
        device = self._parameters[0].device
        self._moments = [{name: tensor.to(device) for name, tensor in named.items()} for named in moments]
