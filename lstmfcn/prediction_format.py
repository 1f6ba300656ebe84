"""How a row of predictions is written: which columns, which identifiers before them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from lstmfcn.errors import DataError
from lstmfcn.identifiers import NO_IDENTIFIERS, Identifiers

PredictionColumn: TypeAlias = Literal["label", "probabilities"]

REJECTS_SUFFIX = ".rejects.csv"
"""Suffix of the file that lists an input's bad rows."""


@dataclass(frozen=True, slots=True)
class PredictionFormat:
    """What stands in a line of output."""

    columns: tuple[PredictionColumn, ...] | None = None
    """Columns that are written; None for those that are usual for input with a header, or without."""
    identifiers: Identifiers = NO_IDENTIFIERS
    """Input columns that are copied to the output, before the prediction."""
    join_input: bool = False
    """Whether the whole input line is copied instead."""

    def take_identifiers(self, block: bytes) -> tuple[bytes, list[bytes] | None]:
        """Return whole lines without identifiers, and what the output of each begins with, if anything."""
        if not self.identifiers.positions and not self.join_input:
            return block, None
        kept = [line.removesuffix(b"\r") for line in block.removesuffix(b"\n").split(b"\n")]
        if not self.identifiers.positions:
            return block, kept
        cut = [self.identifiers.cut(line) for line in kept]
        series = b"".join([rest + b"\n" for _, rest in cut])
        return series, kept if self.join_input else [identifiers for identifiers, _ in cut]


def usual_columns(*, with_header: bool) -> tuple[PredictionColumn, ...]:
    """Return the columns for input with a header, or without, where no others are asked for."""
    return ("label", "probabilities") if with_header else ("label",)


def parse_columns(text: str, name: str = "--columns") -> tuple[PredictionColumn, ...]:
    """Read `label`, `probabilities` or `label,probabilities`. Raises DataError for anything else."""
    choices: dict[str, tuple[PredictionColumn, ...]] = {
        "label": ("label",),
        "probabilities": ("probabilities",),
        "label,probabilities": ("label", "probabilities"),
    }
    if text not in choices:
        raise DataError(f"{name} is {text!r}; it can be label, probabilities or label,probabilities")
    return choices[text]
