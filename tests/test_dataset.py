from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmfcn.dataset import ClassLabels, Dataset, read_labelled, read_training
from lstmfcn.errors import DataError


def test_numeric_labels_are_in_numeric_order() -> None:
    assert ClassLabels.of(["10", "9", "-1", "2.5"]).names == ("-1", "2.5", "9", "10")


def test_other_labels_are_in_alphabetical_order() -> None:
    assert ClassLabels.of(["walk", "10", "9", "run"]).names == ("10", "9", "run", "walk")


def test_two_spellings_of_a_number_are_one_class_spelt_as_first_seen() -> None:
    classes = ClassLabels.of(["2.0", "1", "1.0", "2"])

    assert classes.names == ("1", "2.0")
    assert classes.positions(["1.00", "2", "1e0"], "f").tolist() == [0, 1, 0]


def test_beside_text_spellings_of_a_number_are_different_classes() -> None:
    assert ClassLabels.of(["1", "1.0", "x"]).names == ("1", "1.0", "x")


@given(st.lists(st.sampled_from(["a", "b", "7", "7.0", "-3", "2"]), min_size=1))
def test_every_label_has_the_position_of_its_class(labels: list[str]) -> None:
    classes = ClassLabels.of(labels)
    names = [classes.names[position] for position in classes.positions(labels, "f")]

    assert ClassLabels.of(names).names == classes.names


def test_a_label_of_no_class_is_refused_with_its_row() -> None:
    with pytest.raises(DataError) as refused:
        ClassLabels(["a", "b"]).positions(["b", "c"], "valid.csv")

    assert str(refused.value) == "valid.csv: row 2, column 1: label 'c' is none of the classes a, b"


def test_a_folder_is_read_as_one_channel_in_the_order_of_its_names(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.csv").write_text("x,1,2\n")
    (tmp_path / "a.csv").write_text("y,3,4\n")
    (tmp_path / "sub" / "c.csv").write_text("x,5,6\n")
    (tmp_path / "notes.txt").write_text("not a series")

    dataset = read_training(tmp_path)

    assert dataset.classes.names == ("x", "y")
    assert dataset.targets.tolist() == [1, 0, 0]
    assert dataset.series.tolist() == [[3, 4], [1, 2], [5, 6]]


def test_all_files_of_a_channel_have_one_length(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,1,2\n")
    (tmp_path / "b.csv").write_text("y,1,2,3\n")

    with pytest.raises(DataError, match=r"b.csv: row 1 has 4 columns where 3 are expected$"):
        read_training(tmp_path)


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("1,1,2\n1.0,3,4\n")

    with pytest.raises(DataError, match=r"holds only the class '1'; training needs at least two classes$"):
        read_training(tmp_path / "train.csv")


def test_an_unknown_label_of_a_folder_is_told_with_file_and_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,1,2\n")
    (tmp_path / "b.csv").write_text("x,1,2\nz,1,2\n")

    with pytest.raises(DataError, match=r"b.csv: row 2, column 1: label 'z' is none of the classes x, y$"):
        read_labelled(tmp_path, ClassLabels(["x", "y"]), length=2)


def test_integers_beyond_the_precision_of_a_float_are_different_classes() -> None:
    assert ClassLabels.of(["9007199254740993", "9007199254740992"]).names == (
        "9007199254740992",
        "9007199254740993",
    )


def test_a_split_with_nothing_to_hold_out_is_refused() -> None:
    dataset = Dataset(np.zeros((2, 3), np.float32), np.array([0, 1]), ClassLabels(["a", "b"]))

    with pytest.raises(
        DataError, match=r"^no class of the training data has two series, so none can be held out"
    ):
        dataset.split(0.2, seed=0)


@given(st.lists(st.integers(0, 3), min_size=5, max_size=60), st.floats(0.05, 0.5), st.integers(0, 5))
def test_a_split_takes_its_share_of_every_class(targets: list[int], share: float, seed: int) -> None:
    series = np.arange(len(targets), dtype=np.float32)[:, None]
    dataset = Dataset(series, np.array(targets), ClassLabels(["a", "b", "c", "d"]))

    kept, held_out = dataset.split(share, seed)

    assert sorted(np.concatenate([kept.series, held_out.series])[:, 0]) == list(range(len(targets)))
    for position in range(4):
        count = targets.count(position)
        expected = 0 if count < 2 else max(1, round(share * count))
        assert (held_out.targets == position).sum() == expected
