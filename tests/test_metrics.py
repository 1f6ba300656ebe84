import math

import pytest
import torch

from lstmfcn.metrics import Metrics


def test_batches_of_different_sizes_weigh_by_their_cases() -> None:
    certain = torch.tensor([[9.0, 0.0], [0.0, 9.0], [9.0, 0.0]])
    first = Metrics.of(certain, torch.tensor([0, 1, 1]), torch.tensor(1.0))
    second = Metrics.of(certain[:1], torch.tensor([0]), torch.tensor(5.0))

    total = Metrics.total([first, second])

    assert total.num_cases == 4
    assert total.accuracy == 3 / 4
    assert total.loss == (3 * 1.0 + 1 * 5.0) / 4


def test_the_loss_of_a_guess_is_the_logarithm_of_the_number_of_classes() -> None:
    logits, targets = torch.zeros(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])

    metrics = Metrics.of(logits, targets, torch.nn.functional.cross_entropy(logits, targets))

    assert metrics.loss == pytest.approx(math.log(3))
    assert metrics.accuracy == 1 / 3
