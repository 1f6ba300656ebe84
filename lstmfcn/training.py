"""The training loop. It makes one result per epoch; what becomes of that is left to others."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self, get_args

import torch
from torch import Tensor, nn

from lstmfcn import tasks
from lstmfcn.adam import Adam
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.dataset import Dataset, refuse_unlike
from lstmfcn.devices import CPU
from lstmfcn.errors import HyperparameterError, TrainingError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.metrics import Metrics, Objective
from lstmfcn.model import LSTMFCN
from lstmfcn.muon import Muon
from lstmfcn.recipe import RECIPES, RecipeName
from lstmfcn.scaling import Scaling, ScalingMethod
from lstmfcn.start import Start
from lstmfcn.tasks import TaskName
from lstmfcn.training_state import TrainingState
from lstmfcn.whitening import whiten

TrainingPrecision = Literal["fp32", "bf16"]
ClassWeight = Literal["none", "balanced"]
"""How classes count in the training loss, and so in train_loss: balanced weighs the series of a class by the
inverse of its share of all series."""

_MOST_TO_EVALUATE_AT_ONCE = 256
_FEATURES_TO_EVALUATE_AT_ONCE = 1 << 26
"""Most numbers in the largest feature map of a batch in validation: 256 MiB."""
_SHARE_OF_FREE_GPU_MEMORY = 0.5
"""A data set that needs more than this stays in main memory and is copied batch by batch."""


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How a network is trained, apart from its hyperparameters."""

    recipe: RecipeName = "reference"
    class_weight: ClassWeight = "none"
    seed: int = 0
    precision: TrainingPrecision = "fp32"
    """With bf16 the convolutional block trains under PyTorch's autocast, and Muon makes steps orthogonal in
    16 bits; weights and validation stay fp32."""

    def __post_init__(self) -> None:
        """Raises HyperparameterError for a setting that there isn't."""
        for name, known in (
            ("recipe", get_args(RecipeName)),
            ("class_weight", get_args(ClassWeight)),
            ("precision", get_args(TrainingPrecision)),
        ):
            if (value := getattr(self, name)) not in known:
                raise HyperparameterError(f"{name} is {value!r}; it must be one of {', '.join(known)}")


@dataclass(frozen=True, slots=True)
class Epoch:
    """The result of one pass over the training set."""

    number: int
    """Number of the epoch, from 1."""
    metrics: Mapping[str, float]
    """train_loss, train_accuracy (in training mode, over the epoch), and with validation valid_loss,
    valid_accuracy (in evaluation mode, after it)."""
    checkpoint: Checkpoint | None
    """The network, if this is the best epoch so far."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Scaled series to train on and, if there are any, to validate on; several trainers can share them."""

    train: Dataset
    valid: Dataset | None
    scaling: Scaling
    start: Start | None = None
    """What a network starts from instead of random weights."""
    num_for_recipe: int | None = None
    """Number of series that the recipe goes by, if not that of `train`."""

    @classmethod
    def scaled(
        cls,
        training: Dataset,
        validation: Dataset | None,
        method: ScalingMethod,
        start: Start | None = None,
    ) -> Self:
        """Scale data as read, by the start's scaling or else one that is fitted to the training set.

        Raises DataError for series with a missing or infinite value, and for a validation set that wasn't
        read like the training set.
        """
        training.treatment.refuse_missing(training.series)
        if validation is not None:
            refuse_unlike(validation, training)
            validation.treatment.refuse_missing(validation.series)
        channels = training.channels
        if start is None:
            scaling = Scaling.fitted(method, training.series, channels)
        else:
            refuse_unlike(replace(training, classes=start.checkpoint.classes), start.checkpoint)  # or more
            scaling = start.checkpoint.scaling
        train = replace(training, series=scaling(training.series, channels))
        valid = None
        if validation is not None:
            valid = replace(validation, series=scaling(validation.series, channels))
        return cls(train, valid, scaling, start)


