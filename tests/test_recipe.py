from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.recipe import RECIPES, RecipeName
from lstmfcn.training import Trainer, TrainingData, TrainingSettings, fit
from tests.samples import TINY, make_dataset


def test_the_reference_trains_at_a_fixed_rate() -> None:
    recipe, hyperparameters = RECIPES["reference"], Hyperparameters(lr=0.003)

    assert recipe.learning_rate(hyperparameters, [1.0] * 500, 0.5) == 0.003
    assert recipe.completed(hyperparameters, num_cases=50) == hyperparameters


class Rates(torch.optim.Optimizer):
    """What a scheduler sees of an optimiser, without PyTorch's compiler, which the others import."""

    def __init__(self, lr: float) -> None:
        self.param_groups = [{"lr": lr}]


@given(st.lists(st.floats(0, 2, allow_nan=False), max_size=400), st.integers(1, 120))
def test_the_papers_rate_falls_as_pytorchs_on_plateaus(losses: list[float], repeats: int) -> None:
    losses = [loss for loss in losses for _ in range(repeats)][:1500]
    optimiser = Rates(0.001)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser,
        factor=0.5 ** (1 / 3),
        patience=99,
        threshold=1e-4,
        threshold_mode="abs",
        min_lr=1e-4,
        eps=0,
    )
    for loss in losses:
        scheduler.step(loss)

    rate = RECIPES["paper"].learning_rate(Hyperparameters(), losses, 0.0)

    assert rate == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-9)


def test_trained_again_a_network_goes_as_far_as_was_best_or_to_the_end_of_its_cycle() -> None:
    hyperparameters = Hyperparameters(epochs=200)

    assert RECIPES["reference"].refitted(hyperparameters, best_epoch=70).epochs == 70
    assert RECIPES["paper"].refitted(hyperparameters, best_epoch=70).epochs == 70
    assert RECIPES["fast"].refitted(hyperparameters, best_epoch=70) == hyperparameters


def test_the_papers_rate_ends_at_a_tenth() -> None:
    assert RECIPES["paper"].learning_rate(Hyperparameters(), [1.0] * 2000, 0.0) == 1e-4


def rates(epochs: int) -> Iterator[float]:
    hyperparameters = Hyperparameters(lr=0.01, epochs=epochs)
    for epoch in range(epochs):
        for share in (0.0, 0.5):
            yield RECIPES["fast"].learning_rate(hyperparameters, [1.0] * epoch, share)


def test_the_fast_rate_is_one_cycle() -> None:
    cycle = list(rates(epochs=100))
    top = cycle.index(max(cycle))

    assert cycle[0] == pytest.approx(0.01 / 25)
    assert max(cycle) == pytest.approx(0.01)
    assert top == 60  # three tenths of 200 halves
    assert cycle[:top] == sorted(cycle[:top])
    assert cycle[top:] == sorted(cycle[top:], reverse=True)
    assert cycle[-1] < 1e-5


@pytest.mark.parametrize(
    ("num_cases", "epochs", "batch_size"),
    [(25, 680, 16), (400, 170, 16), (999, 108, 16), (1000, 108, 64), (10_000, 34, 64), (10**9, 1, 64)],
)
def test_the_fast_recipe_trains_fewer_epochs_in_larger_batches_the_more_series_there_are(
    num_cases: int, epochs: int, batch_size: int
) -> None:
    completed = RECIPES["fast"].completed(Hyperparameters(), num_cases)

    assert (completed.lr, completed.epochs, completed.batch_size) == (0.002, epochs, batch_size)


@pytest.mark.parametrize(
    ("recipe", "num_cases", "by_muon"),
    [
        ("fast", 99, False),
        ("fast", 100, True),
        ("fast", 999, True),
        ("fast", 1000, False),
        ("paper", 500, False),
        ("reference", 500, False),
    ],
)
def test_only_the_fast_recipe_moves_kernels_by_muon_and_only_with_hundreds_of_series(
    recipe: RecipeName, num_cases: int, by_muon: bool
) -> None:
    assert RECIPES[recipe].moves_kernels_by_muon(num_cases) == by_muon


