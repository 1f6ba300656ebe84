"""A labelled channel (one CSV file, or a directory of them) as arrays to train on or to score against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lstmfcn.errors import DataError
from lstmfcn.series import LabelledSeries, Matrix, is_number, parse_labelled
from lstmfcn.storage import Location, csv_files, read_bytes


class ClassLabels:
    """The classes of a training set in their order, each spelt as the training file first spells it.

    Numeric order when every label is a number, else alphabetical.
    Between numbers, `1` and `1.0` are one class.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._numeric = all(is_number(name) for name in self.names)
        self._positions = {self._key(name): position for position, name in enumerate(self.names)}

    @classmethod
    def of(cls, labels: Sequence[str]) -> Self:
        """The classes that occur among the labels."""
        distinct = list(dict.fromkeys(labels))
        if all(is_number(label) for label in distinct):
            first_spelling: dict[Decimal, str] = {}
            for label in distinct:
                first_spelling.setdefault(Decimal(label), label)
            return cls([first_spelling[number] for number in sorted(first_spelling)])
        return cls(sorted(distinct))

    def __len__(self) -> int:
        return len(self.names)

    def __str__(self) -> str:
        return ", ".join(self.names[:20]) + (", ..." if len(self) > 20 else "")

    def positions(self, labels: Sequence[str], source: str) -> NDArray[np.int64]:
        """The position of each label in the class order. Raises DataError for a label of no class."""
        try:
            return np.array([self._positions[self._key(label)] for label in labels], np.int64)
        except KeyError:
            pass
        for row, label in enumerate(labels, 1):
            if self._key(label) not in self._positions:
                raise DataError(
                    f"{source}: row {row}, column 1: label {label!r} is none of the classes {self}"
                )
        raise AssertionError("one of the labels is unknown")

    def unknown(self, labels: Sequence[str]) -> list[str]:
        """The labels of no class, each once, as first spelt."""
        return [label for label in dict.fromkeys(labels) if self._key(label) not in self._positions]

    def _key(self, label: str) -> Decimal | str:
        return Decimal(label) if self._numeric and is_number(label) else label


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled series, ready to train on."""

    series: Matrix
    """(cases, timepoints), as read: not scaled."""
    targets: NDArray[np.int64]
    """(cases,): the position of each series' class in `classes`."""
    classes: ClassLabels

    def __len__(self) -> int:
        return len(self.series)

    def __str__(self) -> str:
        return f"{len(self):,} series of length {self.length} in {len(self.classes)} classes"

    @property
    def length(self) -> int:
        """Values in each series."""
        return int(self.series.shape[1])

    def split(self, share: float, seed: int) -> tuple[Dataset, Dataset]:
        """The rest, and a held-out share of each class: at least one series of every class that has two.

        Raises DataError when no class has two.
        """
        random = np.random.default_rng(seed)
        held_out = np.zeros(len(self), bool)
        for position in range(len(self.classes)):
            cases = random.permutation(np.flatnonzero(self.targets == position))
            if len(cases) > 1:
                held_out[cases[: max(1, round(share * len(cases)))]] = True
        if not held_out.any():
            raise DataError(
                "no class of the training data has two series, so none can be held out to validate"
            )
        return self._where(~held_out), self._where(held_out)

    def _where(self, chosen: NDArray[np.bool_]) -> Dataset:
        return Dataset(self.series[chosen], self.targets[chosen], self.classes)


def read_training(path: Location) -> Dataset:
    """The training channel. Raises DataError, also when it holds a single class."""
    files = _read_channel(path, None)
    classes = ClassLabels.of([label for _, file in files for label in file.labels])
    if len(classes) < 2:
        raise DataError(
            f"{path} holds only the class {classes.names[0]!r}; training needs at least two classes"
        )
    return _dataset(files, classes)


def read_further(path: Location, classes: ClassLabels, length: int, *, new_classes: bool) -> Dataset:
    """The training channel for a network that knows classes and a length already, to which it adds classes
    or not. Raises DataError.
    """
    files = _read_channel(path, length)
    unknown = classes.unknown([label for _, file in files for label in file.labels])
    if unknown and not new_classes:
        raise DataError(
            f"{path} has the label {unknown[0]!r}, which is none of the checkpoint's classes {classes};"
            " --new-classes adds it"
        )
    return _dataset(files, ClassLabels.of([*classes.names, *unknown]) if unknown else classes)


def read_labelled(path: Location, classes: ClassLabels, length: int) -> Dataset:
    """A channel for a network that knows its classes and length already. Raises DataError."""
    return _dataset(_read_channel(path, length), classes)


def _read_channel(path: Location, length: int | None) -> list[tuple[str, LabelledSeries]]:
    files = []
    for file in csv_files(path):
        labelled = parse_labelled(read_bytes(file), source=str(file), length=length)
        length = labelled.series.shape[1]
        files.append((str(file), labelled))
    return files


def _dataset(files: list[tuple[str, LabelledSeries]], classes: ClassLabels) -> Dataset:
    targets = [classes.positions(file.labels, source) for source, file in files]
    return Dataset(np.concatenate([file.series for _, file in files]), np.concatenate(targets), classes)
