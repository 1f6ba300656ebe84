from lstmfcn.history import epoch_line
from lstmfcn.training import Epoch


def test_an_epoch_is_logged_in_fixed_point() -> None:
    epoch = Epoch(3, {"train_loss": 0.0000123456, "train_accuracy": 1.0}, None)

    assert epoch_line(epoch) == "epoch: 3 train_loss: 0.00001235 train_accuracy: 1.00000000"
