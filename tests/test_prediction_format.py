from __future__ import annotations

import pytest

from lstmfcn.errors import DataError
from lstmfcn.identifiers import Identifiers
from lstmfcn.prediction_format import PredictionFormat, parse_columns


def test_a_plain_block_is_left_as_it_is() -> None:
    assert PredictionFormat().take_identifiers(b"1,2\r\n3,4") == (b"1,2\r\n3,4", None)


def test_identifiers_are_taken_out_of_the_series() -> None:
    block = b"a,1,2,x\r\nb,3,4,y"

    assert PredictionFormat(identifiers=Identifiers((1, 4))).take_identifiers(block) == (
        b"1,2\n3,4\n",
        [b"a,x", b"b,y"],
    )


def test_quoted_identifiers_stay_one_cell() -> None:
    block = b'"a, ""b""",1,2\n'

    assert PredictionFormat(identifiers=Identifiers((1,))).take_identifiers(block) == (
        b"1,2\n",
        [b'"a, ""b"""'],
    )


def test_joined_lines_are_kept_whole_without_line_ends() -> None:
    block = b"a,1,2\r\nb,3,4\n"

    assert PredictionFormat(identifiers=Identifiers((1,)), join_input=True).take_identifiers(block) == (
        b"1,2\n3,4\n",
        [b"a,1,2", b"b,3,4"],
    )


def test_a_row_without_the_identifiers_column_is_a_column_short() -> None:
    assert PredictionFormat(identifiers=Identifiers((1, 9))).take_identifiers(b"a,1,2\n") == (
        b"1\n",
        [b"a,"],  # an empty one in its place
    )


def test_columns_are_read_from_flags() -> None:
    assert parse_columns("label,probabilities") == ("label", "probabilities")
    with pytest.raises(DataError, match=r"^--columns is 'x'; it can be label, probabilities or"):
        parse_columns("x")


def test_a_line_that_csv_can_not_read_is_left_to_the_parser() -> None:
    assert PredictionFormat(identifiers=Identifiers((1,))).take_identifiers(b'"a",1\r2,3\n') == (
        b'"a",1\r2,3\n',
        [b""],
    )
