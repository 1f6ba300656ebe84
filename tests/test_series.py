"""The data format, as the specification of lstmfcn.series."""

from __future__ import annotations

import csv
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lstmfcn import rows as engines
from lstmfcn import series
from lstmfcn.errors import DataError
from lstmfcn.identifiers import Identifiers
from lstmfcn.origin import Origin
from lstmfcn.series import Matrix, parse_labelled, parse_plain, parse_series, parse_sound_rows
from lstmfcn.treatment import UNTREATED

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)
MATRICES = arrays(np.float32, st.tuples(st.integers(1, 8), st.integers(2, 6)), elements=FINITE)


def same_bits(left: Matrix, right: Matrix) -> bool:
    return left.shape == right.shape and left.tobytes() == right.tobytes()


@given(MATRICES)
def test_what_csv_writes_reads_back(matrix: Matrix) -> None:
    text = io.StringIO()
    csv.writer(text).writerows(matrix.tolist())

    assert same_bits(parse_series(text.getvalue().encode(), source="f"), matrix)


@given(MATRICES)
def test_what_csv_quotes_reads_back(matrix: Matrix) -> None:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(matrix.tolist())

    assert same_bits(parse_series(text.getvalue().encode(), source="f"), matrix)


@given(MATRICES)
def test_what_pandas_writes_reads_back(matrix: Matrix) -> None:
    data = pd.DataFrame(matrix).to_csv(header=False, index=False).encode()

    assert same_bits(parse_series(data, source="f"), matrix)


@given(MATRICES)
def test_what_numpy_writes_reads_back(matrix: Matrix) -> None:
    text = io.StringIO()
    np.savetxt(text, matrix, delimiter=",")

    assert same_bits(parse_series(text.getvalue().encode(), source="f"), matrix)


@given(st.lists(st.floats(-1e38, 1e38), min_size=2, max_size=5))
def test_a_value_is_the_float32_nearest_to_the_float(values: list[float]) -> None:
    data = ",".join(map(repr, values)).encode()

    assert same_bits(parse_series(data, source="f"), np.array([[np.float32(value) for value in values]]))


NUMBERS = [
    "1",
    "-0",
    "-0.0",
    "0",
    ".5",
    "+1",
    "1.",
    "1e5",
    "1e-05",
    "01",
    " 2 ",
    "\t3",
    '"4"',
    "1e-400",
    "9" * 30,
]
FAULTS = [
    "",
    " ",
    '"5',
    '"6"7',
    "nan",
    "inf",
    "True",
    "NA",
    "null",
    "1_0",
    "0x1",
    "1e39",
    "1e400",
    "3.4028236e38",
]
ODDITIES = ["[1]", "{}", "1\r", "\r", "\0", "é", "\u0661", "1 2", "--1", "x"]
CELLS = st.one_of(
    st.sampled_from([*NUMBERS, *FAULTS, *ODDITIES]),
    st.text(alphabet='0123456789.eE+-, "\r\n\t[]', max_size=6),
)
ROWS = st.lists(st.lists(CELLS, min_size=1, max_size=3).map(",".join), min_size=1, max_size=4)


@st.composite
def nearly_plain_rows(draw: st.DrawFn) -> list[str]:
    """Draw rows of one width that the fast engine reads, or would but for one cell."""
    plain = st.sampled_from(["1", "-0", "-0.0", "0", "1e5", "1e-05", " 2 ", "1e-400", "9" * 30])
    width = draw(st.integers(2, 3))
    rows = draw(st.lists(st.lists(plain, min_size=width, max_size=width), min_size=1, max_size=4))
    draw(st.sampled_from(rows))[-1] = draw(st.one_of(plain, CELLS))
    return [",".join(row) for row in rows]


