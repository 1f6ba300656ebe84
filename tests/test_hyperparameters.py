from typing import Any

import pytest

from lstmfcn.errors import HyperparameterError
from lstmfcn.hyperparameters import Hyperparameters


def test_defaults_are_those_of_the_reference_algorithm_without_what_the_papers_add() -> None:
    assert Hyperparameters().model_dump() == {
        "num_layers": 1,
        "hidden_size": 8,
        "dropout": 0.8,
        "filters_1": 128,
        "filters_2": 256,
        "filters_3": 128,
        "kernel_size_1": 8,
        "kernel_size_2": 5,
        "kernel_size_3": 3,
        "lr": 0.001,
        "batch_size": 128,
        "epochs": 2000,
        "attention": 0,
        "squeeze_excite": 0,
    }


def test_values_as_text_are_accepted_as_a_hyperparameters_json_has_them() -> None:
    given: dict[str, Any] = {"batch_size": "64", "dropout": "0.5", "lr": "1e-2", "num_layers": "2"}

    assert Hyperparameters(**given) == Hyperparameters(batch_size=64, dropout=0.5, lr=0.01, num_layers=2)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    given: dict[str, Any] = {"learning_rate": 0.1}

    with pytest.raises(HyperparameterError) as refused:
        Hyperparameters(**given)

    assert str(refused.value) == (
        "unknown hyperparameter 'learning_rate'; the hyperparameters are num_layers, hidden_size, dropout, "
        "filters_1, filters_2, filters_3, kernel_size_1, kernel_size_2, kernel_size_3, lr, batch_size, "
        "epochs, attention, squeeze_excite"
    )


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("epochs", 0, "epochs must be a whole number, at least 1 and at most 1000000, got 0"),
        ("epochs", 1.5, "epochs must be a whole number, at least 1 and at most 1000000, got 1.5"),
        ("num_layers", "two", "num_layers must be a whole number, at least 1 and at most 64, got 'two'"),
        ("hidden_size", True, "hidden_size must be a whole number, at least 1 and at most 8192, got True"),
        ("hidden_size", "1_0", "hidden_size must be a whole number, at least 1 and at most 8192, got '1_0'"),
        ("hidden_size", None, "hidden_size must be a whole number, at least 1 and at most 8192, got None"),
        ("dropout", 1, "dropout must be a number, at least 0 and below 1, got 1"),
        ("lr", 0, "lr must be a number, above 0 and at most 10, got 0"),
        ("lr", float("nan"), "lr must be a number, above 0 and at most 10, got nan"),
        ("lr", "inf", "lr must be a number, above 0 and at most 10, got 'inf'"),
    ],
)
def test_a_bad_value_is_refused_with_what_is_right(name: str, value: Any, sentence: str) -> None:
    with pytest.raises(HyperparameterError) as refused:
        Hyperparameters(**{name: value})

    assert str(refused.value) == f"hyperparameter {sentence}"
