import numpy as np
import pytest
from matplotlib.figure import Figure

from lstmfcn import plots
from tests.conftest import PNG


@pytest.fixture(autouse=True)
def undrawn() -> None:
    """Here they are rendered."""


@pytest.mark.parametrize("num_classes", [2, 8, 31])
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


def test_labels_in_letters_that_the_font_lacks_are_drawn_without_a_warning() -> None:
    assert plots.confusion_matrix(np.eye(2, dtype=np.int64), ["\u65e5", "\u672c"], ["a", "b"]).startswith(PNG)
