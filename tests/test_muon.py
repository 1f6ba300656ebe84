from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim._muon import muon as torchs_muon

from lstmfcn.adam import Adam
from lstmfcn.muon import Muon


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(2, 9, 3), nn.Tanh(), nn.Conv1d(9, 4, 5), nn.Flatten(), nn.Linear(8, 3))


def train(model: nn.Module, optimiser: Muon, steps: int) -> None:
    for _ in range(steps):
        optimiser.zero_grad()
        model(torch.randn(16, 2, 8)).square().mean().backward()
        optimiser.step()


def test_kernels_move_as_the_matrices_of_torchs_muon() -> None:
    model = network()
    kernels = [parameter for parameter in model.parameters() if parameter.ndim == 3]
    matrices = [nn.Parameter(kernel.detach().flatten(1).clone()) for kernel in kernels]
    muon = Muon(model.parameters(), 0.01, 0.1, torch.bfloat16)
    means = [torch.zeros_like(matrix) for matrix in matrices]

    for _ in range(20):
        muon.zero_grad()
        model(torch.randn(16, 2, 8)).square().mean().backward()
        for kernel, matrix in zip(kernels, matrices, strict=True):
            assert kernel.grad is not None
            matrix.grad = kernel.grad.flatten(1).clone()
        muon.step()
        with torch.no_grad():
            torchs_muon(  # what torch.optim.Muon calls, which imports PyTorch's compiler, with its defaults
                list(matrices),
                [matrix.grad for matrix in matrices if matrix.grad is not None],
                means,
                lr=0.1,
                weight_decay=0.1,
                momentum=0.95,
                nesterov=True,
                ns_coefficients=(3.4445, -4.7750, 2.0315),
                ns_steps=5,
                eps=1e-7,
                adjust_lr_fn=None,
                has_complex=False,
            )

    for kernel, matrix in zip(kernels, matrices, strict=True):
        torch.testing.assert_close(kernel.detach().flatten(1), matrix.detach(), rtol=0, atol=1e-6)


def test_all_else_moves_as_adam_moves_it() -> None:
    ours, theirs = network(), network()
    muon = Muon(ours.parameters(), 0.01, 0.1)
    adam = Adam([parameter for parameter in theirs.parameters() if parameter.ndim != 3], 0.01, 0.1)
    batch = torch.randn(16, 2, 8)
    ours(batch).square().mean().backward()
    muon.step()
    theirs(batch).square().mean().backward()
    adam.step()

    of_adam = dict(theirs.named_parameters())
    for name in ("0.bias", "2.bias", "4.weight", "4.bias"):
        assert torch.equal(ours.get_parameter(name), of_adam[name])


@pytest.mark.parametrize("shape", [(6, 2, 20), (40, 1, 8)])
def test_a_step_is_nearly_orthogonal(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    kernel, bias = nn.Parameter(torch.zeros(shape)), nn.Parameter(torch.zeros(1))
    kernel.grad, bias.grad = torch.randn(shape), torch.ones(1)

    Muon([kernel, bias], 0.1).step()

    longer_than_wide = max(1, shape[0] / (shape[1] * shape[2]))
    values = torch.linalg.svdvals(kernel.detach().flatten(1)) / longer_than_wide**0.5
    assert 0.6 < values.min() < values.max() < 1.3


def test_it_goes_on_from_its_moments() -> None:
    whole, halved = network(), network()
    muon = Muon(whole.parameters(), 0.01)
    torch.manual_seed(1)
    train(whole, muon, steps=6)

    torch.manual_seed(1)
    first = Muon(halved.parameters(), 0.01)
    train(halved, first, steps=3)
    second = Muon(halved.parameters(), 0.01)
    second.restore([{name: tensor.clone() for name, tensor in named.items()} for named in first.moments])
    train(halved, second, steps=3)

    assert all(map(torch.equal, whole.parameters(), halved.parameters()))
