from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmfcn.cells import csv_cell
from lstmfcn.errors import DataError
from lstmfcn.identifiers import Identifiers
from lstmfcn.origin import Origin
from lstmfcn.series import parse_labelled
from lstmfcn.treatment import LengthTreatment, Treatment


def test_they_are_positions_or_names() -> None:
    assert Identifiers.parse("12,1,12") == Identifiers((1, 12))
    assert Identifiers.parse("patient, visit") == Identifiers(names=("patient", "visit"))
    assert Identifiers.parse('"a, b",c') == Identifiers(names=("a, b", "c"))
    assert Identifiers.parse('"",patient') == Identifiers(names=("", "patient"))
    assert Identifiers.parse("") == Identifiers()


@pytest.mark.parametrize("text", ["0", "1,", "-1", "1,patient", "patient,", '"",patient,', 'a,"b""c",', "\n"])
def test_neither_is_refused(text: str) -> None:
    with pytest.raises(DataError, match=r"^--id-columns is .*; it must be positions from 1"):
        Identifiers.parse(text)


@pytest.mark.parametrize(("position", "column"), [(1, 2), (2, 4), (3, 5)])
def test_rows_without_them_have_their_cells_in_the_files_columns(position: int, column: int) -> None:
    origin = Origin("a.csv", 7, cut=(1, 3))

    assert origin.column(position) == column
    assert origin.num_columns(position) == position + 2


def test_labelled_files_are_read_without_them() -> None:
    named = b'\xef\xbb\xbfx_2,patient,y_1,x_1\r\n2,"a, b",1,1\r\n4,c,0,3\r\n'
    first = b"\xef\xbb\xbfp,up,1,2\nq,down,3,4\n"

    read = parse_labelled(named, source="f", identifiers=Identifiers(names=("patient",)))
    by_position = parse_labelled(first, source="f", identifiers=Identifiers((1,)))

    assert read.series.tolist() == by_position.series.tolist() == [[1, 2], [3, 4]]
    assert read.marks is not None
    assert read.marks.tolist() == [[True], [False]]
    assert by_position.labels == ["up", "down"]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"id,y_1,x_1,x_2\na,1,2,x\n", "f: row 2, column 4: 'x' is not a finite number"),
        (b"id,y_1,x_1,x_2\na,1,2\n", "f: row 2 has 3 columns where row 1 has 4"),
        (b"y_2,id,y_1,x_1,x_2\n0,a,7,1,2\n", "f: row 2, column 3: 7 is no label; y columns hold 0 or 1"),
        (b"id,y_1,x_1,x_2\na,1,2,3\n\n", "f: row 3 is blank; every line must hold a series"),
        (b"id,y_1,x_1,z\na,1,2,3\n", "f: row 1, column 4: 'z' is no column of a header; "),
        (b"1,2,3\n", "f has no header, and so none of the --id-columns id"),
        (b"y_1,x_1,x_2\n", "f: row 1 is a header with no column 'id', which --id-columns names"),
        (b"", "f is empty"),
    ],
)
def test_faults_of_labelled_files_are_told_with_the_files_columns(data: bytes, sentence: str) -> None:
    with pytest.raises(DataError) as refused:
        parse_labelled(data, source="f", identifiers=Identifiers(names=("id",)))

    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize(
    ("positions", "line", "cut"),
    [
        ((1, 2), b"p,q,1,2", (b"p,q", b"1,2")),
        ((1, 4), b"p,1,2", (b"p,", b"1")),
        ((1, 2), b"p", (b"p,", b"")),
        ((2, 9), b"1,q,2,3", (b"q,", b"1,2")),
    ],
)
def test_a_row_that_lacks_an_identifier_has_an_empty_one_and_is_one_value_short(
    positions: tuple[int, ...], line: bytes, cut: tuple[bytes, bytes]
) -> None:
    assert Identifiers(positions).cut(line) == cut


@pytest.mark.parametrize("identifier", [b"p\r1", b"p\0", b"\xff", b'"p\r1"', b'"p"x', b'"p'])
def test_a_line_that_is_no_csv_is_left_to_the_parser(identifier: bytes) -> None:
    line = identifier + b",1,2,3"

    assert Identifiers((1,)).cut(line) == (b"", line)
    assert Identifiers((1, 2)).cut(line) == (b",", line)  # as many columns as others have


def test_the_index_that_pandas_writes_has_no_name() -> None:
    data = b",y_1,x_1,x_2\n0,1,2,3\n1,0,4,5\n"

    read = parse_labelled(data, source="f", identifiers=Identifiers.parse('""'))

    assert read.series.tolist() == [[2, 3], [4, 5]]


@pytest.mark.parametrize(
    ("line", "length", "sentence"),
    [
        (b"p,", "equal", "f: row 2 has 2 columns where row 1 has 4"),
        (b"p,up", "equal", "f: row 2 has 2 columns where row 1 has 4"),
        (b"p,up,", "pad", "f: row 2 has no values; a series has at least 2"),
        (b"", "equal", "f: row 2 is blank"),
    ],
)
def test_a_row_that_holds_identifiers_only_is_not_told_as_blank(
    line: bytes, length: LengthTreatment, sentence: str
) -> None:
    treatment = Treatment(length=length)
    with pytest.raises(DataError) as refused:
        parse_labelled(
            b"p,up,1,2\n" + line + b"\n",
            source="f",
            identifiers=Identifiers((1,)),
            treatment=treatment,
        )

    assert str(refused.value).startswith(sentence)


@given(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=5))
def test_a_cell_is_quoted_as_the_csv_module_does(cell: str) -> None:
    written = io.StringIO()
    csv.writer(written, lineterminator="").writerow([cell])

    assert csv_cell(cell) == written.getvalue().encode()


def test_an_empty_file_stays_empty_without_them() -> None:
    with pytest.raises(DataError, match=r"^f is empty$"):
        parse_labelled(b"", source="f", identifiers=Identifiers((1,)))
