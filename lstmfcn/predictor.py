"""A checkpoint turned into predictions: the one predictor of evaluation, transform and endpoint."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lstmfcn.checkpoint import Checkpoint
from lstmfcn.series import Matrix, parse_series

_CHUNK_ROWS = 128
"""Series that go through the network together; their activations stay in the processor's cache."""


class Predictor:
    """Predicts series with a checkpoint's network.

    On one kind of device the same series gives the same bytes whatever batch it travels in. The batch size
    decides which matrix kernels run and so the last bit of a result: on a CPU with oneDNN, matrix products
    differ below 4 rows and convolutions below 2, so smaller batches are filled up, each block only as far
    as it needs; on a GPU every chunk has the one full size.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device | str = "cpu") -> None:
        self.classes = checkpoint.classes
        self.length = checkpoint.length
        self._scaling = checkpoint.scaling
        self._device = torch.device(device)
        self._model = checkpoint.build_model().to(self._device)
        on_cpu = self._device.type == "cpu"
        self._matmul_rows = 16 if on_cpu else _CHUNK_ROWS
        self._convolution_rows = 2 if on_cpu else _CHUNK_ROWS
        self._lines = np.array([_csv_line(name) for name in self.classes.names], object)

    @classmethod
    def load(cls, checkpoint: Path | str, device: torch.device | str = "cpu") -> Predictor:
        """A predictor from a checkpoint directory. Raises CheckpointError."""
        return cls(Checkpoint.load(Path(checkpoint)), device)

    def probabilities(self, series: Matrix) -> NDArray[np.float32]:
        """Series as read, (cases, length), to the probability of each class: (cases, classes)."""
        probabilities = np.empty((len(series), len(self.classes)), np.float32)
        with torch.inference_mode():
            for start in range(0, len(series), _CHUNK_ROWS):
                scaled = torch.from_numpy(self._scaling(series[start : start + _CHUNK_ROWS]))
                chunk = self._probabilities(scaled.to(self._device))
                probabilities[start : start + _CHUNK_ROWS] = chunk.numpy(force=True)
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

    def _probabilities(self, series: Tensor) -> Tensor:
        rows = len(series)
        recurrent = self._model.recurrent(_filled(series, self._matmul_rows))[:rows]
        convolutional = self._model.convolutional(_filled(series, self._convolution_rows))[:rows]
        features = torch.cat([recurrent, convolutional], dim=1)
        logits = self._model.linear(_filled(features, self._matmul_rows))
        return torch.softmax(logits, dim=1)[:rows]


def _filled(batch: Tensor, least_rows: int) -> Tensor:
    """The batch with rows of zeros after it, up to `least_rows`."""
    missing = least_rows - len(batch)
    return batch if missing <= 0 else torch.cat([batch, batch.new_zeros(missing, batch.shape[1])])


def _csv_line(cell: str) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([cell])
    return text.getvalue().encode()
