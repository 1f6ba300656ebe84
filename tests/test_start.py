from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lstmfcn.checkpoint import Checkpoint
from lstmfcn.classes import ClassLabels
from lstmfcn.dataset import read_further, read_training
from lstmfcn.ensemble import Ensemble
from lstmfcn.errors import CheckpointError, DataError, HyperparameterError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.scaling import Scaling
from lstmfcn.search_space import Choice, SearchSpace
from lstmfcn.start import Start
from lstmfcn.training import Trainer, TrainingData, TrainingSettings, fit
from lstmfcn.treatment import Treatment
from tests.samples import LENGTH, TINY, best_of, make_dataset, write_csv


@pytest.fixture
def start(trained: Checkpoint) -> Start:
    return Start(trained)


def test_training_starts_from_the_weights_of_the_checkpoint_with_a_fresh_optimiser(start: Start) -> None:
    data = TrainingData.scaled(make_dataset(20), None, "series", start)

    state = Trainer(data, Hyperparameters(lr=0.5)).state()

    assert all(torch.equal(state.weights[name], own) for name, own in start.checkpoint.weights.items())
    assert (state.moments, state.history) == ([], [])


def test_what_was_learnt_is_still_known_after_an_epoch_of_small_steps(start: Start) -> None:
    (epoch,) = fit(
        make_dataset(20), make_dataset(40, seed=1), Hyperparameters(lr=1e-6, epochs=1), start=start
    )

    assert epoch.metrics["valid_accuracy"] == 1.0


def test_the_checkpoint_decides_on_the_network_and_the_training_on_how_it_is_trained(start: Start) -> None:
    (epoch,) = fit(make_dataset(20), None, Hyperparameters(lr=0.5, epochs=1), start=start)

    assert epoch.checkpoint is not None
    used = epoch.checkpoint.hyperparameters
    assert used == TINY.model_copy(update={"lr": 0.5, "batch_size": 128, "epochs": 1})


def test_a_recipe_chooses_what_is_not_given(start: Start) -> None:
    data = TrainingData.scaled(make_dataset(20), None, "series", start)

    used = Trainer(data, Hyperparameters(epochs=7), TrainingSettings("fast")).hyperparameters

    assert (used.lr, used.batch_size, used.epochs, used.hidden_size) == (0.002, 16, 7, TINY.hidden_size)


def test_another_network_is_refused_by_name(start: Start) -> None:
    assert start.hyperparameters(Hyperparameters(hidden_size=3)).hidden_size == 3

    with pytest.raises(HyperparameterError) as refused:
        start.hyperparameters(Hyperparameters(hidden_size=64))

    assert str(refused.value) == (
        "hyperparameter hidden_size is 3 in the checkpoint that training starts from, got 64;"
        " only lr, batch_size, epochs can be chosen"
    )


def test_a_search_space_has_the_network_of_the_checkpoint(start: Start) -> None:
    given = SearchSpace.from_mapping({"lr": {"log_uniform": [0.001, 0.01]}, "hidden_size": 3})

    space = start.search_space(given)

    assert list(space.varied) == ["lr"]
    assert space.domains["filters_1"] == Choice((4,))
    assert "epochs" not in space.domains
    with pytest.raises(HyperparameterError, match=r"^hyperparameter dropout is 0.8 in .* got {'uniform': "):
        start.search_space(SearchSpace.from_mapping({"dropout": {"uniform": [0.5, 0.9]}}))


def test_the_scaling_is_that_of_the_checkpoint(trained: Checkpoint) -> None:
    scaling = Scaling(method="training-set", mean=5.0, deviation=2.0)
    start = Start(replace(trained, scaling=scaling))
    dataset = make_dataset(20)

    data = TrainingData.scaled(dataset, dataset, "series", start)

    assert data.scaling == scaling
    assert data.valid is not None
    np.testing.assert_array_equal(data.valid.series, scaling(dataset.series))
    start.refuse_other({"scaling": "training-set", "task": None})
    with pytest.raises(HyperparameterError, match=r"^scaling is training-set in .*, got series$"):
        start.refuse_other({"scaling": "series"})


def test_the_task_is_that_of_the_checkpoint(start: Start) -> None:
    start.refuse_other({"task": "multiclass"})
    with pytest.raises(HyperparameterError, match=r"^task is multiclass in .*, got multilabel$"):
        start.refuse_other({"task": "multilabel"})