@given(ROWS | nearly_plain_rows(), st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans())
@example(["1,[2,3]", "4,5"], "\n", True, False)
@example(["a,-0,1"], "\n", True, True)
@example(["1,2", "3,4,1e39,5,6", "7,8,9"], "\n", True, False)
def test_the_fast_engine_reads_as_the_slow_one_or_not_at_all(
    rows: list[str], line_end: str, final: bool, labelled: bool
) -> None:
    data = (line_end.join(rows) + line_end * final).encode()

    def parsed() -> tuple[list[str], bytes] | str:
        try:
            labels, matrix = series._parse(data, Origin("f"), None, labelled=labelled, treatment=UNTREATED)
        except DataError as error:
            return str(error)
        return labels, matrix.tobytes()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "parse_fast", lambda *_: None)
        slow = parsed()

    assert parsed() == slow


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("labelled", [False, True])
def test_plain_numbers_take_the_fast_engine(
    line_end: bytes, labelled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_parse_slowly", None)
    data = (b"1.5,-2e-3,0" + line_end) * 3

    _, matrix = series._parse(data, Origin("f"), None, labelled=labelled, treatment=UNTREATED)

    assert len(matrix) == 3


@given(MATRICES, st.integers(1, 60))
def test_the_size_of_pieces_changes_nothing(matrix: Matrix, piece_bytes: int) -> None:
    data = pd.DataFrame(matrix).to_csv(header=False, index=False).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "_PIECE_BYTES", piece_bytes)

        assert same_bits(parse_series(data, source="f"), matrix)


@pytest.mark.parametrize(
    "data",
    [
        b"1,2\n3,4\n",
        b"1,2\n3,4",
        b"1,2\r\n3,4\r\n",
        b"\xef\xbb\xbf1,2\n3,4\n",
        b'"1","2"\n"3","4"\n',
        b" 1,2 \n\t3 , 4\n",
        b"+1,2.\n3e0,0.4e+1\n",
        b"01,2\n3,.4e1\n",
    ],
)
def test_accepted_spellings(data: bytes) -> None:
    assert parse_series(data, source="f").tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "f.csv is empty"),
        (b"\xef\xbb\xbf", "f.csv is empty"),
        (b"\n", "f.csv: row 1 is blank; every line must hold a series"),
        (b"1,2\n\n3,4\n", "f.csv: row 2 is blank; every line must hold a series"),
        (b"1,2\n3,4\n\n", "f.csv: row 3 is blank; every line must hold a series"),
        (b"1,2\n  \n", "f.csv: row 2 is blank; every line must hold a series"),
        (b"1\n2\n", "f.csv: row 1 has 1 column; a series has at least 2 values"),
        (b"1,2,3\n4,5\n", "f.csv: row 2 has 2 columns where row 1 has 3"),
        (b"1,2\n3,4,5\n6\n", "f.csv: row 2 has 3 columns where row 1 has 2"),
        (
            b"1,2\n3,\n",
            "f.csv: row 2, column 2 is empty; missing values need training with --missing interpolate",
        ),
        (
            b"1,2\n3, \n",
            "f.csv: row 2, column 2 is empty; missing values need training with --missing interpolate",
        ),
        (b"1,2\nx,4\n", "f.csv: row 2, column 1: 'x' is not a finite number"),
        (
            b"1,nan\n",
            "f.csv: row 1, column 2 is 'nan'; missing values need training with --missing interpolate",
        ),
        (b"1,-inf\n", "f.csv: row 1, column 2: '-inf' is not a finite number"),
        (b"1,True\n", "f.csv: row 1, column 2: 'True' is not a finite number"),
        (
            b"1,NA\n",
            "f.csv: row 1, column 2 is 'NA'; missing values need training with --missing interpolate",
        ),
        (
            b"1,null\n",
            "f.csv: row 1, column 2 is 'null'; missing values need training with --missing interpolate",
        ),
        (b"1,1_0\n", "f.csv: row 1, column 2: '1_0' is not a finite number"),
        (b"1,0x10\n", "f.csv: row 1, column 2: '0x10' is not a finite number"),
        ("1,\u0661\n".encode(), "f.csv: row 1, column 2: '\u0661' is not a finite number"),
        (b"1,1e39\n", "f.csv: row 1, column 2: '1e39' is beyond the range of float32"),
        (b"1,-1e400\n", "f.csv: row 1, column 2: '-1e400' is beyond the range of float32"),
        (b"x_1,x_2\n", "f.csv holds a header and no series"),
        (b"x_1,x_2\n1,2\n3,4,5\n", "f.csv: row 3 has 3 columns where row 1 has 2"),
        (b"x_2,x_1\n1,2\n3,x\n", "f.csv: row 3, column 2: 'x' is not a finite number"),
        (b"x_1,x_2\nx_1,x_2\n", "f.csv: row 2, column 1: 'x_1' is not a finite number"),
        (
            b'1,"2\n3",4\n',
            "f.csv: row 1 is not quoted as CSV, or has a line break inside quotes: unexpected end of data",
        ),
        (b"1,2\r3,4\r", "f.csv: row 1 holds a carriage return inside the line; lines end in LF or CRLF"),
        (
            "1,2\n".encode("utf-16"),
            "f.csv: row 1 is not UTF-8 text; a series file is CSV in UTF-8, plain or gzip",
        ),
        (b"1,2\n3,\x00\n", "f.csv: row 2 is not UTF-8 text; a series file is CSV in UTF-8, plain or gzip"),
        (b"1," + b"9x" * 50, "f.csv: row 1, column 2: '" + "9x" * 20 + "...' is not a finite number"),
    ],
)
def test_a_fault_is_refused_with_its_place(data: bytes, sentence: str) -> None:
    with pytest.raises(DataError) as refused:
        parse_series(data, source="f.csv")

    assert str(refused.value) == sentence


