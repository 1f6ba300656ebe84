from __future__ import annotations

import subprocess
import sys

import torch
from torch import nn

from lstmfcn.adam import Adam


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 3))


def test_it_does_what_torchs_adam_does_bit_for_bit() -> None:
    ours, theirs = network(), network()
    adam = Adam(ours.parameters(), 0.01)
    reference = torch.optim.Adam(theirs.parameters(), lr=0.01, fused=True)

    for _ in range(20):
        batch = torch.randn(16, 7)
        for model, optimiser in ((ours, adam), (theirs, reference)):
            optimiser.zero_grad()
            model(batch).square().mean().backward()
            optimiser.step()

    assert all(map(torch.equal, ours.parameters(), theirs.parameters()))


def test_a_parameter_without_a_gradient_stays_as_it_is() -> None:
    used, unused = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    adam = Adam([unused, used], 0.1)

    used.sum().backward()  # type: ignore[no-untyped-call]
    adam.step()

    assert unused.tolist() == [1, 1, 1]
    assert used[0] < 1
    assert len(adam.moments) == 1


def test_training_does_not_import_pytorchs_compiler() -> None:
    program = (
        "import sys\n"
        "from lstmfcn.training import fit\n"
        "from tests.samples import TINY, make_dataset\n"
        "list(fit(make_dataset(20), make_dataset(10), TINY))\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
