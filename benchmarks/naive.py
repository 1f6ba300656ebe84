"""The network and its training as one would first write them: what the benchmarks compare with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lstmfcn.checkpoint import Checkpoint
from lstmfcn.dataset import Dataset
from lstmfcn.devices import use_threads
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.model import LSTMFCN
from lstmfcn.series import Matrix


class Naive(nn.Module):
    """A plain module with the weights of a model of this package."""

    def __init__(self, model: LSTMFCN) -> None:
        super().__init__()
        self.lstms = nn.ModuleList()
        for ours in model.recurrent.layers:
            assert isinstance(ours, nn.LSTM)
            lstm = nn.LSTM(ours.input_size, ours.hidden_size, batch_first=True)
            lstm.load_state_dict(ours.state_dict())
            self.lstms.append(lstm)
        self.dropout = nn.Dropout(model.recurrent.dropout.p)
        layers: list[nn.Module] = []
        for ours in model.convolutional.layers:
            pad, convolution, norm, relu = ours.children()
            assert isinstance(convolution, nn.Conv1d)
            plain = nn.Conv1d(convolution.in_channels, convolution.out_channels, convolution.kernel_size[0])
            plain.load_state_dict(convolution.state_dict())
            layers += [pad, plain, norm, relu]
        self.convolutions = nn.Sequential(*layers)
        self.linear = model.linear

    def forward(self, series: Tensor) -> Tensor:
        """Scaled series (batch, length) -> logits (batch, classes)."""
        steps = series.unsqueeze(1)
        for lstm in self.lstms:
            steps, _ = lstm(steps)
            steps = self.dropout(steps)
        features = self.convolutions(series.unsqueeze(1)).mean(dim=2)
        logits: Tensor = self.linear(torch.cat([steps.squeeze(1), features], dim=1))
        return logits


def epochs(training: Dataset, hyperparameters: Hyperparameters) -> Iterator[tuple[float, float]]:
    """Train for ever, and yield the loss and accuracy of each epoch."""
    torch.manual_seed(0)
    network = Naive(LSTMFCN(len(training.classes), training.length, hyperparameters)).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=hyperparameters.lr)
    dataset = TensorDataset(torch.from_numpy(training.series), torch.from_numpy(training.targets))
    loader = DataLoader(dataset, hyperparameters.batch_size, shuffle=True)
    while True:
        loss_sum, num_correct = 0.0, 0.0
        for series, targets in loader:
            optimiser.zero_grad()
            logits = network(series)
            loss = nn.functional.cross_entropy(logits, targets)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            loss_sum += loss.item() * len(series)
            num_correct += (logits.argmax(dim=1) == targets).sum().item()
        yield loss_sum / len(training), num_correct / len(training)


def labeller(checkpoint: Checkpoint) -> Callable[[Matrix], list[str]]:
    """Return a function from series as read to labels by the plain module."""
    network = Naive(checkpoint.build_model()).eval()
    scaling, names = checkpoint.scaling, checkpoint.classes.names

    @torch.inference_mode()
    def labels(series: Matrix) -> list[str]:
        scaled = torch.from_numpy(scaling(series))
        return [names[position] for part in torch.split(scaled, 1024) for position in network(part).argmax(1)]

    return labels


class NaiveActor:
    """The plain module for Ray Data's map_batches; notes when it gets its first batch."""

    def __init__(self, checkpoint: Checkpoint, first: Path) -> None:
        use_threads(1)
        self._labels = labeller(checkpoint)
        self._first = first

    def __call__(self, batch: dict[str, NDArray[np.float32]]) -> dict[str, list[str]]:
        """A column of values for each time step -> a column of labels."""
        if not self._first.exists():
            self._first.write_text(str(time.time()))
        return {"label": self._labels(np.stack(list(batch.values()), axis=1))}
