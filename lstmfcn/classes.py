"""The classes of a data set: their order, and which labels stand for them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lstmfcn.cells import is_number
from lstmfcn.errors import DataError


class ClassLabels:
    """The classes of a training set in their order, each spelt as the training file first spells it.

    If every label is a number, the order is numeric, and `1` and `1.0` are one class.
    Otherwise it is alphabetical.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._numeric = all(_number(name) is not None for name in self.names)
        self._positions = {self._key(name): position for position, name in enumerate(self.names)}

    @classmethod
    def of(cls, labels: Sequence[str]) -> Self:
        """Return the classes that occur among the labels."""
        distinct = list(dict.fromkeys(labels))
        numbers = [number for label in distinct if (number := _number(label)) is not None]
        if len(numbers) < len(distinct):
            return cls(sorted(distinct))
        first_spelling: dict[Decimal, str] = {}
        for number, label in zip(numbers, distinct, strict=True):
            first_spelling.setdefault(number, label)
        return cls([first_spelling[number] for number in sorted(first_spelling)])

    def __len__(self) -> int:
        return len(self.names)

    def __str__(self) -> str:
        return ", ".join(self.names[:20]) + (", ..." if len(self) > 20 else "")

    def positions(self, labels: Sequence[str], source: str, column: int = 1) -> NDArray[np.int64]:
        """Return the position of each label's class in the class order. Raises DataError for a label of no
        class, which says that the labels come from this source and column (from 1).
        """
        if unknown := self.unknown(labels):
            where = f"{source}: row {labels.index(unknown[0]) + 1}, column {column}"
            raise DataError(f"{where}: label {unknown[0]!r} is none of the classes {self}")
        return np.array([self._positions[self._key(label)] for label in labels], np.int64)

    def spelt(self, label: str) -> str:
        """Return the label as its class is spelt, or as it is if it is of no class."""
        position = self._positions.get(self._key(label))
        return label if position is None else self.names[position]

    def unknown(self, labels: Sequence[str]) -> list[str]:
        """Return the labels of no class, each spelling once, in the order in which they come."""
        return [label for label in dict.fromkeys(labels) if self._key(label) not in self._positions]

    def _key(self, label: str) -> Decimal | str:
        number = _number(label) if self._numeric else None
        return label if number is None else number


def _number(label: str) -> Decimal | None:
    """Return the number that a label stands for, or None; a hash such as 1e99999999999999999999 has none."""
    try:
        return Decimal(label) if is_number(label) else None
    except InvalidOperation:
        return None
