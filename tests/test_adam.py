from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from lstmfcn.adam import Adam
from lstmfcn.training import fit
from tests.conftest import COMPILER_CAME_ALONG
from tests.samples import TINY, make_dataset


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 3))


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_it_does_what_torchs_adam_does_bit_for_bit(weight_decay: float) -> None:
    ours, theirs = network(), network()
    adam = Adam(ours.parameters(), 0.01, weight_decay)
    parameters: list[Tensor] = list(theirs.parameters())
    means, squares = ([torch.zeros_like(one) for one in parameters] for _ in range(2))
    steps = [torch.zeros(()) for _ in parameters]

    for _ in range(20):
        batch = torch.randn(16, 7)
        for model in (ours, theirs):
            model.zero_grad()
            model(batch).square().mean().backward()
        adam.step()
        with torch.no_grad():
            adamw(  # what torch.optim's classes call, which import PyTorch's compiler
                parameters,
                [one.grad for one in parameters if one.grad is not None],
                means,
                squares,
                [],
                steps,
                fused=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=0.01,
                weight_decay=weight_decay,
                eps=1e-8,
                maximize=False,
            )

    assert all(map(torch.equal, ours.parameters(), theirs.parameters()))


def test_a_parameter_without_a_gradient_stays_as_it_is() -> None:
    used, unused = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    adam = Adam([unused, used], 0.1)

    used.sum().backward()  # type: ignore[no-untyped-call]
    adam.step()

    assert unused.tolist() == [1, 1, 1]
    assert used[0] < 1
    assert len(adam.moments) == 1


def test_training_does_not_import_pytorchs_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(vars(torch), "_dynamo", raising=False)
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)  # to import it is an error now
    # The compiler, once imported, wraps it.
    monkeypatch.setattr(torch, "manual_seed", torch.random.manual_seed)

    assert not COMPILER_CAME_ALONG
    for epoch in fit(make_dataset(20), make_dataset(10), TINY.model_copy(update={"squeeze_excite": 1})):
        if epoch.checkpoint is not None:
            epoch.checkpoint.build_model()
