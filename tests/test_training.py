from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss
from torch import nn

from lstmfcn import training
from lstmfcn.classes import ClassLabels
from lstmfcn.dataset import Dataset
from lstmfcn.devices import cuda_devices
from lstmfcn.errors import DataError, HyperparameterError, TrainingError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.predictor import Predictor
from lstmfcn.scaling import Scaling
from lstmfcn.training import ClassWeight, Epoch, Trainer, TrainingData, TrainingPrecision, batch_bounds, fit
from tests.samples import LENGTH, TINY, make_dataset, make_labels


def with_epochs(epochs: int, **changes: Any) -> Hyperparameters:
    return Hyperparameters(**{**TINY.model_dump(), "epochs": epochs, **changes})


def outcome(epochs: list[Epoch]) -> list[tuple[dict[str, float], dict[str, list[float]]]]:
    return [
        (
            dict(epoch.metrics),
            {name: tensor.tolist() for name, tensor in epoch.checkpoint.weights.items()}
            if epoch.checkpoint
            else {},
        )
        for epoch in epochs
    ]


def test_a_network_learns_to_tell_two_classes_apart() -> None:
    *_, last = fit(make_dataset(60), make_dataset(40, seed=1), with_epochs(30, batch_size=20))

    assert last.metrics["valid_accuracy"] == 1.0


def test_without_validation_there_are_only_training_metrics() -> None:
    (epoch,) = fit(make_dataset(10), hyperparameters=with_epochs(1))

    assert epoch.number == 1
    assert list(epoch.metrics) == ["train_loss", "train_accuracy"]


def test_the_same_seed_gives_the_same_run_bit_for_bit() -> None:
    def run(seed: int) -> list[tuple[dict[str, float], dict[str, list[float]]]]:
        return outcome(list(fit(make_dataset(30), make_dataset(10), with_epochs(4), seed=seed)))

    assert run(seed=1) == run(seed=1)
    assert run(seed=1) != run(seed=2)


def test_metrics_of_an_epoch_are_those_of_its_checkpoint() -> None:
    valid_set = make_dataset(21, seed=1)
    (epoch,) = fit(make_dataset(30), valid_set, with_epochs(1))
    assert epoch.checkpoint is not None

    model = epoch.checkpoint.build_model()
    logits = model(torch.from_numpy(epoch.checkpoint.scaling(valid_set.series)))
    targets = torch.from_numpy(valid_set.targets)

    assert epoch.metrics["valid_accuracy"] == (logits.argmax(1) == targets).double().mean().item()
    loss = nn.functional.cross_entropy(logits, targets).item()
    assert epoch.metrics["valid_loss"] == pytest.approx(loss, rel=1e-6)


def test_the_kept_epoch_has_higher_accuracy_then_lower_loss_then_comes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    validations = iter([(0.5, 0.9), (0.7, 0.8), (0.7, 0.6), (0.7, 0.6), (0.6, 0.1), (0.7, 0.7)])

    def next_validation(*_: object) -> dict[str, float]:
        accuracy, loss = next(validations)
        return {"valid_loss": loss, "valid_accuracy": accuracy}

    monkeypatch.setattr(training, "_validate", next_validation)
    epochs = fit(make_dataset(10), make_dataset(10), with_epochs(6))

    assert [epoch.number for epoch in epochs if epoch.checkpoint is not None] == [1, 2, 3]


def test_without_validation_the_kept_epoch_has_the_lowest_training_loss() -> None:
    epochs = list(fit(make_dataset(20), hyperparameters=with_epochs(30, dropout=0.9, lr=0.1)))
    losses = [epoch.metrics["train_loss"] for epoch in epochs]
    kept = [epoch.number for epoch in epochs if epoch.checkpoint is not None]

    assert kept == [
        number for number in range(1, 31) if losses[number - 1] < min([*losses[: number - 1], np.inf])
    ]
    assert len(kept) < 30


