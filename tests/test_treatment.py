"""Missing values and unequal lengths, as the specification of lstmfcn.treatment."""

from __future__ import annotations

from itertools import product
from typing import get_args

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from lstmfcn import json_rows, ragged, series
from lstmfcn import rows as engines
from lstmfcn.errors import DataError
from lstmfcn.header import Header
from lstmfcn.identifiers import Identifiers
from lstmfcn.layout import Layout
from lstmfcn.origin import Origin, Place
from lstmfcn.prediction_format import PredictionFormat
from lstmfcn.ragged import Ragged
from lstmfcn.scaling import Scaling
from lstmfcn.series import Matrix, parse_labelled, parse_plain, parse_series, parse_sound_rows
from lstmfcn.treatment import LengthTreatment, MissingTreatment, Treatment
from tests.test_layout import RENDERER

TREATMENTS = [
    Treatment(missing=missing, length=length)
    for missing, length in product(get_args(MissingTreatment), get_args(LengthTreatment))
]
INTERPOLATE = Treatment(missing="interpolate")
PAD = Treatment(length="pad")
RESAMPLE = Treatment(length="resample")
BOTH = Treatment(missing="interpolate", length="pad")
PLACE = Place(Origin("f"), range(1, 100))
NAN = float("nan")

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)
MATRICES = arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(2, 6)), elements=FINITE)


def as_csv(rows: Matrix | list[list[float]]) -> bytes:
    lines = [",".join("" if np.isnan(value) else repr(float(value)) for value in row) for row in rows]
    return ("\n".join(lines) + "\n").encode()


def read(data: bytes, treated: Treatment, length: int | None = None) -> list[list[float]]:
    values: list[list[float]] = parse_series(data, source="f", num_values=length, treatment=treated).tolist()
    return [[value for value in row if not np.isnan(value)] for row in values]


@given(MATRICES, st.sampled_from(TREATMENTS))
def test_series_of_one_length_without_gaps_stay_the_same_bits(matrix: Matrix, treated: Treatment) -> None:
    data, length = as_csv(matrix), matrix.shape[1]

    for known in (length, None):
        assert (
            parse_series(data, source="f", num_values=known, treatment=treated).tobytes() == matrix.tobytes()
        )


@pytest.mark.parametrize(
    "cell", ["", " ", "nan", "NaN", "-nan", "NA", "n/a", "null", "NULL", "None", "?", '""', " NA "]
)
def test_spellings_of_a_missing_value(cell: str) -> None:
    assert read(f"1,{cell},3\n".encode(), INTERPOLATE) == [[1, 2, 3]]


@pytest.mark.parametrize(
    "cell", ["inf", "-inf", "x", "nul", "??", "-", "1 2", "1e39", "#N/A", "True", "[]", "-2e39"]
)
@pytest.mark.parametrize("treated", TREATMENTS)
def test_what_is_neither_a_number_nor_missing_is_refused(cell: str, treated: Treatment) -> None:
    with pytest.raises(DataError, match=r"^f: row 2, column 2"):
        parse_series(f"1,2,3\n1,{cell},3\n".encode(), source="f", num_values=3, treatment=treated)


@pytest.mark.parametrize(
    ("row", "filled"),
    [
        ("1,,,4", [1, 2, 3, 4]),
        (",,3,5", [3, 3, 3, 5]),
        ("1,2,,", [1, 2, 2, 2]),
        (",,7,", [7, 7, 7, 7]),
        ("-0.0,,0,1", [0, 0, 0, 1]),
    ],
)
def test_gaps_are_filled_between_their_neighbours_and_at_the_ends_with_the_nearest_value(
    row: str, filled: list[float]
) -> None:
    data = f"9,9,9,9\n{row}\n8,8,8,8\n".encode()

    assert read(data, INTERPOLATE, 4) == [[9] * 4, filled, [8] * 4]


@given(
    st.integers(-1000, 1000),
    st.integers(-1000, 1000),
    st.sets(st.integers(1, 38)),
    st.sampled_from([INTERPOLATE, Treatment(missing="interpolate", length="resample")]),
)
def test_a_line_with_gaps_between_its_ends_is_the_line(
    start: int, slope: int, gaps: set[int], treated: Treatment
) -> None:
    line = start + slope * np.arange(40, dtype=np.float32)
    with_gaps = line.copy()
    with_gaps[list(gaps)] = np.nan

    assert read(as_csv([with_gaps.tolist()]), treated) == [line.tolist()]


