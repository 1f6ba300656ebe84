from __future__ import annotations

import csv
import io
from random import Random

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lstmfcn.errors import DataError
from lstmfcn.header import Header
from lstmfcn.series import has_header, parse_labelled, parse_plain, parse_series, parse_sound_rows
from lstmfcn.treatment import Treatment

LINE_ENDS = st.sampled_from(["\n", "\r\n"])
SPELLINGS = st.sampled_from(["{}_{}", "{}{}", " {}_{} ", "{}_0{}"])
STEP_SPELLINGS = st.sampled_from(["x{}_{}", "x_{}_{}", " x{}_{} ", "x0{}_0{}"])
QUOTING = st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])


def as_csv(names: list[str], rows: list[list[float]], quoting: int, line_end: str) -> bytes:
    text = io.StringIO()
    table = csv.writer(text, quoting=quoting, lineterminator=line_end)  # type: ignore[arg-type]
    table.writerows([names, *rows])
    return text.getvalue().encode()


@given(
    st.integers(2, 12), st.integers(1, 4), SPELLINGS, QUOTING, LINE_ENDS, st.randoms(use_true_random=False)
)
def test_columns_are_found_by_their_numbers_in_any_order_and_spelling(
    num_steps: int, num_labels: int, spelling: str, quoting: int, line_end: str, random: Random
) -> None:
    columns = [("x", n) for n in range(1, num_steps + 1)] + [("y", n) for n in range(1, num_labels + 1)]
    random.shuffle(columns)
    # A cell says what it is: in row r, step n holds 100 r + n, and label n is 1 where r and n are.
    rows = [
        [100.0 * row + n if kind == "x" else float(row % 2 == n % 2) for kind, n in columns]
        for row in range(5)
    ]
    names = [spelling.format(kind, n) for kind, n in columns]

    read = parse_labelled(as_csv(names, rows, quoting, line_end), source="f")

    assert read.series.tolist() == [[100 * row + n for n in range(1, num_steps + 1)] for row in range(5)]
    assert read.marks is not None
    assert read.marks.tolist() == [[row % 2 == n % 2 for n in range(1, num_labels + 1)] for row in range(5)]


@given(st.permutations([f"x_{n}" for n in range(1, 13)]), QUOTING, LINE_ENDS)
def test_every_parser_finds_them(names: list[str], quoting: int, line_end: str) -> None:
    rows = [[float(name[2:]) + 100 * row for name in names] for row in range(3)]
    data = as_csv(names, rows, quoting, line_end)
    header = Header.of(names, "f", 12, labelled=False)
    expected = [[n + 100 * row for n in range(1, 13)] for row in range(3)]

    plain = parse_plain(data, num_values=12)
    sound, faults = parse_sound_rows(data.partition(b"\n")[2], num_values=12, header=header)

    assert has_header(data)
    assert parse_series(data, source="f", num_values=12).tolist() == expected
    assert plain is None if quoting == csv.QUOTE_ALL else plain is not None and plain.tolist() == expected
    assert (sound.tolist(), faults) == (expected, [])


@given(
    st.integers(1, 12),
    st.integers(2, 12),
    STEP_SPELLINGS,
    QUOTING,
    LINE_ENDS,
    st.randoms(use_true_random=False),
)
def test_steps_are_found_by_the_numbers_of_channel_and_step(
    channels: int, num_steps: int, spelling: str, quoting: int, line_end: str, random: Random
) -> None:
    columns = [(c, n) for c in range(1, channels + 1) for n in range(1, num_steps + 1)]
    in_order = [[10_000.0 * row + 100 * c + n for c, n in columns] for row in range(3)]
    random.shuffle(columns)
    rows = [[10_000.0 * row + 100 * c + n for c, n in columns] for row in range(3)]
    data = as_csv([spelling.format(c, n) for c, n in columns], rows, quoting, line_end)
    length = channels * num_steps

    plain = parse_plain(data, num_values=length, channels=channels)

    assert (
        parse_series(data, source="f", num_values=length, treatment=Treatment(channels=channels)).tolist()
        == in_order
    )
    assert plain is None if quoting == csv.QUOTE_ALL else plain is not None and plain.tolist() == in_order
    with pytest.raises(
        DataError, match=rf"^f: row 1 is a header of {channels} channels? where 13 are expected"
    ):
        parse_series(data, source="f", num_values=length, treatment=Treatment(channels=13))
    assert parse_plain(data, num_values=length, channels=13) is None