def test_rows_are_counted_through_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_PIECE_BYTES", 100)
    data = b"1,2\n" * 300 + b"3,x\n"

    with pytest.raises(DataError, match=r"^f: row 301, column 2: 'x' is not a finite number$"):
        parse_series(data, source="f")


def test_a_byte_order_mark_belongs_only_at_the_start_of_a_file() -> None:
    _, [fault] = parse_sound_rows(b"\xef\xbb\xbf1,2\n", num_values=2)

    assert fault.reason == r", column 1: '\ufeff1' is not a finite number"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"1,2\n", "f: row 1 has 2 columns where 3 are expected"),
        (b"1;2;3\n", "f: row 1 has 1 column where 3 are expected; is the separator a comma?"),
        (b"1,2,3\n1,2\n", "f: row 2 has 2 columns where 3 are expected"),
        (b"1,2,3,1e39,4,5,6\n", "f: row 1 has 7 columns where 3 are expected"),
        (
            b"1,2,3,4\n",
            "f: row 1 has 4 columns where 3 are expected; is the first one a label? It has no place here",
        ),
    ],
)
def test_another_length_than_the_given_one_is_refused(data: bytes, sentence: str) -> None:
    with pytest.raises(DataError) as refused:
        parse_series(data, source="f", num_values=3)

    assert str(refused.value) == sentence


def test_labels_are_kept_as_they_are_spelt() -> None:
    data = b'1.0,1,2\n-1,3,4\nwalking,5,6\n"a ""b"", c",7,8\n caf\xc3\xa9 ,9,10\r\n'

    read = parse_labelled(data, source="f")

    assert read.labels == ["1.0", "-1", "walking", 'a "b", c', " café "]
    assert read.series.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]


