"""The history of a training run: a log line for each epoch, then a table and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lstmfcn import plots, storage
from lstmfcn.storage import Location
from lstmfcn.training import Epoch


def epoch_line(epoch: Epoch) -> str:
    """One epoch in the reference product's log format: fixed point, for its users' regular expressions."""
    values = [f"{name}: {value:.8f}" for name, value in epoch.metrics.items()]
    return " ".join([f"epoch: {epoch.number}", *values])


def closing_lines(metrics: Mapping[str, float]) -> str:
    """The kept epoch's metrics, a line for each, under the names that the reference product ends its log
    with.
    """
    return "\n".join(
        f"{name.replace('_', ':').replace('accuracy', 'acc')} {value:.8f}" for name, value in metrics.items()
    )


def write_metrics(output: Location, epochs: Sequence[Mapping[str, float]]) -> None:
    """Write metrics.csv: a row for each epoch, with its metrics and its seconds."""
    rows = [{"epoch": number, **epoch} for number, epoch in enumerate(epochs, 1)]
    storage.write_table(output / "metrics.csv", rows)


def write_history(output: Location, epochs: Sequence[Mapping[str, float]], best_epoch: int) -> None:
    """Write metrics.csv and learning-curve.png."""
    write_metrics(output, epochs)
    picture = plots.learning_curve(epochs, best_epoch)
    storage.write_bytes(output / "learning-curve.png", picture)