@given(
    st.lists(
        st.sampled_from(
            ["x1_1", "x1_2", "x2_1", "x2_2", "x3_1", "x3_2", "x1_3", "x2_3", "x_1", "x_1_1", "x0_1"]
        ),
        min_size=2,
        max_size=6,
    )
)
@example(["x1_1", "x1_2", "x2_1", "x2_2"])
@example(["x2_2", "x3_1", "x1_2", "x2_1", "x3_2", "x1_1"])
def test_a_header_of_channels_is_either_whole_or_refused(names: list[str]) -> None:
    any_number = Treatment(channels=None)
    row = [float(place) for place in range(len(names))]
    data = as_csv(["y_1", *names], [[1.0, *row]], csv.QUOTE_MINIMAL, "\n")
    columns = {name.replace("x_1_1", "x1_1"): place for place, name in enumerate(names)}
    whole = [
        [f"x{channel}_{step}" for channel in range(1, channels + 1) for step in range(1, length + 1)]
        for channels, length in ((1, 2), (2, 2), (3, 2), (1, 3), (2, 3))
    ]

    if len(columns) == len(names) and sorted(columns) in whole:
        read = parse_labelled(data, source="f", treatment=any_number)
        assert read.series.tolist() == [[columns[name] for name in sorted(columns)]]
        assert read.channels == len({name[1] for name in columns})
    else:
        with pytest.raises(DataError, match=r"^f: row 1(, column \d+: | has | is a header )"):
            parse_labelled(data, source="f", treatment=any_number)


