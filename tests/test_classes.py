from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmfcn.classes import ClassLabels
from lstmfcn.errors import DataError


def test_numeric_labels_are_in_numeric_order() -> None:
    assert ClassLabels.of(["10", "9", "-1", "2.5"]).names == ("-1", "2.5", "9", "10")


def test_other_labels_are_in_alphabetical_order() -> None:
    assert ClassLabels.of(["walk", "10", "9", "run"]).names == ("10", "9", "run", "walk")


def test_two_spellings_of_a_number_are_one_class_spelt_as_first_seen() -> None:
    classes = ClassLabels.of(["2.0", "1", "1.0", "2"])

    assert classes.names == ("1", "2.0")
    assert classes.positions(["1.00", "2", "1e0"], "f").tolist() == [0, 1, 0]


def test_integers_beyond_the_precision_of_a_float_are_different_classes() -> None:
    names = ["9007199254740993", "9007199254740992"]

    assert ClassLabels.of(names).names == ("9007199254740992", "9007199254740993")


def test_beside_text_spellings_of_a_number_are_different_classes() -> None:
    assert ClassLabels.of(["1", "1.0", "x"]).names == ("1", "1.0", "x")


@given(st.lists(st.sampled_from(["a", "7", "7.0", "-3", "2"]), min_size=1))
def test_every_label_has_the_position_of_its_class(labels: list[str]) -> None:
    classes = ClassLabels.of(labels)
    names = [classes.names[position] for position in classes.positions(labels, "f")]

    are_numbers = not set(labels) & {"a"}
    for label, name in zip(labels, names, strict=True):
        assert float(name) == float(label) if are_numbers else name == label


def test_a_label_of_no_class_is_refused_with_its_row() -> None:
    with pytest.raises(DataError) as refused:
        ClassLabels(["a", "b"]).positions(["b", "c"], "valid.csv")

    assert str(refused.value) == "valid.csv: row 2, column 1: label 'c' is none of the classes a, b"


def test_a_label_with_more_exponent_than_a_number_can_have_is_text() -> None:
    classes = ClassLabels.of(["10", "9", "1e99999999999999999999"])

    assert classes.names == ("10", "1e99999999999999999999", "9")
    assert classes.positions(["9", "1e99999999999999999999"], "f.csv").tolist() == [2, 1]
    assert ClassLabels(["1", "2"]).unknown(["1e99999999999999999999"]) == ["1e99999999999999999999"]
