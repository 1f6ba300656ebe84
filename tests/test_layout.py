from __future__ import annotations

import pytest

from lstmfcn.classes import ClassLabels
from lstmfcn.errors import DataError
from lstmfcn.header import Header
from lstmfcn.identifiers import Identifiers
from lstmfcn.layout import Layout
from lstmfcn.prediction_format import PredictionFormat
from lstmfcn.rendering import Renderer
from lstmfcn.treatment import Treatment

RENDERER = Renderer("multiclass", ClassLabels(["a", "b"]))
NAMED = PredictionFormat(identifiers=Identifiers(names=("visit", "patient id")))


def layout(first_line: bytes, asked: PredictionFormat = NAMED) -> Layout:
    return Layout.of(first_line, asked, 2, RENDERER, "f")


def test_a_file_without_a_header_is_answered_by_labels() -> None:
    assert layout(b"1,2\n", PredictionFormat(identifiers=Identifiers((3,)))) == Layout(
        PredictionFormat(identifiers=Identifiers((3,))), ("label",)
    )


def test_a_file_with_a_header_is_answered_by_one_and_its_identifiers_are_found_by_name() -> None:
    found = layout(b'\xef\xbb\xbf"patient id",x_2,visit ,x_1\r\n')

    assert found.header == Header(series=(1, 0), labels=())
    assert found.columns == ("label", "probabilities")
    assert found.format.identifiers.positions == (1, 3)
    assert found.output_header == b"patient id,visit ,y_1,y_2,p_1,p_2\n"


def test_a_header_names_as_many_channels_as_the_network_knows() -> None:
    line = b"x2_1,x2_2,x1_1,x1_2\n"

    found = Layout.of(line, PredictionFormat(), 4, RENDERER, "f", treatment=Treatment(channels=2))

    assert found.header == Header(series=(2, 3, 0, 1), labels=(), channels=2)
    with pytest.raises(DataError, match=r"^f: row 1 is a header of 2 channels where 1 is expected$"):
        Layout.of(line, PredictionFormat(), 4, RENDERER, "f")


def test_columns_that_were_asked_for_are_those_of_the_header() -> None:
    asked = PredictionFormat(("probabilities",), join_input=True)

    assert layout(b"x_1,x_2\n", asked).output_header == b"x_1,x_2,p_1,p_2\n"


@pytest.mark.parametrize(
    ("first_line", "asked", "sentence"),
    [
        (b"1,2\n", NAMED, "f has no header, and so none of the --id-columns visit,patient id"),
        (
            b"x_1,x_2,visit\n",
            NAMED,
            "f: row 1 is a header with no column 'patient id', which --id-columns names",
        ),
        (
            b"x_1,x_2,visit,visit,patient id\n",
            NAMED,
            "f: row 1 is a header with 2 columns 'visit', which --id-columns names",
        ),
        (
            b"x_1,x_2,id\n",
            PredictionFormat(identifiers=Identifiers((3,))),
            "f: row 1 is a header; --id-columns must name its columns, not count them",
        ),
        (
            b"x_1,x_2,p_2\n",
            PredictionFormat(identifiers=Identifiers(names=("p_2",))),
            "f: row 1, column 3: the predictions have a 'p_2' of their own",
        ),
        (
            b"y_1,x_1,x_2\n",
            PredictionFormat(),
            "f: row 1, column 1: 'y_1' is a label, which has no place here",
        ),
    ],
)
def test_what_does_not_fit_is_refused(first_line: bytes, asked: PredictionFormat, sentence: str) -> None:
    with pytest.raises(DataError) as refused:
        layout(first_line, asked)

    assert str(refused.value) == sentence