@given(
    st.lists(
        st.sampled_from(["x_1", "x_2", "x_3", "x1", "x_0", "x10", "x", "X_2", "y_1", "y", "y_2", "id", ""]),
        min_size=2,
        max_size=5,
    )
)
@example(["x_2", "y", "x_1"])
@example(["y_2", "x_1", "y_1", "x_3", "x_2"])
@example(["x_2", "y_1", "x1"])
def test_a_header_is_either_whole_or_refused(names: list[str]) -> None:
    rows = [[0.0, 1.0] * 5, [1.0, 0.0] * 5]
    data = as_csv(names, [row[: len(names)] for row in rows], csv.QUOTE_MINIMAL, "\n")
    number_of = {"x_1": 1, "x_2": 2, "x_3": 3, "x1": 1, "y_1": -1, "y": -1, "y_2": -2}
    numbers = sorted(number_of.get(name, 0) for name in names)
    num_labels = sum(number < 0 for number in numbers)
    is_whole = numbers == [*range(-num_labels, 0), *range(1, len(names) - num_labels + 1)]
    is_whole = is_whole and num_labels > 0 and len(names) - num_labels >= 2

    if is_whole:
        read = parse_labelled(data, source="f")
        assert read.marks is not None
        for position, name in enumerate(names):
            number = number_of[name]
            column = read.series[:, number - 1] if number > 0 else read.marks[:, -number - 1]
            assert np.array_equal(column, [row[position] for row in rows])
    else:
        with pytest.raises(DataError, match=r"^f: row 1(, column \d+: | has | is a header )"):
            parse_labelled(data, source="f")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "x_1,patient,x_2",
            "f: row 1, column 2: 'patient' is no column of a header; x_1, x_2, ... (of several"
            " channels x1_1, x1_2, ..., x2_1, ...) are the series, y_1, y_2, ... the labels; a job's"
            " --id-columns names others",
        ),
        (
            ",x_1,x_2",
            "f: row 1, column 1: '' is no column of a header; x_1, x_2, ... (of several"
            " channels x1_1, x1_2, ..., x2_1, ...) are the series, y_1, y_2, ... the labels; a job's"
            " --id-columns names others",
        ),
        ("x_1,x_2,x_10", "f: row 1 has no x_3, but x_10"),
        ("x_2,x_3", "f: row 1 has no x_1, but x_3"),
        ("x_1,x_2,x_02", "f: row 1, column 3: 'x_02' is a second x_2; there can be only one"),
        ("x_0,x_1", "f: row 1, column 1: 'x_0' is numbered 0; columns are numbered from 1"),
        ("x_1,x_2,y_1", "f: row 1, column 3: 'y_1' is a label, which has no place here"),
        ("x_1,x_2,x_3", "f: row 1 is a header with 3 x columns where 2 are expected"),
        ("x1_1,x1_2,x2_1", "f: row 1 has 2 steps of x1, but 1 of x2; all channels have one length"),
        ("x1_1,x1_2,x3_1", "f: row 1 has no x2_1, but x3_1"),
        ("x1_1,x1_3,x2_1,x2_2", "f: row 1 has no x1_2, but x1_3"),
        ("x1_1,x1_2,x_1_2", "f: row 1, column 3: 'x_1_2' is a second x1_2; there can be only one"),
        ("x1_1,x1_2,x0_1", "f: row 1, column 3: 'x0_1' is numbered 0; columns are numbered from 1"),
        (
            "x1_1,x1_2,x_1",
            "f: row 1 has x columns of channels, such as x1_1, and others, such as x_1; a header has one or"
            " the other",
        ),
        (
            "x1_1,x2_1",
            "f: row 1 is a header with only one x column for each channel; a series has at least 2 values",
        ),
        ("x1_1,x1_2,x2_1,x2_2", "f: row 1 is a header of 2 channels where 1 is expected"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(line: str, sentence: str) -> None:
    with pytest.raises(DataError) as refused:
        parse_series(f"{line}\n1,2,3\n".encode(), source="f", num_values=2)

    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("x_1,x_2", "f: row 1 is a header without a y column; every series here needs its label"),
        ("y_2,x_1,x_2", "f: row 1 has no y_1, but y_2"),
        ("y_1,y", "f: row 1, column 2: 'y' is a second y_1; there can be only one"),
        ("y_1,y_2", "f: row 1 is a header with no x column; a series has at least 2 values"),
        ("y_1,x_1", "f: row 1 is a header with only one x column; a series has at least 2 values"),
    ],
)
def test_labels_are_needed_where_they_are_learnt(line: str, sentence: str) -> None:
    with pytest.raises(DataError) as refused:
        parse_labelled(f"{line}\n1,0\n".encode(), source="f")

    assert str(refused.value) == sentence


def test_identifiers_are_left_out_and_columns_are_counted_with_them() -> None:
    header = Header.of(["id", "x_2", "visit", "x_1"], "f", 2, labelled=False, identifiers={1, 3})

    assert header == Header(series=(1, 0), labels=())
    with pytest.raises(DataError, match=r"^f: row 1, column 4: 'z' is no column of a header"):
        Header.of(["id", "x_2", "visit", "z"], "f", 2, labelled=False, identifiers={1, 3})


@pytest.mark.parametrize(
    "line", [b"1,2", b'"1",a', b"walking,1,2", b"x_1", b"", b"x_1,\xff", b'x_1,"x_2', b",NA,\r"]
)
def test_a_line_with_a_number_or_of_a_single_cell_or_no_text_or_without_any_value_is_no_header(
    line: bytes,
) -> None:
    assert not has_header(line + b"\n")


@pytest.mark.parametrize("line", [b"x_1,x_2", b'\xef\xbb\xbf"x_1","x_2"\r', b"nan,inf", b",a"])
def test_any_other_first_line_is_a_header(line: bytes) -> None:
    assert has_header(line + b"\n1,2\n")
