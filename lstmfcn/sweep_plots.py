"""Pictures of a sweep as SVG that stands inside an HTML page, drawn without matplotlib's global state.

The same values give the same text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from lstmfcn.metrics import Mode
from lstmfcn.search_space import Choice, Range

# Of Okabe and Ito's palette, which colour-blind readers can tell apart (jfly.uni-koeln.de/color).
_STATUS_COLOURS = {
    "completed": "#009E73",
    "stopped early": "#0072B2",
    "interrupted": "#E69F00",
    "running": "0.6",
    "failed": "#D55E00",
}
_COLOURS = [f"C{number}" for number in range(10) if number != 7] + ["black"]
"""Matplotlib's own, but for its gray, in which other curves are drawn."""
_WIDTH = 11.5
"""Usual width of a picture, in inches."""
_MOST_POINTS_OF_A_CURVE = 300
_MOST_TICKS = 10
_MOST_NAMED_WORKERS = 60
_MOST_OUTLINED_BARS = 200
_COMMENTS = re.compile(r"<!--.*?-->\s*", re.DOTALL)
_IDS = re.compile(r'(\bid="|href="#|url\(#)')


@dataclass(frozen=True, slots=True)
class Curve:
    """A metric of one trial: its value after each epoch, from the first."""

    number: int
    values: Sequence[float]
    best_epoch: int
    """Number of the best epoch, from 1; 0 for none."""


@dataclass(frozen=True, slots=True)
class Bar:
    """When a trial ran, in seconds, and on which worker."""

    number: int
    status: str
    worker: str
    started: float
    ended: float