@pytest.mark.parametrize("label", ["", " ", "nan", "NaN", "-inf", '""'])
def test_a_missing_label_is_refused(label: str) -> None:
    with pytest.raises(DataError, match=r"^f: row 2, column 1: the label is missing, found "):
        parse_labelled(f"a,1,2\n{label},3,4\n".encode(), source="f")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"a,1\n", "f: row 1 has 2 columns; a series has at least 2 values"),
        (
            b"a,1,2\nb,3\n",
            "f: row 2 has 2 columns where row 1 has 3;"
            " rows of different lengths need --length pad or resample",
        ),
        (b"a,1,x\n", "f: row 1, column 3: 'x' is not a finite number"),
        (b"y_1,x_1,x_2\na,1,2\n", "f: row 2, column 1: 'a' is not a finite number"),
        (b"y_1,x_1,x_2\n1,1,2\n2,1,2\n", "f: row 3, column 1: 2 is no label; y columns hold 0 or 1"),
        (b"x_1,y_1,x_2,y_2\n1,0,2,0.5\n", "f: row 2, column 4: 0.5 is no label; y columns hold 0 or 1"),
        (b"y_1,x_1,x_2\n1.0000001,1,2\n", "f: row 2, column 1: 1.0000001 is no label; y columns hold 0 or 1"),
        (b"a,1,2\n\xff,1,2\n", "f: row 2 is not UTF-8 text; a series file is CSV in UTF-8, plain or gzip"),
    ],
)
def test_columns_of_labelled_rows_are_counted_with_the_label(data: bytes, sentence: str) -> None:
    with pytest.raises(DataError) as refused:
        parse_labelled(data, source="f")

    assert str(refused.value) == sentence


def test_a_row_without_its_label_is_recognised() -> None:
    with pytest.raises(
        DataError, match=r"has 2 columns where 3 are expected; the first one must be the label$"
    ):
        parse_labelled(b"1,2\n", source="f", num_values=2)


def test_sound_rows_are_parsed_and_the_others_told_apart() -> None:
    data = b"1,2\r\n3,x\n\n5,6\n7\n8,9"

    series, faults = parse_sound_rows(data, num_values=2)

    assert series.tolist() == [[1, 2], [5, 6], [8, 9]]
    assert [(fault.row, fault.reason, fault.line) for fault in faults] == [
        (2, ", column 2: 'x' is not a finite number", b"3,x"),
        (3, " is blank; every line must hold a series", b""),
        (5, " has 1 column where 2 are expected; is the separator a comma?", b"7"),
    ]


@given(st.lists(st.sampled_from([b"1,2", b"3,4.5", b"1", b"", b"a,b", b"1,nan", b"\xff,1"]), min_size=1))
def test_every_row_is_either_sound_or_a_fault_as_it_is_alone(lines: list[bytes]) -> None:
    series, faults = parse_sound_rows(b"\n".join(lines) + b"\n", num_values=2)

    is_bad = [line not in (b"1,2", b"3,4.5") for line in lines]
    assert [fault.row for fault in faults] == [row for row, bad in enumerate(is_bad, 1) if bad]
    assert [fault.line for fault in faults] == [line for line, bad in zip(lines, is_bad, strict=True) if bad]
    assert len(series) == is_bad.count(False)


@pytest.mark.parametrize("odd", [b"1" * 200_000 + b"x", b" " * 200_000 + b"x"])
def test_a_long_odd_cell_is_judged_in_no_time(odd: bytes) -> None:
    with pytest.raises(DataError, match=r"^f: row 1, column 2: '.{40}\.\.\.' is not a finite number$"):
        parse_series(b"1," + odd + b"\n", source="f", num_values=2)
    assert parse_labelled(odd + b",1,2\n", source="f").labels == [odd.decode()]


def test_plain_numbers_are_parsed_at_once_and_nothing_else_is() -> None:
    plain = parse_plain(b"1,2\n3,4\n", num_values=2)
    assert plain is not None
    assert same_bits(plain, parse_series(b"1,2\n3,4\n", source="f"))
    assert parse_plain(b"1,.5\n", num_values=2) is None
    assert parse_plain(b"1,2,3\n", num_values=2) is None
    assert parse_plain(b"", num_values=2) is None


def test_identifiers_beyond_a_row_are_refused() -> None:
    with pytest.raises(DataError, match=r"^f: row 1 has 4 columns; --id-columns names column 9$"):
        parse_labelled(b"a,1,2,3\nb,1,2,4\n", source="f", identifiers=Identifiers((2, 9)))