def test_patience_ends_training_after_so_many_epochs_without_a_better_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training, "_validate", lambda *_: {"valid_loss": 1.0, "valid_accuracy": 0.5})

    assert len(list(fit(make_dataset(10), make_dataset(10), with_epochs(50), patience=3))) == 4


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"recipe": "quick"}, "recipe is 'quick'; it must be one of reference, paper, fast"),
        ({"class_weight": None}, "class_weight is None; it must be one of none, balanced"),
        ({"precision": "fp16"}, "precision is 'fp16'; it must be one of fp32, bf16"),
        ({"scaling": "training_set"}, "scaling is 'training_set'; it must be one of series, training-set"),
        ({"patience": 0}, "patience is 0; it must be at least 1"),
    ],
)
def test_a_setting_that_there_is_not_is_refused(setting: dict[str, Any], sentence: str) -> None:
    with pytest.raises(HyperparameterError) as refused:
        next(fit(make_dataset(20), hyperparameters=TINY, **setting))

    assert str(refused.value) == sentence


def test_validation_data_are_read_like_the_training_set() -> None:
    others = replace(make_dataset(20), classes=ClassLabels(["left", "right"]))

    with pytest.raises(DataError, match=r"^classes: the data has .*left"):
        next(fit(make_dataset(20), others, TINY))


def test_a_missing_value_is_refused_before_it_spoils_the_loss() -> None:
    dataset = make_dataset(20)
    dataset.series[7, 0] = np.nan

    with pytest.raises(DataError, match=r"^series 8 has a value that is missing"):
        next(fit(dataset, hyperparameters=TINY))


def test_a_loss_that_is_no_number_ends_the_run_with_advice() -> None:
    dataset = make_dataset(10)
    broken = replace(dataset, series=np.full((10, LENGTH), np.nan, np.float32))
    trainer = Trainer(TrainingData(broken, None, Scaling()), with_epochs(2))

    with pytest.raises(TrainingError, match=r"^train_loss became nan in epoch 1; try an lr below 0.01$"):
        trainer.step()


def test_a_binary_network_learns_with_a_single_output() -> None:
    *_, last = fit(
        replace(make_dataset(60), task="binary"),
        hyperparameters=with_epochs(30, batch_size=20),
        recipe="fast",
    )

    assert last.checkpoint is not None
    assert last.checkpoint.weights["linear.bias"].shape == (1,)
    assert Predictor(last.checkpoint).labels(make_dataset(4, seed=2).series) == ["down", "up"] * 2


def test_metrics_of_labels_are_those_of_scikit_learn() -> None:
    valid_set = make_labels(50, seed=1)

    epochs = fit(
        make_labels(100), valid_set, with_epochs(20, batch_size=25), class_weight="balanced", recipe="fast"
    )
    last = [epoch for epoch in epochs if epoch.checkpoint][-1]

    assert last.checkpoint is not None
    predictor = Predictor(last.checkpoint)
    probabilities = predictor.probabilities(valid_set.series)
    assert last.metrics["valid_accuracy"] > 0.5
    assert last.metrics["valid_accuracy"] == accuracy_score(
        valid_set.targets, predictor.predicted(valid_set.series)
    )
    losses = [log_loss(valid_set.targets[:, label], probabilities[:, label]) for label in (0, 1)]
    assert last.metrics["valid_loss"] == pytest.approx(np.mean(losses), rel=1e-4)


def test_balanced_classes_train_alike_with_and_without_weights() -> None:
    plain, balanced = (
        outcome(list(fit(make_dataset(30), hyperparameters=with_epochs(2), class_weight=class_weight)))
        for class_weight in get_args(ClassWeight)
    )

    assert balanced == plain


def test_balanced_weights_find_a_rare_class_among_others_that_look_alike() -> None:
    random = np.random.default_rng(0)
    targets = (np.arange(400) % 10 == 0).astype(np.int64)
    noise = random.normal(0, 1, (400, LENGTH))
    noise[:, 0] += 1.5 * targets
    dataset = Dataset(noise.astype(np.float32), targets, ClassLabels(["common", "rare"]))

    found = {}
    for class_weight in get_args(ClassWeight):
        *_, last = fit(
            dataset, hyperparameters=with_epochs(15, batch_size=100), recipe="fast", class_weight=class_weight
        )
        assert last.checkpoint is not None
        is_rare = Predictor(last.checkpoint).predicted(dataset.series) == 1
        found[class_weight] = is_rare[targets == 1].mean()

    assert found["balanced"] > found["none"] + 0.2


