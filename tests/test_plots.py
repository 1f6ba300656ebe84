import numpy as np
import pytest

from lstmfcn import plots

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("num_classes", [2, 12, 40])
def test_a_confusion_matrix_of_any_size_is_drawn(num_classes: int) -> None:
    names = [f"class ${number}$" for number in range(num_classes)]

    assert plots.confusion_matrix(np.eye(num_classes, dtype=np.int64), names, names).startswith(PNG)


@pytest.mark.parametrize(
    ("channels", "shares"), [(1, [0.0, 0.0]), (1, [-1.0, 0.5]), (3, [0.25, 0.5]), (20, [0.25, 0.5])]
)
def test_contributions_of_any_sign_are_drawn_beside_any_number_of_channels(
    channels: int, shares: list[float]
) -> None:
    values = np.array([[1.0, 2.0]] * channels, np.float32)

    assert plots.contributions(values, np.array(shares, np.float32), "row $1$").startswith(PNG)


@pytest.mark.parametrize("num_epochs", [1, 5])
def test_a_learning_curve_of_any_length_is_drawn(num_epochs: int) -> None:
    epochs = [{"train_loss": 1.0, "train_accuracy": 0.5}] * num_epochs

    assert plots.learning_curve(epochs, best_epoch=1).startswith(PNG)
