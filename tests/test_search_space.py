import math
from pathlib import Path
from typing import Any

import pytest

from lstmfcn.errors import HyperparameterError, MissingDataError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.search_space import DEFAULT_RANGES, Choice, Range, SearchSpace, read_points


def test_every_kind_of_domain_is_read_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "num-layers: {integer: [1, 2]}\n"
        "dropout: {uniform: [0.5, 0.9]}\n"
        "lr: {log_uniform: [1.0e-4, 0.01]}\n"
        "batch_size: {categorical: [32, 64]}\n"
        "epochs: 50\n"
    )

    assert SearchSpace.read(path).domains == {
        "num_layers": Range("integer", 1, 2),
        "dropout": Range("uniform", 0.5, 0.9),
        "lr": Range("log_uniform", 0.0001, 0.01),
        "batch_size": Choice((32, 64)),
        "epochs": Choice((50,)),
    }


def test_the_default_space_leaves_batch_size_and_epochs_to_the_recipe() -> None:
    names = list(SearchSpace.from_mapping(DEFAULT_RANGES).domains)
    assert names == ["hidden_size", "dropout", "kernel_size_1", "lr"]


@pytest.mark.parametrize(
    ("ranges", "epochs"),
    [
        ({}, 2000),
        ({"epochs": 7}, 7),
        ({"epochs": {"integer": [5, 9]}}, 9),
        ({"epochs": {"categorical": [8, 3]}}, 8),
    ],
)
def test_the_most_epochs_that_a_trial_can_have(ranges: dict[str, Any], epochs: int) -> None:
    assert SearchSpace.from_mapping(ranges).largest().epochs == epochs


@pytest.mark.parametrize(
    ("ranges", "sentence"),
    [
        ({"depth": 3}, "unknown hyperparameter 'depth'"),
        ({"epochs": 0}, "hyperparameter epochs must be a whole number"),
        (
            {"dropout": {"uniform": [0.5, 1.0]}},
            "hyperparameter dropout must be a number, at least 0 and below 1, got 1.0",
        ),
        ({"epochs": {"uniform": [1, 5]}}, "epochs takes integer or categorical, got uniform"),
        ({"lr": {"integer": [1, 2]}}, "lr takes uniform, log_uniform or categorical, got integer"),
        ({"dropout": {"log_uniform": [0, 0.5]}}, "dropout: log_uniform needs a low above 0, got [0, 0.5]"),
        ({"lr": {"uniform": [0.1, 0.01]}}, "lr: uniform needs [low, high], got [0.1, 0.01]"),
        ({"lr": {"uniform": [0.1]}}, "lr: uniform needs [low, high], got [0.1]"),
        (
            {"lr": {"normal": [0, 1]}},
            "lr must be a value or one of uniform, log_uniform, integer, categorical",
        ),
        ({"lr": {}}, "lr must be a value or one of uniform, log_uniform, integer, categorical"),
        ({"lr": {"categorical": []}}, "lr: categorical needs a list of values, got []"),
        ({"lr": [0.1, 0.2]}, "hyperparameter lr must be a number"),
    ],
)
def test_a_space_that_could_give_an_invalid_hyperparameter_is_refused(
    ranges: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(HyperparameterError) as refused:
        SearchSpace.from_mapping(ranges)

    assert str(refused.value).startswith("search space: " + sentence)


@pytest.mark.parametrize("text", ["", "- lr", "lr"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "space.yaml").write_text(text)

    with pytest.raises(HyperparameterError, match=r"must map names of hyperparameters to ranges or values$"):
        SearchSpace.read(tmp_path / "space.yaml")


@pytest.mark.parametrize(
    "text", ["lr: {uniform: [", "lr: " + 3000 * "[" + 3000 * "]", r'lr: "\U00110000"', r'lr: "\UFFFFFFFF"']
)
def test_a_file_that_is_no_yaml_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(text)

    with pytest.raises(HyperparameterError, match="is not YAML: "):
        SearchSpace.read(tmp_path / "space.yaml")


@pytest.mark.parametrize("text", ["lr: 0.1\nlr: 0.2", "kernel-size-1: 8\nkernel_size_1: 16"])
def test_a_name_that_is_there_twice_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(text)

    with pytest.raises(HyperparameterError) as refused:
        SearchSpace.read(path)

    name = text.partition(":")[0].replace("-", "_")
    assert str(refused.value) == f"{path}: {name} is there twice"


def test_numbers_in_a_file_are_decimal(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("epochs: 010\nkernel_size_1: {categorical: [08, 016]}\nlr: 1e-3\n")

    space = SearchSpace.read(tmp_path / "space.yaml")

    assert space.described() == {"kernel_size_1": {"categorical": [8, 16]}, "lr": 0.001, "epochs": 10}


@pytest.mark.parametrize("value", ["0x10", "1:30", "1_0", "true", "~", "2020-13-45"])
def test_what_only_yaml_takes_for_a_number_is_refused(value: str, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(f"epochs: {value}")

    with pytest.raises(HyperparameterError) as refused:
        SearchSpace.read(tmp_path / "space.yaml")

    assert str(refused.value).endswith(f"got {value!r}")


def test_a_file_that_is_not_there_is_told_as_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"space.yaml does not exist$"):
        SearchSpace.read(tmp_path / "space.yaml")


def test_points_are_like_the_whole_space_in_what_they_leave_out(tmp_path: Path) -> None:
    (tmp_path / "points.yaml").write_text("[{lr: 0.01}, {batch-size: 16, epochs: 7}]")
    space = SearchSpace.from_mapping({"lr": {"uniform": [0.1, 0.2]}, "batch_size": 64, "epochs": 5})

    assert read_points(tmp_path / "points.yaml", space) == [
        Hyperparameters(lr=0.01, batch_size=64, epochs=5),
        Hyperparameters(batch_size=16, epochs=7),
    ]


@pytest.mark.parametrize("text", ["{lr: 0.01}", "[0.01]", "[{lr: 0.01}, 0.02]"])
def test_points_that_are_no_list_of_mappings_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "points.yaml"
    path.write_text(text)

    with pytest.raises(HyperparameterError) as refused:
        read_points(path, SearchSpace({}))

    assert str(refused.value) == f"{path} must be a list of mappings from hyperparameters to values"


@pytest.mark.parametrize(
    ("ranges", "number"),
    [
        ({}, 1),
        (
            {"epochs": 5, "lr": {"categorical": [0.1, 0.2, 0.2]}, "hidden_size": {"categorical": [4, 8, 16]}},
            6,
        ),
        ({"epochs": 5, "lr": {"uniform": [0.1, 0.2]}}, math.inf),
    ],
)
def test_a_space_knows_how_many_networks_it_has(ranges: dict[str, Any], number: float) -> None:
    assert SearchSpace.from_mapping(ranges).num_networks == number


def test_the_largest_network_is_that_of_space_and_points_together() -> None:
    space = SearchSpace.from_mapping({"hidden_size": {"categorical": [8, 64]}, "lr": {"uniform": [0.1, 0.2]}})

    largest = space.largest([Hyperparameters(hidden_size=32, epochs=3000), Hyperparameters(filters_1=512)])

    assert largest == Hyperparameters(hidden_size=64, lr=0.2, epochs=3000, filters_1=512)