@given(st.integers(-1000, 1000), st.integers(-1000, 1000), st.integers(2, 40), st.integers(2, 40))
def test_a_line_that_is_resampled_is_a_line_between_the_same_ends(
    start: int, end: int, before: int, after: int
) -> None:
    line = np.linspace(start, end, before).astype(np.float32)

    resampled = RESAMPLE(Ragged.of(line[None]), after, PLACE)[0]

    assert (resampled[0], resampled[-1]) == (start, end)
    assert np.allclose(resampled, np.linspace(start, end, after), atol=2e-4)


def test_a_series_is_resampled_at_equal_distances() -> None:
    assert read(b"0,4\n0,4,0\n5,4,3,2,1,2,3,4,5\n", RESAMPLE, 5) == [
        [0, 1, 2, 3, 4],
        [0, 2, 4, 2, 0],
        [5, 3, 1, 3, 5],
    ]


def test_values_that_resampling_meets_keep_their_bits() -> None:
    resampled = parse_series(b"-0.0,-0.0,1\n-0.0,1,2,-0.0,4\n", source="f", num_values=5, treatment=RESAMPLE)

    assert np.signbit(resampled).tolist() == [
        [True, True, True, False, False],
        [True, False, False, True, False],
    ]


def test_a_padded_series_ends_with_nan_and_once_it_is_scaled_with_zeros() -> None:
    padded = parse_series(b"1,3\n1,2,3,4\n", source="f", treatment=PAD)

    assert np.isnan(padded).tolist() == [[False, False, True, True], [False] * 4]
    assert Scaling()(padded)[0].tolist() == [-1, 1, 0, 0]


@pytest.mark.parametrize("method", ["series", "training-set"])
@given(MATRICES, st.integers(1, 3))
def test_the_values_of_a_padded_series_are_scaled_as_without_padding(
    method: str, matrix: Matrix, padding: int
) -> None:
    longer = np.pad(matrix, [(0, 0), (0, padding)], constant_values=np.float32(7))
    padded = np.pad(matrix, [(0, 0), (0, padding)], constant_values=np.float32("nan"))
    scaling = Scaling(method=method, mean=3, deviation=2)

    scaled = scaling(np.concatenate([longer, padded]))

    assert scaled[: len(matrix)].tobytes() == scaling(longer).tobytes()
    assert scaled[len(matrix) :, :-padding].tobytes() == scaling(matrix).tobytes()
    assert not scaled[len(matrix) :, -padding:].any()


def test_padding_is_no_part_of_a_training_sets_mean_and_deviation() -> None:
    padded = np.array([[1, 3, NAN, NAN], [5, 7, NAN, NAN]], np.float32)

    assert Scaling.fitted("training-set", padded) == Scaling.fitted("training-set", padded[:, :2])


def test_a_series_ends_with_its_last_value() -> None:
    data = b"1,2,3,4\n1,2,,\n,2,,4\n1,2,\n1,2\n"
    expected = [[1, 2, 3, 4], [1, 2], [2, 2, 3, 4], [1, 2], [1, 2]]

    assert read(data, BOTH) == read(data, BOTH, 4) == expected


def test_below_a_header_series_end_before_the_longest_with_cells_that_are_missing() -> None:
    data = b"x_4,x_1,x_2,x_3\n,1,2,\n8,5,6,7\nNA,1,,3\n"

    assert read(data, BOTH) == [[1, 2], [5, 6, 7, 8], [1, 2, 3]]


def test_below_a_header_there_may_be_another_number_of_steps_than_the_networks() -> None:
    assert read(b"x_1,x_2,x_3,x_4\n1,2,3,\n4,6,,\n", PAD, 3) == [[1, 2, 3], [4, 6]]
    assert read(b"x_1,x_2\n1,3\n", RESAMPLE, 3) == [[1, 2, 3]]


def test_labels_stand_before_rows_of_any_length() -> None:
    labelled = parse_labelled(b"a,1,2,3\nb,4,5\n'c',5,,7,\n", source="f", treatment=BOTH)
    named = parse_labelled(b"x_1,y,x_2,x_3\n1,1,2,3\n3,0,4,\n", source="f", treatment=BOTH)

    assert labelled.labels == ["a", "b", "'c'"]
    assert np.array_equal(labelled.series, [[1.0, 2, 3], [4, 5, NAN], [5.0, 6, 7]], equal_nan=True)
    assert named.marks is not None
    assert named.marks.tolist() == [[True], [False]]
    assert np.array_equal(named.series, [[1.0, 2, 3], [3, 4, NAN]], equal_nan=True)


