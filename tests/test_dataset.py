from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmfcn.classes import ClassLabels
from lstmfcn.dataset import Dataset, read_labelled, read_training
from lstmfcn.errors import DataError
from lstmfcn.identifiers import Identifiers
from lstmfcn.tasks import TaskName
from lstmfcn.treatment import UNTREATED, LengthTreatment, Treatment
from tests.samples import make_channels, make_dataset, make_labels, write_csv, write_named_csv


class Network(NamedTuple):
    classes: ClassLabels
    length: int
    task: TaskName = "multiclass"
    treatment: Treatment = UNTREATED


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
        read_labelled(tmp_path, Network(ClassLabels(["x", "y"]), 2))


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


@pytest.mark.parametrize("num_classes", [2, 3])
def test_both_formats_give_the_same_series_and_class_indices(num_classes: int, tmp_path: Path) -> None:
    names = [f"{number}.0" for number in range(num_classes)]
    targets = np.arange(20) % num_classes
    dataset = replace(make_dataset(20), targets=targets, classes=ClassLabels(names))

    first = read_training(write_csv(tmp_path / "first.csv", dataset, labelled=True))
    named = read_training(write_named_csv(tmp_path / "named.csv", dataset, labelled=True, seed=1))

    assert np.array_equal(first.series, named.series)
    assert first.targets.tolist() == named.targets.tolist() == targets.tolist()
    assert first.classes.names == tuple(names)
    assert named.classes.names == tuple(f"y_{number}" for number in range(1, num_classes + 1))
    assert (
        str(first) == f"20 series of length 12 in {num_classes} classes (task multiclass, without a header)"
    )
    assert str(named) == f"20 series of length 12 in {num_classes} classes (task multiclass, with a header)"


def test_a_network_that_learnt_one_format_is_scored_on_the_other(tmp_path: Path) -> None:
    dataset = make_dataset(6)
    path = write_named_csv(tmp_path / "named.csv", dataset, labelled=True)

    read = read_labelled(path, dataset)

    assert read.targets.tolist() == dataset.targets.tolist()


def test_a_single_label_column_is_the_second_of_two_classes(tmp_path: Path) -> None:
    path = write_named_csv(tmp_path / "a.csv", replace(make_dataset(6), task="binary"), labelled=True)

    named = read_training(path)

    assert (named.task, named.num_outputs) == ("binary", 1)
    assert named.classes.names == ("0", "1")
    assert named.targets.tolist() == [0, 1, 0, 1, 0, 1]
    assert read_labelled(path, Network(ClassLabels(["no", "yes"]), 12, "binary")).targets.tolist() == [
        0,
        1,
        0,
        1,
        0,
        1,
    ]


def test_a_series_may_have_several_labels_or_none(tmp_path: Path) -> None:
    labels = make_labels(30)
    path = write_named_csv(tmp_path / "a.csv", labels, labelled=True, seed=2)

    read = read_training(path, "multilabel")

    assert np.array_equal(read.targets, labels.targets)
    assert {0, 1, 2} == set(read.targets.sum(axis=1))
    assert str(read) == "30 series of length 12 in 2 labels (task multilabel, with a header)"


def test_files_of_a_channel_may_order_their_columns_each_in_its_way(tmp_path: Path) -> None:
    dataset = make_dataset(10)
    for seed in range(3):
        write_named_csv(tmp_path / f"{seed}.csv", dataset, labelled=True, seed=seed)

    assert np.array_equal(read_training(tmp_path).series, np.concatenate([dataset.series] * 3))


