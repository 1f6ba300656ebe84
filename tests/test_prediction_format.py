from __future__ import annotations

import pytest

from lstmfcn.errors import DataError
from lstmfcn.prediction_format import PredictionFormat, parse_columns, parse_id_columns


def test_a_plain_block_is_left_as_it_is() -> None:
    assert PredictionFormat().take_identifiers(b"1,2\r\n3,4", begins_file=True) == (b"1,2\r\n3,4", None)


def test_identifiers_are_taken_out_of_the_series() -> None:
    block = b"a,1,2,x\r\nb,3,4,y"

    assert PredictionFormat(id_columns=(4, 1)).take_identifiers(block, begins_file=True) == (
        b"1,2\n3,4\n",
        [b"a,x", b"b,y"],
    )


def test_quoted_identifiers_stay_one_cell() -> None:
    block = b'"a, ""b""",1,2\n'

    assert PredictionFormat(id_columns=(1,)).take_identifiers(block, begins_file=True) == (
        b"1,2\n",
        [b'"a, ""b"""'],
    )


def test_joined_lines_are_kept_whole_without_the_files_mark_and_line_ends() -> None:
    block = b"\xef\xbb\xbfa,1,2\r\nb,3,4\n"

    assert PredictionFormat(id_columns=(1,), join_input=True).take_identifiers(block, begins_file=True) == (
        b"1,2\n3,4\n",
        [b"a,1,2", b"b,3,4"],
    )


@pytest.mark.parametrize(("parsed", "in_file"), [(1, 2), (2, 4), (3, 5)])
def test_reasons_tell_the_files_column(parsed: int, in_file: int) -> None:
    line_format = PredictionFormat(id_columns=(1, 3))

    reason = line_format.reason_with_the_files_columns(f", column {parsed} is empty")

    assert reason == f", column {in_file} is empty"


def test_reasons_count_the_identifiers_as_columns() -> None:
    reason = PredictionFormat(id_columns=(1, 3)).reason_with_the_files_columns(
        " has 1 column where 5 are expected; is the separator a comma?"
    )

    assert reason == " has 3 columns where 7 are expected; is the separator a comma?"
    below_a_header = PredictionFormat(id_columns=(2,)).reason_with_the_files_columns(
        " has 3 columns where row 1 has 2"
    )
    assert below_a_header == " has 4 columns where row 1 has 3"


def test_a_row_without_the_identifiers_column_is_a_column_short() -> None:
    assert PredictionFormat(id_columns=(1, 9)).take_identifiers(b"a,1,2\n", begins_file=True) == (
        b"1\n",
        [b"a"],
    )


def test_columns_and_positions_are_read_from_flags() -> None:
    assert parse_columns("label,probabilities") == ("label", "probabilities")
    assert parse_id_columns("1,12") == ((1, 12), ())
    assert parse_id_columns("patient, visit") == ((), ("patient", "visit"))
    assert parse_id_columns("") == ((), ())
    with pytest.raises(DataError, match=r"^--columns is 'x'; it can be label, probabilities or"):
        parse_columns("x")
    for text in ("0", "1,", "-1", "1,patient", "patient,"):
        with pytest.raises(DataError, match=r"^--id-columns is .*; it must be positions from 1"):
            parse_id_columns(text)


def test_a_line_that_csv_can_not_read_is_left_to_the_parser() -> None:
    assert PredictionFormat(id_columns=(1,)).take_identifiers(b'"a",1\r2,3\n', begins_file=True) == (
        b'"a",1\r2,3\n',
        [b""],
    )
