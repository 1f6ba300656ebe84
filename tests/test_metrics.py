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
