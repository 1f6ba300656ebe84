"""The history of a training run: a log line for each epoch, and a table of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lstmfcn import storage
from lstmfcn.storage import Location
from lstmfcn.training import Epoch

METRICS = "metrics.csv"


def epoch_line(epoch: Epoch) -> str:
    """Return an epoch in the reference product's log format, with fixed-point numbers that its users' regular
    expressions match.
    """
    values = [f"{name}: {value:.8f}" for name, value in epoch.metrics.items()]
    return " ".join([f"epoch: {epoch.number}", *values])


def closing_lines(metrics: Mapping[str, float]) -> str:
    """Return the kept epoch's metrics, a line for each, under the names that the reference product ends its
    log with.
    """
    return "\n".join(
        f"{name.replace('_', ':').replace('accuracy', 'acc')} {value:.8f}" for name, value in metrics.items()
    )


def write_metrics(output: Location, epochs: Sequence[Mapping[str, float]]) -> None:
    """Write metrics.csv: a row for each epoch, with its metrics and its seconds."""
    rows = [{"epoch": number, **epoch} for number, epoch in enumerate(epochs, 1)]
    storage.write_table(output / METRICS, rows)
