from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from lstmfcn import sweep_plots
from lstmfcn.metrics import Mode
from lstmfcn.search_space import Choice, Range
from lstmfcn.sweep_plots import Bar, Curve


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """What is drawn, in place of the pictures."""
    drawn: list[Figure] = []
    monkeypatch.setattr(sweep_plots, "_svg", lambda figure, _: drawn.append(figure))
    return drawn


def test_a_curve_is_marked_at_its_best_epoch(figures: list[Figure]) -> None:
    sweep_plots.learning_curves([Curve(7, [0.5, 0.9, 0.7], 2)], [Curve(8, [0.1], 0)], "valid_accuracy")

    drawn = {str(line.get_marker()): np.asarray(line.get_xydata()) for line in figures[0].axes[0].lines}
    lines = {marker: points.tolist() for marker, points in drawn.items()}
    assert lines["o"] == [[2, 0.9]]
    assert lines["."] == [[1, 0.1]]  # a single epoch, which a line would not show


@pytest.mark.parametrize(("mode", "last"), [("max", 1.0), ("min", 0.0)])
def test_a_point_crosses_each_axis_at_its_value_and_the_best_lies_on_top(
    mode: Mode, last: float, figures: list[Figure]
) -> None:
    domains: dict[str, Range | Choice] = {
        "lr": Range("log_uniform", 0.001, 0.1),
        "hidden_size": Choice((8, 16, 64)),
    }
    points = [{"lr": 0.01, "hidden_size": 64, "m": 0.5}, {"lr": 0.1, "hidden_size": 8, "m": 0.9}]

    sweep_plots.parallel_coordinates(domains, points, "m", mode)

    axes = figures[0].axes[0]
    (lines,) = [one for one in axes.collections if isinstance(one, LineCollection)]
    heights = [np.asarray(segment)[:, 1].tolist() for segment in lines.get_segments()]
    expected = [[0.5, 1.0, 0.0], [1.0, 0.0, 1.0]]
    np.testing.assert_allclose(heights, expected if mode == "max" else expected[::-1], atol=1e-9)
    assert heights[-1][-1] == last
    worst, best = np.asarray(lines.to_rgba(np.asarray(lines.get_array())))[:, :3].sum(axis=1)
    assert best < worst  # the darkest
    assert [label.get_text() for label in axes.get_xticklabels()] == ["lr\n(log)", "hidden_size", "m"]
    assert {text.get_text() for text in axes.texts} >= {"0.001", "0.01", "0.1", "8", "16", "64"}


def test_a_bar_spans_its_trials_time_on_its_worker_in_its_statuss_colour(figures: list[Figure]) -> None:
    bars = [Bar(2, "failed", "b", 1060.0, 1120.0), Bar(1, "completed", "a", 1000.0, 1600.0)]

    sweep_plots.time_line(bars)

    axes = figures[0].axes[0]
    drawn = {}
    for one in axes.collections:
        assert isinstance(one, PolyCollection)
        (path,) = one.get_paths()
        (colour,) = np.asarray(one.get_facecolor())
        status = str(one.get_label())
        assert tuple(colour) == to_rgba(sweep_plots._STATUS_COLOURS[status])
        drawn[status] = list(path.get_extents().extents)
    assert drawn == {
        "completed": pytest.approx([0, -0.4, 10, 0.4]),
        "failed": pytest.approx([1, 0.6, 2, 1.4]),
    }
    assert axes.get_xlabel() == "minutes since the first trial began"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