class Trainer:
    """A network in training, epoch by epoch.

    Seeds PyTorch's global generators and draws from them. The same seed gives the same results, bit for bit,
    on one machine with the same number of threads, also when a state was saved and restored in between.
    """

    def __init__(
        self,
        data: TrainingData,
        hyperparameters: Hyperparameters,
        settings: TrainingSettings = TrainingSettings(),
        *,
        objective: Objective | None = None,
        patience: int | None = None,
        devices: Sequence[torch.device] = (CPU,),
    ) -> None:
        """Training ends after `patience` epochs without a better one. With several devices the network is
        replicated by DataParallel.

        Raises HyperparameterError for another network than that of the checkpoint that training starts from,
        and for a patience below 1.
        """
        if patience is not None and patience < 1:
            raise HyperparameterError(f"patience is {patience}; it must be at least 1")
        self.data, self.settings = data, settings
        self._recipe = RECIPES[settings.recipe]
        self._patience = patience
        if data.start is not None:
            hyperparameters = data.start.hyperparameters(hyperparameters)
        num_cases = data.num_for_recipe or len(data.train)
        self.hyperparameters = hyperparameters = self._recipe.completed(hyperparameters, num_cases)
        self.history: list[dict[str, float]] = []
        """Metrics and seconds of every epoch."""
        self.best_epoch = 0
        self._objective = objective or self._recipe.objective(data.valid is not None)
        self._devices, self._device = devices, devices[0]
        torch.manual_seed(settings.seed)
        train = data.train
        self._train_set = _on_device(train, self._device)
        self._task = train.task
        self._model = self._untrained().to(self._device)
        self._model.convolutional.in_bfloat16 = settings.precision == "bf16"
        self._network: nn.Module = self._model
        if len(devices) > 1:
            self._network = nn.DataParallel(self._model, device_ids=list(devices))
        self._optimiser = self._new_optimiser(num_cases)
        self._class_weights = None if settings.class_weight == "none" else _balanced(train).to(self._device)
        self._valid_set = None if data.valid is None else _on_device(data.valid, self._device)

    def _untrained(self) -> LSTMFCN:
        """Return the network as training starts with it, on the CPU."""
        train, start = self.data.train, self.data.start
        model = LSTMFCN(train.num_outputs, train.length, self.hyperparameters, train.channels)
        if start is not None:
            model.load_state_dict(start.weights(model.state_dict(), train.classes))
        elif self._recipe.whitens_kernels:
            first, *_ = model.convolutional.layers
            assert isinstance(first, nn.Sequential)
            whiten(first, self._train_set[0])
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.momentum = self._recipe.batch_norm_momentum
        return model

    def _new_optimiser(self, num_cases: int) -> Adam | Muon:
        parameters, lr, decay = self._model.parameters(), self.hyperparameters.lr, self._recipe.weight_decay
        if not self._recipe.moves_kernels_by_muon(num_cases):
            return Adam(parameters, lr, decay)
        return Muon(
            parameters, lr, decay, torch.bfloat16 if self.settings.precision == "bf16" else torch.float32
        )

    @property
    def epoch(self) -> int:
        """Number of the last epoch; 0 before the first."""
        return len(self.history)

    @property
    def best_metrics(self) -> dict[str, float]:
        """Metrics and seconds of the best epoch; empty before the first."""
        return self.history[self.best_epoch - 1] if self.best_epoch else {}

    @property
    def is_done(self) -> bool:
        """Whether all epochs are done, or `patience` epochs since the best."""
        if self._patience is not None and self.epoch - self.best_epoch >= self._patience:
            return True
        return self.epoch >= self.hyperparameters.epochs

    def is_better(self, metrics: Mapping[str, float], others: Mapping[str, float]) -> bool:
        """Return whether an epoch is to be kept in place of an earlier one."""
        return self._objective is None or self._objective.is_better(metrics, others)

    def step(self) -> Epoch:
        """Train for one epoch. Raises TrainingError when the loss is no longer finite."""
        started = time.perf_counter()
        how = {"enabled": True, "benchmark": False, "deterministic": True}
        with torch.backends.cudnn.flags(**how, allow_tf32=True):
            metrics = self._train_epoch()
        if self._valid_set is not None:
            with torch.backends.cudnn.flags(**how, allow_tf32=False):  # as predictions are computed
                metrics |= _validate(self._model, self._valid_set, self._device, self._task)
        _refuse_divergence(metrics, self.epoch + 1, self.hyperparameters)
        seconds = time.perf_counter() - started
        is_best = not self.best_epoch or self.is_better(metrics, self.best_metrics)
        self.history.append({**metrics, "seconds": seconds})
        checkpoint = None
        if is_best:
            self.best_epoch = self.epoch
            train = self.data.train
            checkpoint = Checkpoint(
                hyperparameters=self.hyperparameters,
                classes=train.classes,
                length=train.length,
                scaling=self.data.scaling,
                epoch=self.epoch,
                metrics=metrics,
                weights=_on_cpu(self._model.state_dict()),
                task=train.task,
                treatment=train.treatment,
            )
        return Epoch(self.epoch, metrics, checkpoint)

    def _train_epoch(self) -> dict[str, float]:
        series, targets = self._train_set
        losses = [row["train_loss"] for row in self.history]
        bounds = batch_bounds(len(series), self.hyperparameters.batch_size)
        self._network.train()
        order = torch.randperm(len(series)).to(series.device)
        batches = []
        for number, (start, end) in enumerate(bounds):
            chosen = order[start:end]
            batch_targets = targets[chosen].to(self._device)
            self._optimiser.zero_grad()
            logits = self._network(series[chosen].to(self._device))
            loss = tasks.loss(self._task, logits, batch_targets, self._class_weights)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimiser.lr = self._recipe.learning_rate(
                self.hyperparameters, losses, number / len(bounds)
            )
            self._optimiser.step()
            batches.append(Metrics.of(logits, batch_targets, loss, self._task))
        total = Metrics.total(batches)
        return {"train_loss": total.loss, "train_accuracy": total.accuracy}

    def state(self) -> TrainingState:
        """Return all that the next epochs depend on, apart from data and hyperparameters."""
        generators = {"cpu": torch.get_rng_state()}
        for place, device in enumerate(self._devices):
            if device.type == "cuda":
                generators[f"cuda:{place}"] = torch.cuda.get_rng_state(device)
        return TrainingState(
            list(self.history),
            self.best_epoch,
            _on_cpu(self._model.state_dict()),
            [_on_cpu(moments) for moments in self._optimiser.moments],
            generators,
        )

    def restore(self, state: TrainingState) -> None:
        """Continue from a state of a network of the same shape."""
        self.history, self.best_epoch = list(state.history), state.best_epoch
        self._model.load_state_dict(state.weights)
        self._optimiser.restore(state.moments)
        torch.set_rng_state(state.generators["cpu"])
        for place, device in enumerate(self._devices):
            if device.type == "cuda" and f"cuda:{place}" in state.generators:
                torch.cuda.set_rng_state(state.generators[f"cuda:{place}"], device)


