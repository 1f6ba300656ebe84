"""What in a series speaks for a class: class activation maps (Zhou et al., "Learning Deep Features for
Discriminative Localization", arXiv 1512.04150), from the last convolution.

The convolutional block ends in a mean over time and a linear layer, so its share of a class's logit is a sum
over time steps, of all channels together. The recurrent block sees a whole channel as one step, so its
share can't be told apart by time step.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lstmfcn import plots, storage
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.ensemble import AnyCheckpoint, networks
from lstmfcn.errors import DataError
from lstmfcn.predictor import Predictor
from lstmfcn.series import Matrix
from lstmfcn.storage import Location
from lstmfcn.tasks import class_logits

_TABLE = "explanation.csv"
RESULT_PATTERNS = (_TABLE, "row-[0-9]*.png")


@dataclass(frozen=True, slots=True)
class Explanation:
    """What speaks for the predicted class of each of some series. What a part of a network adds to a logit is
    counted from the mean of what it adds to all classes, since the softmax sees only differences.
    """

    predicted: NDArray[np.int64]
    """(cases,): the position of the predicted class."""
    contributions: NDArray[np.float32]
    """(cases, length): what the convolutions add to that class's logit around each time step."""
    recurrent: NDArray[np.float32]
    """(cases,): what the recurrent block adds to that logit."""

    def save(self, output: Location, rows: Sequence[int], series: Matrix, checkpoint: AnyCheckpoint) -> None:
        """Write a table, and a picture of each of the series, (cases, channels * length), named by its row.
        Other pictures of rows are removed.
        """
        stale = [name for name in storage.names(output) if re.fullmatch(r"row-[0-9]+\.png", name)]
        storage.remove(output, _TABLE, *stale)
        table = []
        each = zip(rows, series, self.predicted, self.recurrent, self.contributions, strict=True)
        for row, one, predicted, recurrent, contributions in each:
            label = checkpoint.classes.names[predicted]
            steps = {f"step_{step}": float(value) for step, value in enumerate(contributions, 1)}
            table.append({"row": row, "label": label, "recurrent": float(recurrent), **steps})
            by_channel = one.reshape(checkpoint.channels, -1)
            picture = plots.contributions(by_channel, contributions, f"row {row}: predicted class {label}")
            storage.write_bytes(output / f"row-{row}.png", picture)
        storage.write_table(output / _TABLE, table)


def explain(checkpoint: AnyCheckpoint, series: Matrix) -> Explanation:
    """Explain predictions for series as read, (cases, channels * length); of an ensemble, its networks' mean.

    Raises DataError for a multilabel network.
    """
    if checkpoint.task == "multilabel":
        raise DataError("a multilabel network predicts no single class that a series could speak for")
    predicted = Predictor(checkpoint).predicted(series)
    parts = [_added(one, series, torch.from_numpy(predicted)) for one in networks(checkpoint)]
    contributions, recurrent = (torch.stack(part).mean(dim=0).numpy() for part in zip(*parts, strict=True))
    return Explanation(predicted, contributions, recurrent)


@torch.inference_mode()
def _added(checkpoint: Checkpoint, series: Matrix, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Return what is added to the calibrated logits of the given classes, (cases,): by the convolutions at
    each time step, (cases, length), and by the recurrent block, (cases,).
    """
    model = checkpoint.build_model()
    scaled = torch.from_numpy(checkpoint.scaled(series))
    hidden = model.recurrent(scaled)
    by_channel = torch.unflatten(scaled, 1, (checkpoint.channels, -1))
    features = model.convolutional.layers(by_channel)  # (cases, filters, length)
    weights = class_logits(checkpoint.task, model.linear.weight.T).T  # (classes, features)
    weights = (weights - weights.mean(dim=0))[classes] / checkpoint.temperature
    of_hidden, of_features = weights[:, : hidden.shape[1]], weights[:, hidden.shape[1] :]
    contributions = torch.einsum("cf,cft->ct", of_features, features) / features.shape[2]
    return contributions, (of_hidden * hidden).sum(dim=1)
