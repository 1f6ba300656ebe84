"""Pictures as PNG bytes, drawn without matplotlib's global state, so that no display is needed."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

_NAMES_SHOWN = 100
"""Most class names on an axis; more can't be read, and take long to draw."""
_CELLS_WITH_NUMBERS = 20
"""Most classes of a confusion matrix with numbers in its cells; more would not fit."""
_LETTERS_SIDE_BY_SIDE = 24
"""Most letters of class names that stand side by side on the axis of a small confusion matrix."""
_LETTERS_OF_A_TITLE = 100
_CHANNELS_SHOWN = 12
_DPI = 120


def learning_curve(epochs: Sequence[Mapping[str, float]], best_epoch: int) -> bytes:
    """Draw loss and accuracy by epoch, training beside validation, with the kept epoch marked."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    numbers = range(1, len(epochs) + 1)
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for channel, colour in (("train", "tab:blue"), ("valid", "tab:orange")):
            name = f"{channel}_{metric}"
            if name in epochs[0]:
                values = [epoch[name] for epoch in epochs]
                marker = "o" if len(epochs) == 1 else None
                axes.plot(numbers, values, label=name, color=colour, linewidth=1.5, marker=marker)
        axes.axvline(best_epoch, color="grey", linestyle="--", linewidth=1, label=f"kept: epoch {best_epoch}")
        axes.set_xlabel("epoch")
        axes.set_ylabel("cross-entropy (nats)" if metric == "loss" else "accuracy")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    return _png(figure)


def confusion_matrix(
    counts: NDArray[np.int64], true_names: Sequence[str], predicted_names: Sequence[str]
) -> bytes:
    """Draw counts, (true class, predicted class), coloured by their share of the true class."""
    size = min(14.0, max(4.0, 1.5 + 0.45 * len(true_names)))
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    true, predicted = ([_shortened(name, 16) for name in names] for names in (true_names, predicted_names))
    axes.set_xlabel("predicted label")
    axes.set_ylabel("true label")
    axes.set_xticks([])
    axes.set_yticks([])
    if len(predicted) <= _NAMES_SHOWN:
        rotation = 90 if len(predicted) > 6 or sum(map(len, predicted)) > _LETTERS_SIDE_BY_SIDE else 0
        axes.set_xticks(range(len(predicted)), predicted, rotation=rotation, parse_math=False)
    if len(true) <= _NAMES_SHOWN:
        axes.set_yticks(range(len(true)), true, parse_math=False)
    if len(true) <= _CELLS_WITH_NUMBERS:
        for row, column in np.ndindex(counts.shape):
            colour = "white" if shares[row, column] > 0.72 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour)
    return _png(figure)


def contributions(values: NDArray[np.float32], shares: NDArray[np.float32], title: str) -> bytes:
    """Draw a series, (channels, length), coloured by how much each time step speaks for a class, (length,):
    red for it, blue against it. Each of the first _CHANNELS_SHOWN channels has a panel.
    """
    if len(values) > _CHANNELS_SHOWN:
        title += f" (channels 1 to {_CHANNELS_SHOWN} of {len(values)})"
        values = values[:_CHANNELS_SHOWN]
    figure = Figure(figsize=(10, 2 + 1.5 * len(values)), layout="constrained")
    panels = figure.subplots(len(values), sharex=True, squeeze=False)[:, 0]
    steps = np.arange(1, len(shares) + 1)
    most = float(np.abs(shares).max()) or 1.0
    for number, (axes, channel) in enumerate(zip(panels, values, strict=True), 1):
        points = np.stack([steps, channel], axis=1)
        segments = np.stack([points[:-1], points[1:]], axis=1)
        axes.plot(steps, channel, color="0.55", linewidth=4)
        line = LineCollection(list(segments), cmap="coolwarm", norm=Normalize(-most, most), linewidth=2.5)
        line.set_array((shares[:-1] + shares[1:]) / 2)
        axes.add_collection(line)
        axes.margins(x=0.01)
        axes.grid(alpha=0.3)
        axes.set_ylabel(f"channel {number}" if len(values) > 1 else "value")
    figure.colorbar(line, ax=panels, label="contribution to the logit")
    panels[0].set_title(_shortened(title, _LETTERS_OF_A_TITLE), fontsize=10, parse_math=False)
    panels[-1].set_xlabel("time step")
    return _png(figure)


def _shortened(text: str, most: int) -> str:
    """Return a text of at most so many letters, with both ends of a longer one."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-((most - 1) // 2) :]}"


def _png(figure: Figure) -> bytes:
    picture = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box is drawn in its place
        figure.savefig(picture, format="png", dpi=_DPI)
    return picture.getvalue()
