"""The training loop. It yields one result an epoch and leaves to others what becomes of it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from lstmfcn.checkpoint import Checkpoint
from lstmfcn.dataset import Dataset
from lstmfcn.devices import CPU
from lstmfcn.errors import TrainingError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.metrics import Metrics
from lstmfcn.model import LSTMFCN
from lstmfcn.scaling import Scaling, ScalingMethod

TrainingPrecision = Literal["fp32", "bf16"]

_EVALUATION_BATCH = 256
_SHARE_OF_FREE_GPU_MEMORY = 0.5
"""A data set that needs more than this stays in main memory and is copied batch by batch."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one pass over the training set led to."""

    number: int
    """From 1."""
    metrics: Mapping[str, float]
    """train_loss, train_accuracy (in training mode, over the epoch), and with validation valid_loss,
    valid_accuracy (in evaluation mode, after it)."""
    seconds: float
    checkpoint: Checkpoint | None
    """The network, if this is the best epoch so far."""


def fit(
    training: Dataset,
    validation: Dataset | None = None,
    hyperparameters: Hyperparameters | None = None,
    *,
    scaling: ScalingMethod = "series",
    seed: int = 0,
    patience: int | None = None,
    devices: Sequence[torch.device] = (CPU,),
    precision: TrainingPrecision = "fp32",
) -> Iterator[Epoch]:
    """Train a network, one epoch for each item that is taken from the iterator.

    The best epoch is the one with the higher valid_accuracy, then the lower valid_loss, then the earlier;
    without validation the one with the lower train_loss, then the earlier. `patience` ends training after
    so many epochs without a better one. With several devices the network is replicated by DataParallel.
    With bf16 the training step runs under PyTorch's autocast; weights and validation stay fp32.

    Seeds PyTorch's global generators. The same seed gives the same results, bit for bit,
    on one machine with the same number of threads. Raises TrainingError when the loss is no longer finite.
    """
    hyperparameters = hyperparameters or Hyperparameters()
    torch.manual_seed(seed)
    scale = Scaling.fitted(scaling, training.series)
    model = LSTMFCN(len(training.classes), training.length, hyperparameters).to(devices[0])
    network: nn.Module = _InBfloat16(model) if precision == "bf16" else model
    if len(devices) > 1:
        network = nn.DataParallel(network, device_ids=list(devices))
    optimiser = torch.optim.Adam(model.parameters(), lr=hyperparameters.lr, fused=True)
    train_set = _on_device(training, scale, devices[0])
    valid_set = None if validation is None else _on_device(validation, scale, devices[0])

    best_score: tuple[float, ...] = (-math.inf,)
    best_epoch = 0
    for number in range(1, hyperparameters.epochs + 1):
        started = time.perf_counter()
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            metrics = _train_epoch(network, optimiser, train_set, hyperparameters.batch_size)
            if valid_set is not None:
                metrics |= _validate(model, valid_set, devices[0])
        _refuse_divergence(metrics, number, hyperparameters)
        score = _score(metrics)
        checkpoint = None
        if score > best_score:
            best_score, best_epoch = score, number
            checkpoint = Checkpoint(
                hyperparameters, training.classes, training.length, scale, number, metrics, _weights(model)
            )
        yield Epoch(number, metrics, time.perf_counter() - started, checkpoint)
        if patience is not None and number - best_epoch >= patience:
            return


class _InBfloat16(nn.Module):
    """A network under autocast; a module, since DataParallel's threads know nothing of one around them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, series: Tensor) -> Tensor:
        """(batch, length) -> logits (batch, classes) in float32."""
        with torch.autocast(series.device.type, torch.bfloat16):
            logits: Tensor = self.network(series)
        return logits.float()


def batch_bounds(num_cases: int, batch_size: int) -> list[tuple[int, int]]:
    """Where each batch begins and ends. A last batch of one series is merged into the one before it:
    alone it would give batch normalisation a variance of one series, and DataParallel nothing to share.
    """
    starts = list(range(0, num_cases, batch_size))
    if len(starts) > 1 and num_cases - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], num_cases], strict=True))


def _score(metrics: Mapping[str, float]) -> tuple[float, ...]:
    """Greater is better."""
    if "valid_accuracy" in metrics:
        return metrics["valid_accuracy"], -metrics["valid_loss"]
    return (-metrics["train_loss"],)


def _on_device(dataset: Dataset, scale: Scaling, device: torch.device) -> tuple[Tensor, Tensor]:
    """Scaled series and targets, on the device if they fit there."""
    series, targets = torch.from_numpy(scale(dataset.series)), torch.from_numpy(dataset.targets)
    if device.type == "cuda":
        free_bytes, _ = torch.cuda.mem_get_info(device)
        if series.nbytes > _SHARE_OF_FREE_GPU_MEMORY * free_bytes:
            return series.pin_memory(), targets.pin_memory()
    return series.to(device), targets.to(device)


def _train_epoch(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    train_set: tuple[Tensor, Tensor],
    batch_size: int,
) -> dict[str, float]:
    series, targets = train_set
    device = next(network.parameters()).device
    network.train()
    order = torch.randperm(len(series)).to(series.device)
    batches = []
    for start, end in batch_bounds(len(series), batch_size):
        chosen = order[start:end]
        batch_targets = targets[chosen].to(device)
        optimiser.zero_grad()
        logits = network(series[chosen].to(device))
        loss = nn.functional.cross_entropy(logits, batch_targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        batches.append(Metrics.of(logits, batch_targets, loss))
    total = Metrics.total(batches)
    return {"train_loss": total.loss, "train_accuracy": total.accuracy}


def _validate(network: nn.Module, valid_set: tuple[Tensor, Tensor], device: torch.device) -> dict[str, float]:
    series, targets = valid_set
    network.eval()
    batches = []
    with torch.inference_mode():
        for start, end in batch_bounds(len(series), _EVALUATION_BATCH):
            batch_targets = targets[start:end].to(device)
            logits = network(series[start:end].to(device))
            loss = nn.functional.cross_entropy(logits, batch_targets)
            batches.append(Metrics.of(logits, batch_targets, loss))
    total = Metrics.total(batches)
    return {"valid_loss": total.loss, "valid_accuracy": total.accuracy}


def _refuse_divergence(metrics: Mapping[str, float], epoch: int, hyperparameters: Hyperparameters) -> None:
    for name, value in metrics.items():
        if not math.isfinite(value):
            advice = f"try an lr below {hyperparameters.lr:g}"
            raise TrainingError(f"{name} became {value} in epoch {epoch}; {advice}")


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}