def test_a_training_of_hundreds_of_series_moves_kernels_by_muon() -> None:
    def moments(num_cases: int, num_for_recipe: int | None = None) -> set[str]:
        data = TrainingData.scaled(make_dataset(num_cases), None, "series")
        trainer = Trainer(replace(data, num_for_recipe=num_for_recipe), TINY, TrainingSettings("fast"))
        trainer.step()
        return set(trainer.state().moments[0])

    assert moments(100) == {"mean"}
    assert moments(99) == {"step", "mean", "square"}
    assert moments(100, num_for_recipe=99) == {"step", "mean", "square"}


def test_the_fast_recipes_batch_normalisation_forgets_the_untrained_network_sooner() -> None:
    def variances_after_one_step(recipe: RecipeName) -> torch.Tensor:
        hyperparameters = Hyperparameters(**{**TINY.model_dump(), "batch_size": 20, "epochs": 1})
        (epoch,) = fit(make_dataset(20), hyperparameters=hyperparameters, recipe=recipe)
        assert epoch.checkpoint is not None
        return epoch.checkpoint.weights["convolutional.layers.0.2.running_var"][::2]  # where none is whitened

    of_the_step = (variances_after_one_step("paper") - 0.99) / 0.01

    assert torch.allclose(variances_after_one_step("fast"), 0.9 + 0.1 * of_the_step, atol=1e-5)


@pytest.mark.parametrize(("recipe", "decay"), [("reference", 0.0), ("paper", 0.0), ("fast", 0.3)])
def test_only_the_fast_recipe_decays_weights(
    recipe: RecipeName, decay: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_step = Hyperparameters(**{**TINY.model_dump(), "batch_size": 20, "epochs": 1, "lr": 0.5})
    data = TrainingData.scaled(make_dataset(20), None, "series")

    def weights_before_and_after() -> tuple[Tensor, Tensor]:
        trainer = Trainer(data, one_step, TrainingSettings(recipe))
        before = trainer.state().weights["linear.weight"]
        trainer.step()
        return before, trainer.state().weights["linear.weight"]

    before, after = weights_before_and_after()
    monkeypatch.setattr(type(RECIPES[recipe]), "weight_decay", 0.0)
    _, without_decay = weights_before_and_after()

    rate = RECIPES[recipe].learning_rate(one_step, [], 0.0)
    assert torch.allclose(without_decay - after, rate * decay * before, atol=1e-6)


def test_what_is_given_wins_over_what_a_recipe_chooses() -> None:
    completed = RECIPES["fast"].completed(Hyperparameters(lr=0.5, hidden_size=64), num_cases=50)

    assert (completed.lr, completed.hidden_size) == (0.5, 64)
    assert completed.epochs < Hyperparameters().epochs


@pytest.mark.parametrize(("recipe", "chosen_by"), [("paper", "train_loss"), ("fast", "valid_accuracy")])
def test_which_epoch_is_kept_with_validation(recipe: RecipeName, chosen_by: str) -> None:
    objective = RECIPES[recipe].objective(has_validation=True)

    assert objective is not None
    assert objective.metric == chosen_by


def test_the_fast_recipe_keeps_the_last_epoch_without_validation() -> None:
    epochs = list(fit(make_dataset(20), hyperparameters=TINY, recipe="fast"))

    assert all(epoch.checkpoint for epoch in epochs)
    assert len(epochs) == TINY.epochs


@pytest.mark.parametrize("recipe", ["paper", "fast"])
def test_every_recipe_learns(recipe: str) -> None:
    hyperparameters = Hyperparameters(**{**TINY.model_dump(), "epochs": 20, "batch_size": 20, "lr": 0.02})

    *_, last = fit(make_dataset(60), make_dataset(40, seed=1), hyperparameters, recipe=recipe)  # type: ignore[arg-type]

    assert last.metrics["valid_accuracy"] == 1.0
    assert math.isfinite(last.metrics["valid_loss"])