@pytest.mark.parametrize(
    ("text", "task", "sentence"),
    [
        (
            "1,1,2\n2,1,2\n",
            "multilabel",
            "has no header; --task multilabel needs columns y_1, y_2",
        ),
        ("1,1,2\n2,1,2\n3,1,2\n", "binary", "holds 3 classes; --task binary takes two"),
        ("y_1,y_2,x_1,x_2\n0,1,1,2\n", "binary", "has 2 y columns; --task binary takes one, and"),
        (
            "y_1,x_1,x_2\n0,1,2\n",
            "multiclass",
            "has a single y column, which --task binary takes",
        ),
        (
            "y_1,x_1,x_2\n0,1,2\n",
            "multilabel",
            "has a single y column, which --task binary takes",
        ),
        ("y_1,x_1,x_2\n0,1,2\n", None, "holds only the class '0'; training needs at least two classes"),
        ("y_1,y_2,x_1,x_2\n0,1,1,2\n", None, "holds only the class 'y_2'; training needs at least two"),
        (
            "y_1,y_2,x_1,x_2\n0,1,1,2\n1,1,1,2\n",
            None,
            ": row 3 has 2 labels where one is expected",
        ),
        (
            "y_1,y_2,x_1,x_2\n0,0,1,2\n1,0,1,2\n",
            None,
            ": row 2 has 0 labels where one is expected",
        ),
    ],
)
def test_what_a_task_can_not_learn_is_refused(
    text: str, task: TaskName | None, sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "train.csv"
    path.write_text(text)

    with pytest.raises(DataError) as refused:
        read_training(path, task)

    assert str(refused.value).startswith(f"{path}{'' if sentence[0] == ':' else ' '}{sentence}")


@pytest.mark.parametrize(
    ("text", "task", "sentence"),
    [
        ("y_1,x_1,x_2\n0,1,2\n", "multiclass", ": row 1 is a header with 1 y column where 2 are expected"),
        ("y_1,y_2,x_1,x_2\n0,1,1,2\n", "binary", ": row 1 is a header with 2 y columns where 1 is expected"),
        ("1,1,2\n", "multilabel", " has no header; 2 columns y_1, y_2, ... are expected"),
    ],
)
def test_what_a_network_has_not_learnt_is_refused(
    text: str, task: TaskName, sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "valid.csv"
    path.write_text(text)

    with pytest.raises(DataError) as refused:
        read_labelled(path, Network(ClassLabels(["a", "b"]), 2, task))

    assert str(refused.value) == f"{path}{sentence}"


def test_files_of_one_channel_are_all_with_a_header_or_none(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("y_1,x_1,x_2\n0,1,2\n")
    (tmp_path / "b.csv").write_text("1,1,2\n")

    with pytest.raises(DataError, match=r"b.csv has no header, unlike .*a.csv"):
        read_training(tmp_path)


def test_a_split_of_labels_takes_its_share_of_all_series() -> None:
    labels = make_labels(50)

    kept, held_out = labels.split(0.2, seed=0)

    assert (len(kept), len(held_out), held_out.task) == (40, 10, "multilabel")


@pytest.mark.parametrize("dataset", [make_dataset(30), make_labels(30), make_channels(30)])
def test_what_was_held_out_and_the_rest_are_all_cases_again(dataset: Dataset) -> None:
    kept, held_out = dataset.split(0.2, seed=0)

    again = kept.with_cases_of(held_out)

    order = [int(np.flatnonzero((dataset.series == series).all(axis=1))[0]) for series in again.series]
    assert sorted(order) == list(range(30))
    np.testing.assert_array_equal(again.targets, dataset.targets[order])
    assert (again.task, again.treatment) == (dataset.task, dataset.treatment)


def test_identifiers_are_left_out_and_counted_in_what_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("p,x,1,2\nq,z,1,2\n")

    assert read_training(tmp_path, identifiers=Identifiers((1,))).classes.names == ("x", "z")
    with pytest.raises(DataError, match=r"a.csv: row 2, column 2: label 'z' is none of the classes x, y$"):
        read_labelled(tmp_path, Network(ClassLabels(["x", "y"]), 2), Identifiers((1,)))


def test_channels_are_those_of_a_header_or_those_that_are_given(tmp_path: Path) -> None:
    dataset = make_channels(10)
    plain = write_csv(tmp_path / "plain.csv", dataset, labelled=True)
    named = write_named_csv(tmp_path / "named.csv", dataset, labelled=True, seed=1)

    first, second = read_training(plain, treatment=Treatment(channels=3)), read_training(named)

    assert np.array_equal(first.series, dataset.series)
    assert np.array_equal(second.series, dataset.series)
    assert (
        str(first) == "10 series of length 12 in 3 channels in 2 classes (task multiclass, without a header)"
    )
    assert (second.channels, second.length) == (3, 12)
    assert (read_training(plain).channels, read_training(plain).length) == (1, 36)
    assert read_training(named, treatment=Treatment(channels=3)).channels == 3
    for path in (plain, named):
        assert read_labelled(path, first).channels == 3


@pytest.mark.parametrize("channels", [5, 36])
def test_channels_that_a_row_can_not_have_are_refused(channels: int, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "train.csv", make_channels(4), labelled=True)

    with pytest.raises(DataError) as refused:
        read_training(path, treatment=Treatment(channels=channels))

    assert str(refused.value) == (
        f"{path} has 36 values in a row; --channels {channels} takes as many for each channel, and 2 at least"
    )


def test_a_header_of_other_channels_than_are_known_is_refused(tmp_path: Path) -> None:
    named = write_named_csv(tmp_path / "a.csv", make_channels(4), labelled=True)
    flat = write_named_csv(
        tmp_path / "b.csv", replace(make_channels(4), treatment=Treatment(channels=1)), labelled=True
    )
    classes = ClassLabels(["down", "up"])

    with pytest.raises(DataError, match=r"a.csv: row 1 is a header of 3 channels where 2 are expected$"):
        read_training(named, treatment=Treatment(channels=2))
    with pytest.raises(DataError, match=r"a.csv: row 1 is a header of 3 channels where 1 is expected$"):
        read_labelled(named, Network(classes, 36))
    with pytest.raises(
        DataError, match=r"b.csv: row 1 is a header of 1 channel where 3 are expected; x2_1 nam"
    ):
        read_labelled(flat, Network(classes, 12, treatment=Treatment(channels=3)))
    with pytest.raises(
        DataError, match=r"b.csv: row 1 is a header of 1 channel where 3 are expected; x2_1 nam"
    ):
        read_training(tmp_path)


@pytest.mark.parametrize("length", ["pad", "resample"])
def test_the_longest_series_of_all_files_is_as_long_as_the_network(
    length: LengthTreatment, tmp_path: Path
) -> None:
    (tmp_path / "1.csv").write_text("a,0,4\nb,1,3,\n")
    (tmp_path / "2.csv").write_text("a,1,2,3,4,5\nb,2,,4\n")
    treatment = Treatment(missing="interpolate", length=length)

    dataset = read_training(tmp_path, treatment=treatment)

    end = [np.nan] * 3 if length == "pad" else []
    assert (dataset.length, dataset.treatment) == (5, treatment)
    expected: list[list[float]] = [
        [0, 4, *end] if end else [0, 1, 2, 3, 4],
        [1, 3, *end] if end else [1, 1.5, 2, 2.5, 3],
        [1, 2, 3, 4, 5],
        [2, 3, 4, *end[:2]] if end else [2, 2.5, 3, 3.5, 4],
    ]
    assert np.array_equal(dataset.series, expected, equal_nan=True)
    (tmp_path / "1.csv").write_text("a,1,2,3,4,5,7\n")
    if length == "pad":
        with pytest.raises(DataError, match=r"1.csv: row 1 has 6 values where the network takes at most 5"):
            read_labelled(tmp_path, dataset)
    else:
        further = read_labelled(tmp_path / "1.csv", dataset)
        assert np.allclose(further.series, [[1, 2.25, 3.5, 4.75, 7]])


def test_a_label_that_says_it_is_missing_is_refused_among_numbers_and_a_class_among_text(
    tmp_path: Path,
) -> None:
    path = tmp_path / "train.csv"
    path.write_text("1,0.5,1\n2,0.5,2\nNA,0.5,3\n")
    with pytest.raises(DataError) as refused:
        read_training(path)
    path.write_text("NA,0.5,2\n")
    (tmp_path / "other.csv").write_text("EU,0.5,1\n")

    assert str(refused.value) == f"{path}: row 3, column 1: the label is missing, found 'NA' among numbers"
    assert read_training(tmp_path).classes.names == ("EU", "NA")
