"""A checkpoint, of one network or several, turned into predictions: the one predictor of evaluation,
transform and endpoint.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lstmfcn import tasks
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.devices import DTYPES, Precision, each_on_one_thread, supported_precision
from lstmfcn.ensemble import AnyCheckpoint, load_checkpoint, networks
from lstmfcn.errors import DataError
from lstmfcn.inference import InferenceNetwork
from lstmfcn.prediction_format import PredictionColumn, usual_columns
from lstmfcn.rendering import Renderer
from lstmfcn.series import Matrix, has_header, parse_series
from lstmfcn.storage import Location

_cudnn = threading.Lock()
"""Lock for cuDNN's settings, which are the whole process's."""


class Predictor:
    """Predicts series with a checkpoint's network or, for an ensemble, as the mean of its networks.

    In one precision and on one kind of device the same series gives the same bytes whatever batch it travels
    in: by the care that InferenceNetwork takes, or because every chunk is filled up to the same shape.
    """

    def __init__(
        self,
        checkpoint: AnyCheckpoint,
        device: torch.device | str = "cpu",
        precision: Precision = "fp32",
    ) -> None:
        """Raises ResourceError for a precision that the device can't compute in."""
        self.classes = checkpoint.classes
        self.length, self.channels = checkpoint.length, checkpoint.channels
        self.num_values = checkpoint.num_values
        """Values in a row: those of all channels of a series."""
        self.task = checkpoint.task
        self.treatment = checkpoint.treatment
        device = torch.device(device)
        self.precision = supported_precision(precision, device)
        """Precision that the convolutions compute in; never auto."""
        self._members = [_Member(one, device, DTYPES[self.precision]) for one in networks(checkpoint)]
        self._renderer = Renderer(self.task, self.classes)

    @classmethod
    def load(
        cls,
        checkpoint: Location | str,
        device: torch.device | str = "cpu",
        precision: Precision = "fp32",
    ) -> Predictor:
        """Load a predictor from a checkpoint directory. Raises CheckpointError and ResourceError."""
        return cls(load_checkpoint(checkpoint), device, precision)

    @property
    def fills_up_to(self) -> int:
        """Series that a batch is filled up to, so that one takes as long as that many; 1 if it isn't."""
        return max(member.fills_up_to for member in self._members)

    def probabilities(self, series: Matrix) -> NDArray[np.float32]:
        """Return the probability of each class, (cases, classes), for series as read, (cases, num_values);
        those that are padded end with NaN. Raises DataError for other ones.
        """
        series = np.asarray(series, np.float32)
        if series.ndim != 2 or series.shape[1] != self.num_values:
            raise DataError(f"the shape of the series is {series.shape}; (cases, {self.num_values}) is right")
        self.treatment.refuse_missing(series)
        if len(series) == 0:
            return np.empty((0, len(self.classes)), np.float32)
        parts = [member.probabilities(series) for member in self._members]
        return parts[0] if len(parts) == 1 else np.mean(parts, axis=0, dtype=np.float32)

    def predicted(self, series: Matrix) -> NDArray[np.int64]:
        """Return the most probable class of each series, as its position in `classes`: (cases,). For a
        multilabel network, return 1 for each label that is more probable than not, else 0: (cases, labels).
        """
        return tasks.predicted(self.task, self.probabilities(series))

    def labels(self, series: Matrix) -> list[str]:
        """Return the label of the most probable class of each series; not for a multilabel network."""
        return [self.classes.names[position] for position in self.predicted(series)]

    def cells(
        self,
        series: Matrix,
        columns: Sequence[PredictionColumn] = ("label",),
        *,
        with_header: bool = False,
    ) -> NDArray[np.object_]:
        """Return the prediction columns of each series as CSV, without line end: (cases,) of bytes."""
        return self._renderer.cells(self.probabilities(series), columns, with_header=with_header)

    def num_cells(self, columns: Sequence[PredictionColumn], *, with_header: bool = False) -> int:
        """Return how many CSV cells the prediction columns of a series take."""
        return self._renderer.num_cells(columns, with_header=with_header)

    def answer(
        self,
        probabilities: NDArray[np.float32],
        columns: Sequence[PredictionColumn] | None = None,
        *,
        with_header: bool,
    ) -> bytes:
        """Return given probabilities as CSV, with a header or without; None stands for the usual columns."""
        columns = columns or usual_columns(with_header=with_header)
        lines = list(self._renderer.cells(probabilities, columns, with_header=with_header))
        if with_header:
            lines.insert(0, ",".join(self._renderer.names(columns)).encode())
        return b"".join([line + b"\n" for line in lines])

    def predict_csv(self, data: bytes, *, source: str) -> bytes:
        """Predict CSV of series without labels and return CSV: a label for each or, if the series have a
        header, the columns that are usual then. Raises DataError.
        """
        series = parse_series(data, source=source, num_values=self.num_values, treatment=self.treatment)
        return self.answer(self.probabilities(series), with_header=has_header(data))


class _Member:
    """One network of a predictor."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> None:
        self._scaled = checkpoint.scaled
        self._device = device
        model = checkpoint.build_model().to(device)
        self._network = InferenceNetwork(model, dtype, checkpoint.temperature, checkpoint.task)

    @property
    def fills_up_to(self) -> int:
        return self._network.series_at_once if self._network.needs_full_batches else 1

    def probabilities(self, series: Matrix) -> NDArray[np.float32]:
        """(cases, num_values), with at least one case -> (cases, classes)."""
        at_once = self._network.series_at_once
        chunks = [series[start : start + at_once] for start in range(0, len(series), at_once)]
        if self._device.type == "cpu":
            parts = each_on_one_thread(self._predict_chunk, chunks)
        else:
            with _cudnn, torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
                parts = [self._predict_chunk(chunk) for chunk in chunks]
            torch.cuda.synchronize(self._device)
        return parts[0].numpy() if len(parts) == 1 else torch.cat(parts).numpy()

    def _predict_chunk(self, series: Matrix) -> Tensor:
        """(cases, num_values) -> (cases, classes) in main memory, to which a GPU may still be copying."""
        scaled = torch.from_numpy(self._scaled(series))
        missing = self._network.series_at_once - len(series)
        if self._network.needs_full_batches and missing:
            scaled = functional.pad(scaled, (0, 0, 0, missing))
        if self._device.type == "cuda":
            scaled = scaled.pin_memory()
        probabilities = self._network(scaled.to(self._device, non_blocking=True))
        return probabilities[: len(series)].to("cpu", non_blocking=True)