@pytest.mark.parametrize(
    ("data", "treated", "sentence"),
    [
        (b"1,2,3\n,nan,\n", INTERPOLATE, "f: row 2 has no values; a series has at least 2"),
        (b"1,2,3\n1,2\n", INTERPOLATE, "f: row 2 has 2 columns where 3 are expected"),
        (b"1,2,3\n1,2\n,,,,,\n", RESAMPLE, "f: row 3 has no values; a series has at least 2"),
        (b"1,2,3\n\n", RESAMPLE, "f: row 2 is blank; every line must hold a series"),
        (b"1,2,3\n4,,\n", PAD, "f: row 2 has 1 value; a series has at least 2"),
        (b"1\n2\n", PAD, "f: row 1 has 1 value; a series has at least 2"),
        (
            b"1,2,3\n1,2,3,4,\n",
            PAD,
            "f: row 2 has 4 values where the network takes at most 3; --length resample, in"
            " training, takes any number",
        ),
        (
            b"1,2,3\n1,2,,4\n1,2,3,4,5\n",
            RESAMPLE,
            "f: row 2, column 3 is missing, and values follow; --missing interpolate, in"
            " training, fills that",
        ),
        (
            b"x_3,x_2,x_1\n3,2,1\n3,,1\n",
            PAD,
            "f: row 3, column 2 is missing, and values follow; --missing interpolate, in"
            " training, fills that",
        ),
        (b"x_1,x_2,x_3\n1,2\n", PAD, "f: row 2 has 2 columns where row 1 has 3"),
        (b"1,2,3\n1,2,x\n", PAD, "f: row 2, column 3: 'x' is not a finite number"),
    ],
)
def test_what_no_treatment_makes_a_series_of_is_refused_with_its_place(
    data: bytes, treated: Treatment, sentence: str
) -> None:
    with pytest.raises(DataError) as refused:
        parse_series(data, source="f", num_values=3, treatment=treated)

    assert str(refused.value) == sentence


def test_a_file_of_single_values_is_refused_though_all_have_one_length() -> None:
    with pytest.raises(DataError, match=r"^f: row 1 has 1 value; a series has at least 2$"):
        parse_labelled(b"a,1\nb,2\n", source="f", treatment=PAD)


def test_a_label_is_never_missing() -> None:
    with pytest.raises(DataError, match=r"^f: row 2, column 1: the label is missing"):
        parse_labelled(b"a,1,2\n,3,4\n", source="f", treatment=INTERPOLATE)
    with pytest.raises(DataError, match=r"^f: row 3, column 1: nan is no label"):
        parse_labelled(b"y,x_1,x_2\n1,1,2\n,3,4\n", source="f", treatment=INTERPOLATE)
    with pytest.raises(DataError, match=r"^f: row 2 has no values"):
        parse_labelled(b"a,1,2\nb\n", source="f", treatment=PAD)


NUMBERS = ["1", "-0", "-0.0", ".5", "2.5e-3", " 7", '"4"', "9" * 30]
MISSING = ["", " ", "NaN", "nan", "NA", "null", "?", "None", "-nan"]
FAULTS = ["1e39", "-2e39", "inf", "x", "[1]", "é", "\0"]
CELLS = st.one_of(
    st.sampled_from([*NUMBERS, *MISSING, *FAULTS]), st.text(alphabet='01.eE+-, "\r[?', max_size=4)
)
ROWS = st.lists(st.lists(CELLS, min_size=1, max_size=5).map(",".join), min_size=1, max_size=5)


@st.composite
def nearly_plain_rows(draw: st.DrawFn) -> list[str]:
    """Draw rows that the fast engine reads, or would but for one cell."""
    number = st.sampled_from(["1", "-0", "-0.0", "2.5e-3", " 7", "9" * 30])
    plain = st.one_of(number, st.sampled_from(["", "NaN", "nan", "NA", "null", "?"]))
    cells = st.lists(plain, min_size=1, max_size=3)
    rows = draw(
        st.lists(
            st.builds(lambda *row: [row[0], *row[1], row[2]], number, cells, number), min_size=1, max_size=4
        )
    )
    draw(st.sampled_from(rows))[-1] = draw(st.one_of(number, CELLS))
    return [",".join(row) for row in rows]


