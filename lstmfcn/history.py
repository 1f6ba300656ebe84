"""The history of a training run: a log line for each epoch, then a table and a picture."""

from __future__ import annotations

from lstmfcn import plots, storage
from lstmfcn.storage import Location
from lstmfcn.training import Epoch


def epoch_line(epoch: Epoch) -> str:
    """One epoch in the reference product's log format: fixed point, for its users' regular expressions."""
    values = [f"{name}: {value:.8f}" for name, value in epoch.metrics.items()]
    return " ".join([f"epoch: {epoch.number}", *values])


def write_history(output: Location, epochs: list[Epoch], best_epoch: int) -> None:
    """Write metrics.csv, a row for each epoch, and learning-curve.png."""
    rows = [{"epoch": epoch.number, **epoch.metrics, "seconds": epoch.seconds} for epoch in epochs]
    storage.write_table(output / "metrics.csv", rows)
    picture = plots.learning_curve([epoch.metrics for epoch in epochs], best_epoch)
    storage.write_bytes(output / "learning-curve.png", picture)
