"""How a row of predictions is written: which columns, which identifiers before them."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from lstmfcn.errors import DataError

PredictionColumn: TypeAlias = Literal["label", "probabilities"]

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
REJECTS_SUFFIX = ".rejects.csv"
"""Of the file that lists an input's bad rows."""


@dataclass(frozen=True, slots=True)
class PredictionFormat:
    """What stands in a line of output."""

    columns: tuple[PredictionColumn, ...] | None = None
    """None for what is usual of input with a header, or without."""
    id_columns: tuple[int, ...] = ()
    """Positions, from 1, of input columns that are no part of the series; copied to the output, ahead."""
    id_names: tuple[str, ...] = ()
    """Names of such columns, of files with a header."""
    join_input: bool = False
    """Whether the whole input line stands ahead instead."""

    def take_identifiers(self, block: bytes, *, begins_file: bool) -> tuple[bytes, list[bytes] | None]:
        """Whole lines -> them without identifiers, and what the output of each begins with, if anything."""
        if not self.id_columns and not self.join_input:
            return block, None
        lines = block.removesuffix(b"\n").split(b"\n")
        if begins_file:
            lines[0] = lines[0].removeprefix(BYTE_ORDER_MARK)
        kept = [line.removesuffix(b"\r") for line in lines]
        if not self.id_columns:
            return block, kept
        cut = [self._cut(line) for line in kept]
        series = b"".join([rest + b"\n" for _, rest in cut])
        return series, kept if self.join_input else [identifiers for identifiers, _ in cut]

    def _cut(self, line: bytes) -> tuple[bytes, bytes]:
        """Identifiers and the rest."""
        if b'"' in line:
            try:
                cells = [csv_cell(cell) for cell in next(csv.reader([line.decode(errors="surrogateescape")]))]
            except csv.Error:
                return b"", line  # the parser says what is wrong with it
        else:
            cells = line.split(b",")
        chosen = {position - 1 for position in self.id_columns}
        identifiers = [cells[index] for index in sorted(chosen) if index < len(cells)]
        rest = [cell for index, cell in enumerate(cells) if index not in chosen]
        if len(identifiers) < len(chosen):  # so that the row is one column short for each that it lacks
            del rest[len(identifiers) - len(chosen) :]
        return b",".join(identifiers), b",".join(rest)

    def reason_with_the_files_columns(self, reason: str) -> str:
        """A parser's reason, which counts columns without identifiers, with the numbers in the file."""
        if not self.id_columns:
            return reason

        def position_in_file(match: re.Match[str]) -> str:
            position = int(match[1])
            for id_column in sorted(set(self.id_columns)):
                position += id_column <= position
            return f", column {position}"

        def counts_in_file(match: re.Match[str]) -> str:
            found, expected = (int(match[group]) + len(set(self.id_columns)) for group in (1, 3))
            return f" has {found} columns where {match[2] or ''}{expected}"

        reason = re.sub(r"^, column (\d+)", position_in_file, reason)
        return re.sub(r"^ has (\d+) columns? where (row 1 has )?(\d+)", counts_in_file, reason)


def usual_columns(*, with_header: bool) -> tuple[PredictionColumn, ...]:
    """What is predicted of input with a header, or without, unless something else is asked for."""
    return ("label", "probabilities") if with_header else ("label",)


def csv_cell(cell: str) -> bytes:
    """A cell quoted where CSV needs it."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([cell])
    return text.getvalue().encode(errors="surrogateescape")


def parse_columns(text: str, name: str = "--columns") -> tuple[PredictionColumn, ...]:
    """`label`, `probabilities` or `label,probabilities`. Raises DataError for anything else."""
    choices: dict[str, tuple[PredictionColumn, ...]] = {
        "label": ("label",),
        "probabilities": ("probabilities",),
        "label,probabilities": ("label", "probabilities"),
    }
    if text not in choices:
        raise DataError(f"{name} is {text!r}; it can be label, probabilities or label,probabilities")
    return choices[text]


def parse_id_columns(text: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Positions from 1, such as `1,2`, or names of a header, such as `patient,visit`, which are no numbers.

    Raises DataError for anything else.
    """
    chosen = next(csv.reader([text])) if text else []
    if all(re.fullmatch("[1-9][0-9]{0,5}", one) for one in chosen):
        return tuple(map(int, chosen)), ()
    names = tuple(one.strip() for one in chosen)
    if not all(names) or any(re.fullmatch("[0-9.+-]+", name) for name in names):
        raise DataError(
            f"--id-columns is {text!r}; it must be positions from 1, such as 1,2, or names in a header,"
            " such as patient,visit"
        )
    return (), tuple(dict.fromkeys(names))
