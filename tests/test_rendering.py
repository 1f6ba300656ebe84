from __future__ import annotations

import numpy as np
import pytest

from lstmfcn import rendering
from lstmfcn.classes import ClassLabels
from lstmfcn.prediction_format import PredictionColumn
from lstmfcn.rendering import Renderer
from lstmfcn.tasks import TaskName

BOTH: tuple[PredictionColumn, ...] = ("label", "probabilities")
THREE = np.array([[0.2346236, 0.46620098, 0.2991754], [1e-05, 0.0, 1.0]], np.float32)
TWO = np.array([[0.75, 0.25], [0.5, 0.5], [0.1, 0.9]], np.float32)


@pytest.mark.parametrize(
    ("task", "names", "probabilities", "with_header", "expected"),
    [
        (
            "multiclass",
            ["1.0", "a,b", "c"],
            THREE,
            False,
            [b'"a,b",0.2346236,0.46620098,0.2991754', b"c,0.00001,0,1"],
        ),
        (
            "multiclass",
            ["1.0", "a,b", "c"],
            THREE,
            True,
            [b"0,1,0,0.2346236,0.46620098,0.2991754", b"0,0,1,0.00001,0,1"],
        ),
        ("binary", ["no", "yes"], TWO, False, [b"no,0.75,0.25", b"no,0.5,0.5", b"yes,0.1,0.9"]),
        ("binary", ["no", "yes"], TWO, True, [b"0,0.25", b"0,0.5", b"1,0.9"]),
        ("multilabel", ["y_1", "y_2"], TWO, False, [b"1,0,0.75,0.25", b"0,0,0.5,0.5", b"0,1,0.1,0.9"]),
        ("multilabel", ["y_1", "y_2"], TWO, True, [b"1,0,0.75,0.25", b"0,0,0.5,0.5", b"0,1,0.1,0.9"]),
    ],
)
def test_predictions_are_written_as_their_task_and_the_inputs_format_have_it(
    task: TaskName, names: list[str], probabilities: np.ndarray, with_header: bool, expected: list[bytes]
) -> None:
    renderer = Renderer(task, ClassLabels(names))

    cells = renderer.cells(probabilities, BOTH, with_header=with_header)

    assert cells.tolist() == expected


def test_many_predictions_are_written_as_each_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "_CELLS_AT_ONCE", 5)
    renderer = Renderer("multiclass", ClassLabels(["a", "b", "c"]))
    probabilities = np.random.default_rng(0).dirichlet([1, 1, 1], 7).astype(np.float32)

    cells = renderer.cells(probabilities, ["probabilities"], with_header=False)

    assert cells.tolist() == [",".join(map(str, row)).encode() for row in probabilities]


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("with_header", [True, False])
@pytest.mark.parametrize("columns", [("label",), ("probabilities",), BOTH])
def test_cells_are_counted_and_named(
    task: TaskName, with_header: bool, columns: tuple[PredictionColumn, ...]
) -> None:
    renderer = Renderer(task, ClassLabels(["a", "b"]))

    (line,) = renderer.cells(TWO[:1], columns, with_header=with_header)

    assert line.count(b",") + 1 == renderer.num_cells(columns, with_header=with_header)
    if with_header:
        assert len(renderer.names(columns)) == line.count(b",") + 1


def test_names_are_the_reference_products() -> None:
    assert Renderer("multiclass", ClassLabels(["a", "b"])).names(BOTH) == ["y_1", "y_2", "p_1", "p_2"]
    assert Renderer("binary", ClassLabels(["a", "b"])).names(BOTH) == ["y_1", "p_1"]