def test_bf16_trains_as_well_and_keeps_weights_in_float32() -> None:
    *_, last = fit(
        make_dataset(60), make_dataset(40, seed=1), with_epochs(40, batch_size=20), precision="bf16"
    )

    assert last.metrics["valid_accuracy"] == 1.0
    (exact,) = fit(make_dataset(10), hyperparameters=with_epochs(1))
    (rounded,) = fit(make_dataset(10), hyperparameters=with_epochs(1), precision="bf16")
    assert rounded.metrics["train_loss"] != exact.metrics["train_loss"]
    assert rounded.metrics["train_loss"] == pytest.approx(exact.metrics["train_loss"], rel=0.02)
    assert rounded.checkpoint is not None
    floating = [one for one in rounded.checkpoint.weights.values() if one.is_floating_point()]
    assert {one.dtype for one in floating} == {torch.float32}


@given(st.integers(2, 500), st.integers(1, 200))
def test_batches_cover_every_case_once_and_none_is_a_left_over_single(
    num_cases: int, batch_size: int
) -> None:
    bounds = batch_bounds(num_cases, batch_size)

    assert [case for start, end in bounds for case in range(start, end)] == list(range(num_cases))
    assert all(end - start == batch_size for start, end in bounds[:-1])
    last = bounds[-1][1] - bounds[-1][0]
    assert 1 < last <= batch_size + 1 or batch_size == 1


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_any_batch_size_trains(batch_size: int) -> None:
    epochs = list(fit(make_dataset(10), hyperparameters=with_epochs(2, batch_size=batch_size)))

    assert [epoch.number for epoch in epochs] == [1, 2]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_several_devices_train_through_data_parallel(
    precision: TrainingPrecision, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[list[torch.device]] = []

    class OnOneDevice(nn.Module):
        """Stands in for DataParallel, which needs GPUs."""

        def __init__(self, module: nn.Module, device_ids: list[torch.device]) -> None:
            super().__init__()
            self.module = module
            used.append(device_ids)

        def forward(self, series: torch.Tensor) -> torch.Tensor:
            with ThreadPoolExecutor(1) as pool:  # as DataParallel: settings of the caller's thread are lost
                logits: torch.Tensor = pool.submit(self._computed, series, torch.is_grad_enabled()).result()
            return logits

        def _computed(self, series: torch.Tensor, gradients: bool) -> torch.Tensor:
            with torch.set_grad_enabled(gradients):
                logits: torch.Tensor = self.module(series)
            return logits

    monkeypatch.setattr(nn, "DataParallel", OnOneDevice)
    devices = [torch.device("cpu", 0), torch.device("cpu", 0)]
    wrapped = list(
        fit(make_dataset(10), hyperparameters=with_epochs(1), devices=devices, precision=precision)
    )
    plain = list(fit(make_dataset(10), hyperparameters=with_epochs(1), precision=precision))

    assert used == [devices]
    assert outcome(wrapped) == outcome(plain)  # also: no `module.` in the names of weights


def test_a_state_has_the_random_numbers_of_every_device(monkeypatch: pytest.MonkeyPatch) -> None:
    states = {index: torch.tensor([index]) for index in range(2)}
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: states[device.index])
    monkeypatch.setattr(
        torch.cuda, "set_rng_state", lambda state, device: states.update({device.index: state})
    )
    trainer = Trainer(TrainingData.scaled(make_dataset(10), None, "series"), TINY)
    trainer._devices = cuda_devices(2)

    saved = trainer.state()
    states = {}
    trainer.restore(saved)

    assert [state.item() for state in states.values()] == [0, 1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_learns_too() -> None:
    devices = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    *_, last = fit(make_dataset(60), make_dataset(40, seed=1), with_epochs(60), devices=devices)

    assert last.metrics["valid_accuracy"] == 1.0


def test_few_long_series_are_validated_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def validated() -> tuple[dict[str, float], list[int]]:
        sizes: list[int] = []
        trainer = Trainer(TrainingData.scaled(make_dataset(20), make_dataset(11), "series"), with_epochs(1))
        trainer._model.register_forward_pre_hook(
            lambda model, series: None if model.training else sizes.append(len(series[0]))
        )
        return dict(trainer.step().metrics), sizes

    together, whole = validated()
    monkeypatch.setattr(training, "_FEATURES_TO_EVALUATE_AT_ONCE", 4 * LENGTH * TINY.filters_1)
    apart, parts = validated()

    assert (whole, parts) == ([11], [4, 4, 3])
    assert apart == pytest.approx(together)