def test_the_treatment_of_missing_values_and_lengths_is_that_of_the_checkpoint(
    trained: Checkpoint, tmp_path: Path
) -> None:
    start = Start(replace(trained, treatment=Treatment(missing="interpolate", length="resample")))
    (tmp_path / "train.csv").write_text("up,0,,2\ndown,1,0\n")

    dataset = read_further(tmp_path, start.checkpoint, new_classes=False)

    assert dataset.treatment == start.checkpoint.treatment
    assert np.allclose(dataset.series, [np.linspace(0, 2, LENGTH), np.linspace(1, 0, LENGTH)])
    start.refuse_other({"missing": "interpolate", "length": "resample"})
    with pytest.raises(HyperparameterError, match=r"^length is resample in .*, got pad$"):
        start.refuse_other({"length": "pad"})
    with pytest.raises(HyperparameterError, match=r"^missing is interpolate in .*, got refuse$"):
        start.refuse_other({"missing": "refuse"})


def test_labels_keep_the_positions_that_they_have_in_the_checkpoint(start: Start, tmp_path: Path) -> None:
    row = "," + ",".join(["1"] * LENGTH) + "\n"
    (tmp_path / "train.csv").write_text(f"up{row}down{row}up{row}")

    dataset = read_further(tmp_path, start.checkpoint, new_classes=False)

    assert dataset.classes.names == ("down", "up")
    assert dataset.targets.tolist() == [1, 0, 1]


def test_a_new_class_is_refused_unless_it_is_to_be_added(start: Start, tmp_path: Path) -> None:
    row = "," + ",".join(["1"] * LENGTH) + "\n"
    path = tmp_path / "train.csv"
    path.write_text(f"up{row}flat{row}still{row}")

    with pytest.raises(DataError) as refused:
        read_further(path, start.checkpoint, new_classes=False)

    assert str(refused.value) == (
        f"{path} has the label 'flat', which is none of the checkpoint's classes down, up;"
        " --new-classes adds it"
    )
    added = read_further(path, start.checkpoint, new_classes=True)
    assert added.classes.names == ("down", "flat", "still", "up")
    assert added.targets.tolist() == [3, 1, 2]


def test_classes_keep_their_weights_when_others_come_between_them(start: Start) -> None:
    classes = ClassLabels(["down", "flat", "up"])
    data = TrainingData.scaled(replace(make_dataset(20), classes=classes), None, "series", start)

    weights = Trainer(data, Hyperparameters(epochs=1), TrainingSettings(seed=3)).state().weights

    for name in ("linear.weight", "linear.bias"):
        assert torch.equal(weights[name][[0, 2]], start.checkpoint.weights[name])
    again = Trainer(data, Hyperparameters(epochs=1), TrainingSettings(seed=4)).state().weights
    assert not torch.equal(weights["linear.weight"][1], again["linear.weight"][1])


def test_series_of_another_length_than_the_checkpoints_are_refused(start: Start) -> None:
    dataset = make_dataset(20)
    shorter = replace(dataset, series=dataset.series[:, :-1])

    with pytest.raises(DataError, match=rf"^length: the data has {LENGTH - 1} where {LENGTH} is expected"):
        TrainingData.scaled(shorter, None, "series", start)


def test_data_without_the_classes_of_the_checkpoint_are_refused(start: Start) -> None:
    others = replace(make_dataset(20), classes=ClassLabels(["left", "right"]))

    with pytest.raises(DataError, match=r"^classes: the data has .* are expected; read_further reads"):
        Trainer(TrainingData.scaled(others, None, "series", start), Hyperparameters())


@pytest.mark.parametrize(
    ("new", "names", "targets"),
    [("2", ("1", "2", "10"), [0, 1, 2]), ("walking", ("1", "10", "walking"), [0, 2, 1])],
)
def test_numbers_are_the_same_class_however_they_are_spelt_beside_new_ones_and_text(
    new: str, names: tuple[str, ...], targets: list[int], trained: Checkpoint, tmp_path: Path
) -> None:
    start = Start(replace(trained, classes=ClassLabels(["1", "10"])))
    row = "," + ",".join(["1"] * LENGTH) + "\n"
    (tmp_path / "train.csv").write_text(f"1.0{row}{new}{row}10.0{row}")

    dataset = read_further(tmp_path, start.checkpoint, new_classes=True)

    assert dataset.classes.names == names
    assert dataset.targets.tolist() == targets


