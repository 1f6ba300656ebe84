"""Columns of a file that are no part of the series and no labels, such as a patient's number."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from typing import Self

from lstmfcn.cells import csv_cell, split_line
from lstmfcn.errors import DataError, counted, shown

_UNNAMED = re.compile('(?:^|(?<=,)) *"" *(?=,|$)')
"""How a column without a name is named."""


@dataclass(frozen=True, slots=True)
class Identifiers:
    """The columns that are no part of the series, by position or by name."""

    positions: tuple[int, ...] = ()
    """Positions of the columns, from 1, in order, each once."""
    names: tuple[str, ...] = ()
    """Names of the columns in a header; if they are given, there are no positions."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read positions from 1, such as `1,2`, or names in a header, such as `patient,visit`, no numbers;
        `""` stands for a column without a name.

        Raises DataError for anything else.
        """
        if not text:
            return cls()
        try:
            chosen = next(csv.reader([text]))
        except csv.Error:
            chosen = []
        if chosen and all(re.fullmatch("[1-9][0-9]{0,5}", one) for one in chosen):
            return cls(positions=tuple(sorted(set(map(int, chosen)))))
        names = tuple(one.strip() for one in chosen)
        is_wrong = not names or names.count("") != len(_UNNAMED.findall(text))
        if is_wrong or any(re.fullmatch("[0-9.+-]+", name) for name in names):
            raise DataError(
                f"--id-columns is {text!r}; it must be positions from 1, such as 1,2, or names in a header,"
                " such as patient,visit"
            )
        return cls(names=names)

    def located(self, header: list[str] | None, source: str) -> Self:
        """Return the identifiers by position in a file with this header, or without one. Raises DataError."""
        if header is None:
            if self.names:
                named = ",".join(name or '""' for name in self.names)
                raise DataError(f"{source} has no header, and so none of the --id-columns {named}")
            return self
        if self.positions:
            raise DataError(
                f"{source}: row 1 is a header; --id-columns must name its columns, not count them"
            )
        cells = [cell.strip() for cell in header]
        return type(self)(tuple(sorted({_position(name, cells, source) for name in self.names})))

    def refuse_beyond(self, first_line: bytes, source: str) -> None:
        """Raise DataError for a position beyond the first row; if that isn't CSV, leave it to the parser."""
        try:
            num_columns = len(split_line(first_line.removesuffix(b"\n"), ""))
        except DataError:
            return
        for position in self.positions:
            if position > num_columns:
                raise DataError(
                    f"{source}: row 1 has {counted(num_columns, 'column')}; --id-columns names column"
                    f" {position}"
                )

    def refuse_after_values(self, source: str, *, labelled: bool) -> None:
        """Raise DataError unless all positions come before the values of a row, whatever its length."""
        for position in self.positions:
            if position > len(self.positions) + labelled:
                raise DataError(
                    f"{source}: column {position}, which --id-columns names, comes after values; where rows"
                    " may have any length, identifiers stand before them"
                )

    def cut(self, line: bytes) -> tuple[bytes, bytes]:
        """Split a line into its identifiers and the rest; if it isn't CSV, all is rest, for the parser."""
        chosen = [position - 1 for position in self.positions]
        try:
            split = split_line(line, "")
        except DataError:
            return b"," * (len(chosen) - 1), line
        cells = [csv_cell(cell) for cell in split] if b'"' in line else line.split(b",")
        identifiers = [cells[index] if index < len(cells) else b"" for index in chosen]
        rest = [cell for index, cell in enumerate(cells) if index not in chosen]
        if lacking := sum(index >= len(cells) for index in chosen):  # else a short row might look complete
            del rest[-lacking:]
        # One empty cell, if it is all that is left, would look like a blank line.
        return b",".join(identifiers), b",".join(rest) if rest != [b""] else b'""'

    def without(self, lines: bytes) -> bytes:
        """Return the lines without their identifiers."""
        if not self.positions or not lines:
            return lines
        kept = lines.removesuffix(b"\n").split(b"\n")
        return b"".join([self.cut(line.removesuffix(b"\r"))[1] + b"\n" for line in kept])


NO_IDENTIFIERS = Identifiers()


def _position(name: str, names: list[str], source: str) -> int:
    """Return the position of a column in a header, from 1. Raises DataError unless it is there once."""
    if (count := names.count(name)) != 1:
        found = "no column" if count == 0 else f"{count} columns"
        raise DataError(f"{source}: row 1 is a header with {found} {shown(name)}, which --id-columns names")
    return names.index(name) + 1
