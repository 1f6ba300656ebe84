import numpy as np
import pytest
from matplotlib.figure import Figure

from lstmfcn import plots
from tests.conftest import PNG


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here they are rendered, coarsely."""
    monkeypatch.setattr(plots, "_DPI", 20)


@pytest.mark.parametrize("num_classes", [8, 31])
def test_a_confusion_matrix_of_any_size_is_drawn(num_classes: int) -> None:
    names = [rf"class $\{number}$" for number in range(num_classes)]

    assert plots.confusion_matrix(np.eye(num_classes, dtype=np.int64), names, names).startswith(PNG)


@pytest.mark.parametrize(("channels", "shares"), [(1, [0.0, 0.0]), (1, [-1.0, 0.5]), (3, [0.25, 0.5])])
def test_contributions_of_any_sign_are_drawn_beside_some_channels(channels: int, shares: list[float]) -> None:
    values = np.array([[1.0, 2.0]] * channels, np.float32)

    assert plots.contributions(values, np.array(shares, np.float32), r"row $\1$").startswith(PNG)


def test_of_many_channels_twelve_have_a_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(plots, "_png", drawn.append)

    plots.contributions(np.ones((20, 2), np.float32), np.ones(2, np.float32), "row 1")

    [figure] = drawn
    *panels, _ = figure.axes  # the last one is the colours' scale
    assert [panel.get_ylabel() for panel in panels] == [f"channel {number}" for number in range(1, 13)]
    assert panels[0].get_title() == "row 1 (channels 1 to 12 of 20)"


@pytest.mark.parametrize("num_epochs", [1, 5])
def test_a_learning_curve_of_any_length_is_drawn(num_epochs: int) -> None:
    epochs = [{"train_loss": 1.0, "train_accuracy": 0.5}] * num_epochs

    assert plots.learning_curve(epochs, best_epoch=1).startswith(PNG)


def test_a_long_name_keeps_both_ends() -> None:
    assert plots._shortened("WALKING_DOWNSTAIRS", 16) == "WALKING_…NSTAIRS"
    assert plots._shortened("WALKING_UPSTAIRS", 16) == "WALKING_UPSTAIRS"


def test_labels_in_letters_that_the_font_lacks_are_drawn_without_a_warning() -> None:
    assert plots.confusion_matrix(np.eye(2, dtype=np.int64), ["\u65e5", "\u672c"], ["a", "b"]).startswith(PNG)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """What is drawn, in place of the pictures."""
    drawn: list[Figure] = []
    monkeypatch.setattr(plots, "_png", drawn.append)
    return drawn


def test_a_confusion_matrix_has_true_classes_as_rows_coloured_by_their_shares(figures: list[Figure]) -> None:
    plots.confusion_matrix(np.array([[3, 1], [0, 8]]), ["a", "b"], ["x", "y"])

    axes = figures[0].axes[0]
    assert {text.get_text(): text.get_position() for text in axes.texts} == {
        "3": (0, 0),
        "1": (1, 0),
        "0": (0, 1),
        "8": (1, 1),
    }
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["x", "y"]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true label", "predicted label")
    assert np.asarray(axes.images[0].get_array()).tolist() == [[0.75, 0.25], [0, 1]]


@pytest.mark.parametrize(("name", "rotation"), [("sit", 0), ("WALKING_UPSTAIRS", 90)])
def test_long_names_stand_upright(name: str, rotation: int, figures: list[Figure]) -> None:
    plots.confusion_matrix(np.eye(3, dtype=np.int64), [name] * 3, [name] * 3)

    [figure] = figures
    axes, _ = figure.axes
    assert [label.get_rotation() for label in axes.get_xticklabels()] == [rotation] * 3


def test_what_speaks_for_a_class_is_red(figures: list[Figure]) -> None:
    plots.contributions(np.ones((1, 3), np.float32), np.array([1, 0.5, -2], np.float32), "row 1")

    (line,) = figures[0].axes[0].collections
    speaking = np.asarray(line.get_array())
    first, second = np.asarray(line.to_rgba(speaking))
    assert speaking.tolist() == [0.75, -0.75]
    assert first[0] > first[2]
    assert second[0] < second[2]


def test_a_learning_curve_shows_each_metric_and_the_kept_epoch(figures: list[Figure]) -> None:
    names = ("train_loss", "valid_loss", "train_accuracy", "valid_accuracy")
    epochs = [{name: place + epoch for place, name in enumerate(names)} for epoch in (0.25, 0.5, 0.75)]

    plots.learning_curve(epochs, best_epoch=2)

    lines = [line for axes in figures[0].axes for line in axes.lines]
    shown = {str(line.get_label()): np.array(line.get_ydata()).tolist() for line in lines}
    assert shown.pop("kept: epoch 2") == [0, 1]
    assert shown == {name: [epoch[name] for epoch in epochs] for name in names}
    assert [line.get_xdata() for line in lines if str(line.get_label()).startswith("kept")] == [[2, 2]] * 2