def with_columns(path: Path, header: str, *labels: str) -> Path:
    """A file with a header, and a series for each of the labels."""
    names = ",".join(f"x_{step}" for step in range(1, LENGTH + 1))
    values = ",".join(["1"] * LENGTH)
    path.write_text("\n".join([f"{header},{names}", *(f"{label},{values}" for label in labels)]) + "\n")
    return path


def test_a_new_label_column_is_a_new_class(trained: Checkpoint, tmp_path: Path) -> None:
    start = Start(replace(trained, classes=ClassLabels(["y_1", "y_2"])))
    path = with_columns(tmp_path / "train.csv", "y_1,y_2,y_3", "0,1,0", "0,0,1")

    with pytest.raises(DataError, match=r"has the label 'y_3', which is none of .* y_1, y_2; --new-classes"):
        read_further(path, start.checkpoint, new_classes=False)
    added = read_further(path, start.checkpoint, new_classes=True)

    assert added.classes.names == ("y_1", "y_2", "y_3")
    assert added.targets.tolist() == [1, 2]


def test_a_new_label_without_a_header_is_no_class_of_a_network_that_learnt_from_one(
    trained: Checkpoint, tmp_path: Path
) -> None:
    start = Start(replace(trained, classes=ClassLabels(["y_1", "y_2"])))
    path = write_csv(tmp_path / "train.csv", make_dataset(4), labelled=True)

    with pytest.raises(DataError, match=r"'down' and no header; the checkpoint learnt its classes y_1, y_2"):
        read_further(path, start.checkpoint, new_classes=True)


def test_data_of_a_single_class_is_refused(start: Start, tmp_path: Path) -> None:
    (tmp_path / "up.csv").write_text("up," + ",".join(["1"] * LENGTH) + "\n")

    with pytest.raises(DataError, match=r"holds only the class 'up'; training needs at least two classes$"):
        read_further(tmp_path, start.checkpoint, new_classes=False)


def test_label_columns_beyond_classes_of_other_names_are_refused(start: Start, tmp_path: Path) -> None:
    path = with_columns(tmp_path / "train.csv", "y_1,y_2,y_3", "0,1,0")

    with pytest.raises(DataError, match=r"row 1 is a header with 3 y columns where 2 are expected$"):
        read_further(path, start.checkpoint, new_classes=True)


def test_a_network_of_one_output_goes_on(tmp_path: Path) -> None:
    path = with_columns(tmp_path / "train.csv", "y_1", "0", "1", "1", "0")
    start = Start(best_of(read_training(path)))
    further = read_further(path, start.checkpoint, new_classes=False)

    state = Trainer(TrainingData.scaled(further, None, "series", start), TINY).state()

    assert further.task == "binary"
    assert torch.equal(state.weights["linear.weight"], start.checkpoint.weights["linear.weight"])


def test_two_classes_of_one_output_are_all_that_it_can_have(trained: Checkpoint, tmp_path: Path) -> None:
    start = Start(replace(trained, task="binary"))
    path = write_csv(tmp_path / "train.csv", make_dataset(4), labelled=True)

    with pytest.raises(DataError) as refused:
        read_further(path, start.checkpoint, new_classes=True)

    assert str(refused.value) == (
        "--new-classes can't add to the checkpoint's classes down, up: its task is binary, and a network with"
        " one output tells two classes apart"
    )
    assert len(read_further(path, start.checkpoint, new_classes=False)) == 4


def test_another_length_is_refused(start: Start, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "train.csv", make_dataset(4), labelled=True)
    path.write_text(path.read_text().replace("up,", "up,0,"))

    with pytest.raises(DataError, match=rf"train.csv: row 2 has 14 columns where {LENGTH + 1} are expected$"):
        read_further(path, start.checkpoint, new_classes=False)


def test_an_ensemble_is_refused_with_a_network_to_start_from(trained: Checkpoint, tmp_path: Path) -> None:
    Ensemble((trained, trained)).save(tmp_path)

    with pytest.raises(CheckpointError) as refused:
        Start.load(tmp_path)

    assert str(refused.value) == (
        f"{tmp_path} is an ensemble of 2 networks; training starts from one of the folders in it"
    )
    (first,) = tmp_path.glob("1-*")
    assert Start.load(first).checkpoint.digest() == trained.digest()