@given(
    ROWS | nearly_plain_rows(),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from(TREATMENTS[1:]),
)
@example(["1,,", "2,-2e39,3"], "\n", True, False, INTERPOLATE)
@example(["1,2,3", "4,5,1e39,6,7"], "\n", True, False, PAD)
@example(["a,1,-0,?", "b,3"], "\r\n", False, True, RESAMPLE)
@example(["1,0.5,", "2,,1e40"], "\n", True, False, INTERPOLATE)
@example(["1,-0,", "2,,3"], "\n", True, False, INTERPOLATE)
def test_the_engines_read_alike(
    rows: list[str], line_end: str, final: bool, labelled: bool, treated: Treatment
) -> None:
    data = (line_end.join(rows) + line_end * final).encode()

    def parsed() -> tuple[list[str], bytes] | str:
        try:
            labels, matrix = series._parse(data, Origin("f"), None, labelled=labelled, treatment=treated)
        except DataError as error:
            return str(error)
        return labels, matrix.tobytes()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "_parse_ragged_fast", lambda *_: None)
        slow = parsed()

    assert parsed() == slow


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("labelled", [False, True])
def test_plain_numbers_and_usual_gaps_take_the_fast_engine(
    line_end: bytes, labelled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_parse_ragged_slowly", None)
    data = line_end.join([b"1,,,3", b"2,NaN,NaN,NaN,5", b"3,?,null,4,NA", b"4,nan,1", b""])

    _, matrix = series._parse(data, Origin("f"), None, labelled=labelled, treatment=BOTH)

    assert len(matrix) == 4


@given(
    st.sampled_from(TREATMENTS[1:]),
    st.lists(
        st.sampled_from([b"1,2,3", b"1,,3", b",2,", b"1,2", b"1,2,", b"4", b",,", b"", b"1,x,3", b"1,2,3,4"]),
        min_size=1,
        max_size=8,
    ),
)
def test_a_row_is_treated_alike_alone_and_among_others(treated: Treatment, lines: list[bytes]) -> None:
    sound, faults = parse_sound_rows(b"\n".join(lines) + b"\n", num_values=3, treatment=treated)

    alone = []
    reasons = []
    for line in lines:
        try:
            alone.append(series._parse(line + b"\n", Origin(""), 3, labelled=False, treatment=treated)[1])
        except DataError as error:
            reasons.append(str(error).removeprefix(": row 1"))
    assert sound.tobytes() == b"".join(row.tobytes() for row in alone)
    assert [fault.reason for fault in faults] == reasons


def test_a_header_decides_on_columns_in_a_range_too() -> None:
    header = Header.of(["x_2", "x_3", "x_1"], "f", None, labelled=False)

    sound, faults = parse_sound_rows(b"2,,1\n,3,1\n", num_values=3, header=header, treatment=RESAMPLE)

    assert sound.tolist() == [[1, 1.5, 2]]
    assert [(fault.row, fault.reason.partition(" is")[0]) for fault in faults] == [(2, ", column 1")]


@pytest.mark.parametrize("treated", TREATMENTS)
def test_what_is_parsed_at_once_needs_no_treatment(treated: Treatment) -> None:
    plain = parse_plain(b"1,2\n3,4\n", num_values=2)

    assert plain is not None
    assert (
        plain.tobytes() == parse_series(b"1,2\n3,4\n", source="f", num_values=2, treatment=treated).tobytes()
    )
    assert parse_plain(b"1,2,3\n4,5\n", num_values=2) is None
    assert parse_plain(b"1,\n", num_values=2) is None


@pytest.mark.parametrize("cells", [1, 5, 1000])
def test_the_size_of_blocks_changes_nothing(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ragged, "_CELLS_AT_ONCE", cells)
    rows: list[list[float]] = [[1, NAN, 4], [2, 3], [NAN, 5, NAN, 1, 2], [7, 8, 9]]

    assert read(as_csv(rows), BOTH) == [
        [1, 2.5, 4],
        [2, 3],
        [5, 5, 3, 1, 2],
        [7, 8, 9],
    ]
    with pytest.raises(DataError, match=r"^f: row 4 has no values"):
        read(as_csv([*rows[:3], [NAN, NAN]]), Treatment(missing="interpolate", length="resample"), 3)


def test_one_long_row_among_short_ones_takes_no_memory_for_them() -> None:
    data = b"1,2\n" * 50_000 + b"1," * 200_000 + b"1\n"

    assert parse_series(data, source="f", num_values=4, treatment=RESAMPLE).shape == (50_001, 4)


def test_ragged_rows_of_plain_numbers_are_read_as_one_list() -> None:
    rows = json_rows.read_ragged_rows(b"1,2\r\n3,,NA,?,4\n,5")

    assert rows is not None
    assert rows.lengths.tolist() == [2, 5, 2]
    assert np.array_equal(rows.values, [1, 2, 3, NAN, NAN, NAN, 4, NAN, 5], equal_nan=True)


@given(
    arrays(np.float32, (3, 2, 4), elements=st.one_of(st.integers(0, 9), st.just(NAN))),
    st.sampled_from(TREATMENTS),
)
def test_a_channel_is_treated_alike_alone_and_beside_another(
    channels: NDArray[np.float32], treated: Treatment
) -> None:
    def parsed(rows: NDArray[np.float32], channels: int) -> Matrix | str:
        treatment = treated.model_copy(update={"channels": channels})
        names = [f"x{channel}_{step}" for channel in range(1, channels + 1) for step in range(1, 5)]
        data = ",".join(names).encode() + b"\n" + as_csv(rows)
        try:
            return parse_series(data, source="", num_values=4 * channels, treatment=treatment)
        except DataError as error:
            return str(error)

    both, first, second = (
        parsed(channels.reshape(3, 8), 2),
        parsed(channels[:, 0], 1),
        parsed(channels[:, 1], 1),
    )

    if isinstance(first, str) or isinstance(second, str):
        assert isinstance(both, str)
    else:
        assert not isinstance(both, str)
        assert np.array_equal(both, np.hstack([first, second]), equal_nan=True)


def test_channels_are_as_long_as_the_longest_and_then_resized_to_the_networks_length() -> None:
    treated = Treatment(channels=2, missing="interpolate", length="resample")
    rows = parse_series(b"1,,3,7,8,9\n1,2,5,6\n", source="f", treatment=treated)

    assert np.array_equal(rows, [[1.0, 2, 3, 7, 8, 9], [1, 2, NAN, 5, 6, NAN]], equal_nan=True)
    assert treated.resized(rows, 6).tolist() == [[1, 2, 3, 7, 8, 9], [1, 1.5, 2, 5, 5.5, 6]]


@pytest.mark.parametrize(
    ("data", "treated", "sentence"),
    [
        (b"1,2,3,4\n1,2,3\n", PAD, "f: row 2 has 3 values, which 2 channels can't share evenly"),
        (
            b"1,2,3,4\n1,,3,4\n",
            PAD,
            "f: row 2 has 1 value in channel 1; a series has at least 2",
        ),
        (
            b"1,2,3,4\n1,2,3,,4,\n",
            PAD,
            "f: row 2 ends with a missing value; without a header all channels of a row have as many cells,"
            " and the last one holds a value",
        ),
        (
            b"1,2,3,4\n1,2,3,4,5,6\n",
            PAD,
            "f: row 2 has 3 values in channel 1 where the network takes at most 2; --length resample, in"
            " training, takes any number",
        ),
        (
            b"1,2,3,4\n1,2,3,4,,6\n",
            RESAMPLE,
            "f: row 2, column 5 is missing, and values follow; --missing interpolate, in"
            " training, fills that",
        ),
        (
            b"x1_1,x2_1,x2_2,x1_2\n1,,2,3\n",
            RESAMPLE,
            "f: row 2, column 2 is missing, and values follow; --missing interpolate, in"
            " training, fills that",
        ),
    ],
)
def test_what_is_wrong_with_a_channel_is_said_with_its_place(
    data: bytes, treated: Treatment, sentence: str
) -> None:
    with pytest.raises(DataError) as refused:
        parse_series(data, source="f", num_values=4, treatment=treated.model_copy(update={"channels": 2}))

    assert str(refused.value) == sentence


def test_where_rows_may_have_any_length_identifiers_by_position_stand_before_the_values() -> None:
    data = b"p,a,1,2,3\nq,b,7,8\n"

    before = parse_labelled(data, source="f", identifiers=Identifiers((1,)), treatment=PAD)

    assert np.array_equal(before.series, [[1.0, 2, 3], [7, 8, NAN]], equal_nan=True)
    with pytest.raises(DataError, match=r"^f: column 5, which --id-columns names, comes after values"):
        parse_labelled(b"a,1,2,3,p\nb,7,8,9\n", source="f", identifiers=Identifiers((5,)), treatment=PAD)
    with pytest.raises(DataError, match=r"^f: column 2, which --id-columns names, comes after values"):
        Layout.of(b"1,p,2\n", PredictionFormat(identifiers=Identifiers((2,))), 3, RENDERER, "f", RESAMPLE)