def fit(
    training: Dataset,
    validation: Dataset | None = None,
    hyperparameters: Hyperparameters | None = None,
    *,
    scaling: ScalingMethod = "series",
    start: Start | None = None,
    recipe: RecipeName = "reference",
    class_weight: ClassWeight = "none",
    seed: int = 0,
    patience: int | None = None,
    devices: Sequence[torch.device] = (CPU,),
    precision: TrainingPrecision = "fp32",
) -> Iterator[Epoch]:
    """Train a network, one epoch for each item that is taken from the iterator; see Trainer.

    The recipe says how epochs are compared (Recipe.objective); of equal ones the earlier is better. Training
    ends after `patience` epochs without a better one. A `start` brings its scaling and its network along.
    Raises TrainingError when the loss is no longer finite.
    """
    trainer = Trainer(
        TrainingData.scaled(training, validation, scaling, start),
        hyperparameters or Hyperparameters(),
        TrainingSettings(recipe, class_weight, seed, precision),
        patience=patience,
        devices=devices,
    )
    while not trainer.is_done:
        yield trainer.step()


def batch_bounds(num_cases: int, batch_size: int) -> list[tuple[int, int]]:
    """Return where each batch begins and ends. A last batch of one series is merged into the one before it:
    alone it would give batch normalisation a variance of one series, and DataParallel nothing to share.
    """
    starts = list(range(0, num_cases, batch_size))
    if len(starts) > 1 and num_cases - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], num_cases], strict=True))


def _on_device(dataset: Dataset, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return series and targets, on the device if they fit there."""
    with warnings.catch_warnings():
        # A dataset in Ray's shared memory is read-only, as it is to be.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        series, targets = torch.from_numpy(dataset.series), torch.from_numpy(dataset.targets)
    if device.type == "cuda":
        free_bytes, _ = torch.cuda.mem_get_info(device)
        if series.nbytes > _SHARE_OF_FREE_GPU_MEMORY * free_bytes:
            return series, targets
    return series.to(device), targets.to(device)


def _balanced(dataset: Dataset) -> Tensor:
    """Return balanced class weights as the task's loss takes them."""
    return torch.from_numpy(tasks.balanced_weights(dataset.task, dataset.targets, len(dataset.classes)))


def _validate(
    network: LSTMFCN, valid_set: tuple[Tensor, Tensor], device: torch.device, task: TaskName
) -> dict[str, float]:
    series, targets = valid_set
    at_once = max(1, min(_MOST_TO_EVALUATE_AT_ONCE, _FEATURES_TO_EVALUATE_AT_ONCE // network.num_features))
    network.eval()
    batches = []
    with torch.inference_mode():
        for start, end in batch_bounds(len(series), at_once):
            batch_targets = targets[start:end].to(device)
            logits = network(series[start:end].to(device))
            loss = tasks.loss(task, logits, batch_targets)
            batches.append(Metrics.of(logits, batch_targets, loss, task))
    total = Metrics.total(batches)
    return {"valid_loss": total.loss, "valid_accuracy": total.accuracy}


def _refuse_divergence(metrics: Mapping[str, float], epoch: int, hyperparameters: Hyperparameters) -> None:
    for name, value in metrics.items():
        if not math.isfinite(value):
            advice = f"try an lr below {hyperparameters.lr:g}"
            raise TrainingError(f"{name} became {value} in epoch {epoch}; {advice}")


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies on the CPU, which training doesn't change."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
