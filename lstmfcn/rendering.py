"""Predictions as text: the cells of CSV, in the first format, without a header, and in that with a header."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lstmfcn import tasks
from lstmfcn.cells import csv_cell
from lstmfcn.classes import ClassLabels
from lstmfcn.prediction_format import PredictionColumn
from lstmfcn.tasks import TaskName, num_outputs

_CELLS_AT_ONCE = 10_000
"""Numbers that become text at a time: each is an object meanwhile, and no other thread runs."""


class Renderer:
    """Renders what networks of one task and classes predict.

    In the first format a label is spelt as the training file spells it, and there is a probability for each
    class. With a header there are columns y_1, y_2, ... of 0 and 1 and p_1, p_2, ... of probabilities: for
    each class or, if the task is binary, only for the second one. The labels of a multilabel task are columns
    of 0 and 1 in both formats.
    """

    def __init__(self, task: TaskName, classes: ClassLabels) -> None:
        self._task, self._num_classes = task, len(classes)
        self._num_outputs = num_outputs(task, len(classes))
        self._names = np.array([csv_cell(name) for name in classes.names], object)

    def cells(
        self, probabilities: NDArray[np.float32], columns: Sequence[PredictionColumn], *, with_header: bool
    ) -> NDArray[np.object_]:
        """Return the columns of each case, without line end, (cases,) of bytes, from (cases, classes)."""
        parts = [
            self._labels(probabilities, with_header)
            if column == "label"
            else _rows(probabilities[:, self._num_classes - self._num_columns(with_header) :])
            for column in columns
        ]
        if len(parts) == 1:
            return parts[0]
        return np.array([b",".join(cells) for cells in zip(*parts, strict=True)], object)

    def _labels(self, probabilities: NDArray[np.float32], with_header: bool) -> NDArray[np.object_]:
        predicted = tasks.predicted(self._task, probabilities)
        if self._task == "multilabel":
            return _rows(predicted)
        if not with_header:
            names: NDArray[np.object_] = self._names[predicted]
            return names
        different, places = np.unique(predicted, return_inverse=True)
        marks = different[:, None] == np.arange(self._num_classes)
        rows: NDArray[np.object_] = _rows(marks[:, -self._num_outputs :].astype(np.int64))[places]
        return rows

    def _num_columns(self, with_header: bool) -> int:
        """Return the number of columns of probabilities in a line."""
        return self._num_outputs if with_header else self._num_classes

    def names(self, columns: Sequence[PredictionColumn]) -> list[str]:
        """Return the cells of the header."""
        return [
            f"{'y' if column == 'label' else 'p'}_{number}"
            for column in columns
            for number in range(1, self._num_outputs + 1)
        ]

    def num_cells(self, columns: Sequence[PredictionColumn], *, with_header: bool) -> int:
        """Return how many CSV cells the columns of a case take."""
        has_marks = with_header or self._task == "multilabel"
        num_label_cells = self._num_outputs if has_marks else 1
        return sum(
            num_label_cells if column == "label" else self._num_columns(with_header) for column in columns
        )


def _rows(numbers: NDArray[np.float32] | NDArray[np.int64]) -> NDArray[np.object_]:
    """Return each row of numbers as CSV, every number as the shortest text that reads back to the same."""
    rows_at_once = max(1, _CELLS_AT_ONCE // numbers.shape[1])
    lines: list[bytes] = []
    for start in range(0, len(numbers), rows_at_once):
        some = numbers[start : start + rows_at_once]
        texts = pa.array(some.ravel()).cast(pa.string()).to_numpy(zero_copy_only=False)
        lines += [",".join(row).encode() for row in texts.reshape(some.shape)]
    return np.array(lines, object)
