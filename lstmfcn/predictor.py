"""A checkpoint turned into predictions: the one predictor of evaluation, transform and endpoint."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lstmfcn.checkpoint import Checkpoint
from lstmfcn.inference import InferenceNetwork
from lstmfcn.series import Matrix, parse_series

_CHUNK_ROWS = 128
"""Series that go through the network together; their activations stay in the processor's cache."""


class Predictor:
    """Predicts series with a checkpoint's network.

    On one kind of device the same series gives the same bytes whatever batch it travels in: on a CPU by the
    care that InferenceNetwork takes, on a GPU because every chunk there has the same shape.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device | str = "cpu") -> None:
        self.classes = checkpoint.classes
        self.length = checkpoint.length
        self._scaling = checkpoint.scaling
        self._device = torch.device(device)
        self._network = InferenceNetwork(checkpoint.build_model().to(self._device))
        self._lines = np.array([_csv_line(name) for name in self.classes.names], object)

    @classmethod
    def load(cls, checkpoint: Path | str, device: torch.device | str = "cpu") -> Predictor:
        """A predictor from a checkpoint directory. Raises CheckpointError."""
        return cls(Checkpoint.load(Path(checkpoint)), device)

    def probabilities(self, series: Matrix) -> NDArray[np.float32]:
        """Series as read, (cases, length), to the probability of each class: (cases, classes)."""
        probabilities = np.empty((len(series), len(self.classes)), np.float32)
        for start in range(0, len(series), _CHUNK_ROWS):
            chunk = self._scaling(series[start : start + _CHUNK_ROWS])
            probabilities[start : start + len(chunk)] = self._predict_chunk(chunk)
        return probabilities

    def positions(self, series: Matrix) -> NDArray[np.int64]:
        """The most probable class of each series, as its position in `classes`."""
        positions: NDArray[np.int64] = self.probabilities(series).argmax(axis=1)
        return positions

    def labels(self, series: Matrix) -> list[str]:
        """The label of the most probable class of each series."""
        return [self.classes.names[position] for position in self.positions(series)]

    def csv_lines(self, series: Matrix) -> bytes:
        """Predicted labels as CSV, a line for each series."""
        return b"".join(self._lines[self.positions(series)])

    def predict_csv(self, data: bytes, *, source: str) -> bytes:
        """CSV of series without labels to CSV of predicted labels, a line each. Raises DataError."""
        return self.csv_lines(parse_series(data, source=source, length=self.length))

    def _predict_chunk(self, scaled: Matrix) -> NDArray[np.float32]:
        rows = len(scaled)
        if self._device.type != "cpu":
            scaled = np.pad(scaled, ((0, _CHUNK_ROWS - rows), (0, 0)))
        probabilities = self._network(torch.from_numpy(scaled).to(self._device))
        return probabilities[:rows].numpy(force=True)


def _csv_line(cell: str) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([cell])
    return text.getvalue().encode()