def learning_curves(highlighted: Sequence[Curve], others: Sequence[Curve], metric: str) -> str:
    """Draw the metric by epoch, highlighted curves in colour and with their best epoch marked."""
    figure = Figure(figsize=(_WIDTH, 4.8), layout="constrained")
    axes = figure.subplots()
    for curve in others:
        _draw_curve(axes, curve, "0.75", 0.8)
    if others:
        axes.plot([], [], color="0.75", linewidth=0.8, label="others")
    for place, curve in reversed(list(enumerate(highlighted))):  # the best last, on top
        colour = _COLOURS[place]
        _draw_curve(axes, curve, colour, 1.5)
        if curve.best_epoch:
            best = curve.values[curve.best_epoch - 1]
            axes.plot(curve.best_epoch, best, "o", color=colour, markersize=4)
        axes.plot([], [], color=colour, label=f"trial {curve.number}")
    if metric.endswith("loss"):
        axes.set_yscale("log")
    axes.set_xlabel("epoch")
    axes.set_ylabel(metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    return _svg(figure, "curves")


def _draw_curve(axes: Axes, curve: Curve, colour: str, width: float) -> None:
    num_epochs = len(curve.values)
    drawn = np.unique(np.linspace(0, num_epochs - 1, min(num_epochs, _MOST_POINTS_OF_A_CURVE), dtype=int))
    marker = "." if num_epochs == 1 else None
    axes.plot(drawn + 1, np.asarray(curve.values)[drawn], color=colour, linewidth=width, marker=marker)


@dataclass(frozen=True, slots=True)
class _Scale:
    """A vertical axis: where trials cross it, from 0 at its foot to 1 at its top, and its tick labels."""

    name: str
    places: NDArray[np.float64]
    ticks: Mapping[float, str]

    @classmethod
    def of(cls, name: str, domain: Range | Choice, values: Sequence[float]) -> Self:
        """Return an axis that spans a domain and is crossed at these values."""
        match domain:
            case Choice(choices):
                last = max(1, len(choices) - 1)
                places = [choices.index(value) / last for value in values]
                shown = range(0, len(choices), -(-len(choices) // _MOST_TICKS))
                return cls(name, np.array(places), {index / last: f"{choices[index]:.4g}" for index in shown})
            case Range("log_uniform", low, high):
                return cls._between(f"{name} (log)", values, np.geomspace(low, high, 5), np.log)
            case Range("integer", low, high):
                marks = np.unique(np.linspace(low, high, 5).round())
                return cls._between(name, values, marks)
            case Range(_, low, high):
                return cls._between(name, values, np.linspace(low, high, 5))

    @classmethod
    def _between(
        cls, name: str, values: ArrayLike, marks: NDArray[np.float64], transform: np.ufunc = np.positive
    ) -> Self:
        """Return an axis from the first of its marks to the last."""
        low, *_, high = transform(marks)
        if low == high:
            return cls(name, np.full(len(np.asarray(values)), 0.5), {0.5: f"{marks[0]:.4g}"})
        places = (transform(np.asarray(values, float)) - low) / (high - low)
        heights = (transform(marks) - low) / (high - low)
        texts = [f"{mark:.3g}" if mark % 1 else f"{mark:.0f}" for mark in marks]
        return cls(name, places, {float(at): text for at, text in zip(heights, texts, strict=True)})


def parallel_coordinates(
    domains: Mapping[str, Range | Choice],
    points: Sequence[Mapping[str, float]],
    metric: str,
    mode: Mode,
) -> str:
    """Draw each point as a line across one axis per domain and, at the right, one for the metric.

    A point maps each name, the metric's included, to its value. The better the point, the darker its line.
    """
    results = [point[metric] for point in points]
    scales = [_Scale.of(name, domain, [point[name] for point in points]) for name, domain in domains.items()]
    scales.append(_Scale.of(metric, Range("uniform", min(results), max(results)), results))
    figure = Figure(figsize=(max(_WIDTH, 1.15 * len(scales)), 4.8), layout="constrained")
    axes = figure.subplots()
    from_worst = np.argsort(results, kind="stable")[:: 1 if mode == "max" else -1]
    heights = np.stack([scale.places for scale in scales], axis=1)[from_worst]
    lines = LineCollection(
        [np.column_stack([np.arange(len(scales)), height]) for height in heights],
        array=np.array(results)[from_worst],
        cmap=colormaps["viridis_r" if mode == "max" else "viridis"],
        norm=Normalize(min(results), max(results)),
        linewidths=1.6 if len(points) <= 100 else 0.7,
        alpha=0.8,
    )
    axes.add_collection(lines)
    figure.colorbar(lines, ax=axes, label=metric, fraction=0.03, pad=0.01)
    for x, scale in enumerate(scales):
        _draw_scale(axes, x, scale)
    axes.set_xlim(-0.5, len(scales) - 0.9)
    axes.set_ylim(-0.04, 1.04)
    axes.set_yticks([])
    axes.set_xticks(range(len(scales)), [scale.name.replace(" ", "\n") for scale in scales])
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0, labelsize=9)
    axes.spines[:].set_visible(False)
    return _svg(figure, "coordinates")


def _draw_scale(axes: Axes, x: int, scale: _Scale) -> None:
    axes.plot([x, x], [0, 1], color="black", linewidth=0.8)
    behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
    for height, text in scale.ticks.items():
        axes.plot([x - 0.04, x], [height, height], color="black", linewidth=0.8)
        axes.text(x - 0.07, height, text, ha="right", va="center", fontsize=8, bbox=behind, zorder=3)


def importances(shares: Mapping[str, float]) -> str:
    """Draw a bar for each name, the first on top."""
    figure = Figure(figsize=(8, 0.8 + 0.32 * len(shares)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(list(shares), list(shares.values()), height=0.7)
    axes.invert_yaxis()
    axes.bar_label(bars, fmt="{:.2f}", padding=3, fontsize=9)
    axes.set_xlim(0, 1.12 * max(shares.values()))
    axes.set_xlabel("relative importance")
    axes.spines[["top", "right"]].set_visible(False)
    return _svg(figure, "importances")


def time_line(bars: Sequence[Bar]) -> str:
    """Draw a row for each worker, in the order in which they began, with a bar for each of its trials."""
    bars, unit = _since_first(bars)
    rows = {worker: row for row, worker in enumerate(dict.fromkeys(bar.worker for bar in bars))}
    are_named = len(rows) <= _MOST_NAMED_WORKERS
    row_inches = 0.3 if are_named else 0.06
    figure = Figure(figsize=(_WIDTH, 1.2 + row_inches * max(2, len(rows))), layout="constrained")
    axes = figure.subplots()
    end = max(bar.ended for bar in bars) or 1e-3
    _draw_bars(axes, bars, rows, shortest=end / 400)
    if are_named:
        _number_bars(axes, bars, rows, shortest=end / 40)
        shown = [name if len(name) <= 30 else f"…{name[-29:]}" for name in rows]
        axes.set_yticks(range(len(rows)), shown, fontsize=8, parse_math=False)
    else:
        axes.set_yticks([])
        axes.set_ylabel(f"{len(rows)} workers")
    axes.set_xlim(0, 1.01 * end)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(f"{unit} since the first trial began")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper right", ncols=len(_STATUS_COLOURS), frameon=False)
    return _svg(figure, "time-line")


def _since_first(bars: Sequence[Bar]) -> tuple[list[Bar], str]:
    """Return the bars sorted by start, their times in a suitable unit since the first start, and the unit."""
    bars = sorted(bars, key=lambda bar: (bar.started, bar.number))
    start, seconds = bars[0].started, max(bar.ended for bar in bars) - bars[0].started
    unit, size = (
        ("seconds", 1) if seconds < 300 else ("minutes", 60) if seconds < 3 * 3600 else ("hours", 3600)
    )
    return [
        replace(bar, started=(bar.started - start) / size, ended=(bar.ended - start) / size) for bar in bars
    ], unit


def _draw_bars(axes: Axes, bars: Sequence[Bar], rows: Mapping[str, int], shortest: float) -> None:
    """Draw the bars, each at least as long as `shortest`, so that it can be seen."""
    by_status: dict[str, list[list[tuple[float, float]]]] = {status: [] for status in _STATUS_COLOURS}
    for bar in bars:
        left, right, row = bar.started, max(bar.ended, bar.started + shortest), rows[bar.worker]
        corners = [(left, row - 0.4), (right, row - 0.4), (right, row + 0.4), (left, row + 0.4)]
        by_status[bar.status].append(corners)
    outline = 0.6 if len(bars) <= _MOST_OUTLINED_BARS else 0
    for status, drawn in by_status.items():
        if drawn:
            colour = _STATUS_COLOURS[status]
            axes.add_collection(
                PolyCollection(drawn, facecolor=colour, edgecolor="white", linewidth=outline, label=status)
            )


def _number_bars(axes: Axes, bars: Sequence[Bar], rows: Mapping[str, int], shortest: float) -> None:
    """Write its number on each bar that has room for it."""
    for bar in bars:
        if bar.ended - bar.started > shortest:
            middle = (bar.started + bar.ended) / 2
            axes.text(
                middle, rows[bar.worker], str(bar.number), color="white", fontsize=8, ha="center", va="center"
            )


def _svg(figure: Figure, name: str) -> str:
    """Return the picture as an SVG element; its ids begin with `name`, for a page holds several pictures."""
    document = io.StringIO()
    with rc_context({"svg.hashsalt": name}):
        figure.savefig(document, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    whole = document.getvalue()
    element = whole[whole.index("<svg") :]  # what comes before has no place in a page
    return _IDS.sub(rf"\g<1>{name}-", _COMMENTS.sub("", element))
