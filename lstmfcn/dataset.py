"""A labelled file, or a folder of them, as arrays to train on or to score against."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lstmfcn.cells import is_missing, is_number
from lstmfcn.classes import ClassLabels
from lstmfcn.errors import DataError, counted
from lstmfcn.identifiers import NO_IDENTIFIERS, Identifiers
from lstmfcn.listing import csv_files
from lstmfcn.series import LabelledSeries, Matrix, parse_labelled
from lstmfcn.storage import Location, location, read_bytes
from lstmfcn.tasks import TaskName, num_outputs
from lstmfcn.treatment import UNTREATED, Treatment

_AS_A_HEADER_SAYS = Treatment(channels=None)


class Known(Protocol):
    """What determines how further data are read: a data set, a checkpoint or a predictor."""

    @property
    def classes(self) -> ClassLabels:
        """The classes in their order."""

    @property
    def length(self) -> int:
        """Values in each channel of a series."""

    @property
    def task(self) -> TaskName:
        """What is predicted of a series."""

    @property
    def treatment(self) -> Treatment:
        """How the values in a row become a series."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled series, ready to train on."""

    series: Matrix
    """(cases, channels * length), channel after channel, as read: not scaled. A padded channel ends with NaN,
    until it is scaled.
    """
    targets: NDArray[np.int64]
    """(cases,): the position of each series' class in `classes`. If the task is multilabel, (cases, labels):
    1 for each label that a series has, else 0.
    """
    classes: ClassLabels
    task: TaskName = "multiclass"
    has_header: bool = False
    """Whether it was read from files with a header."""
    treatment: Treatment = UNTREATED
    """How the values in a row became a series when they were read."""

    def __len__(self) -> int:
        return len(self.series)

    def __str__(self) -> str:
        classes = f"{len(self.classes)} {'labels' if self.task == 'multilabel' else 'classes'}"
        read = f"task {self.task}, {'with' if self.has_header else 'without'} a header"
        if not self.treatment.takes_rows_as_they_are:
            read += f", {self.treatment}"
        channels = "" if self.channels == 1 else f" in {self.channels} channels"
        return f"{len(self):,} series of length {self.length}{channels} in {classes} ({read})"

    @property
    def channels(self) -> int:
        """Channels of a series."""
        return self.treatment.num_channels

    @property
    def num_outputs(self) -> int:
        """Number of outputs of a network that learns these data."""
        return num_outputs(self.task, len(self.classes))

    @property
    def length(self) -> int:
        """Values in each channel of a series."""
        return int(self.series.shape[1]) // self.channels

    def split(self, share: float, seed: int) -> tuple[Dataset, Dataset]:
        """Return the rest, then the held-out series: a share of each class, but at least one series of every
        class that has two. If the task is multilabel, it is a share of all series.

        Raises DataError when no class has two.
        """
        random = np.random.default_rng(seed)
        held_out = np.zeros(len(self), bool)
        groups = self.targets if self.task != "multilabel" else np.zeros(len(self), np.int64)
        for position in range(len(self.classes)):
            cases = random.permutation(np.flatnonzero(groups == position))
            if len(cases) > 1:
                held_out[cases[: max(1, round(share * len(cases)))]] = True
        if not held_out.any():
            raise DataError(
                "no class of the training data has two series, so none can be held out to validate;"
                " add --validation"
            )
        return self.where(~held_out), self.where(held_out)

    def where(self, chosen: NDArray[np.bool_ | np.int64]) -> Dataset:
        """Return some of the cases, chosen by a mask or by their positions."""
        return replace(self, series=self.series[chosen], targets=self.targets[chosen])

    def with_cases_of(self, other: Dataset) -> Dataset:
        """Return these cases followed by those of another data set of the same classes and length."""
        return replace(
            self,
            series=np.concatenate([self.series, other.series]),
            targets=np.concatenate([self.targets, other.targets]),
        )


def refuse_unlike(dataset: Dataset, known: Known) -> None:
    """Raise DataError if a data set has other classes, another task or other series than `known`, by which
    it should have been read.
    """
    treatment = known.treatment
    for name, found, expected in (
        ("task", dataset.task, known.task),
        ("channels", dataset.channels, treatment.num_channels),
        ("length", dataset.length, known.length),
    ):
        if found != expected:
            raise DataError(
                f"{name}: the data has {found} where {expected} is expected; read_labelled reads a file alike"
            )
    if dataset.classes.names != known.classes.names:
        raise DataError(
            f"classes: the data has {dataset.classes} where {known.classes} are expected; read_labelled reads"
            " a file alike"
        )


def digest(*datasets: Dataset) -> str:
    """Return a digest that is the same for the same data."""
    content = hashlib.sha256()
    for dataset in datasets:
        content.update("\n".join(dataset.classes.names).encode())
        content.update(dataset.series.tobytes())
        content.update(dataset.targets.tobytes())
        content.update(str(dataset.channels).encode())
    return content.hexdigest()


def read_training(
    path: Location | str,
    task: TaskName | None = None,
    identifiers: Identifiers = NO_IDENTIFIERS,
    treatment: Treatment = _AS_A_HEADER_SAYS,
) -> Dataset:
    """Read the training files, without identifiers. Without a task, that of a header with a single label
    column is binary, else multiclass. If the treatment's channels are None, they are as many as a header
    names, or one without a header. Where lengths may differ, the network's is that of the longest series.

    Raises DataError, also if all series are of one class or don't suit the task.
    """
    path = location(path)
    files = _read_files(path, None, identifiers, treatment)
    first = files[0]
    channels = first.channels or treatment.num_channels
    treatment = treatment.model_copy(update={"channels": channels})
    _refuse_unequal_channels(first.series.shape[1], channels, path)
    if first.marks is None:
        _refuse_missing_among_numbers(files)
        classes, task = _classes_of_names(files, path, task)
    else:
        classes, task = _classes_of_columns(first.marks.shape[1], path, task)
    return _to_train_on(_dataset(files, classes, task, treatment), path)


def _refuse_unequal_channels(num_values: int, channels: int, path: Location) -> None:
    if num_values % channels or num_values < 2 * channels:
        raise DataError(
            f"{path} has {num_values} values in a row; --channels {channels} takes as many for each channel,"
            " and 2 at least"
        )


def _to_train_on(dataset: Dataset, path: Location) -> Dataset:
    """Return the data set as it is. Raises DataError when it holds a single class."""
    if dataset.task != "multilabel" and len(occurring := np.unique(dataset.targets)) < 2:
        only = dataset.classes.names[occurring[0]]
        raise DataError(f"{path} holds only the class {only!r}; training needs at least two classes")
    return dataset


def read_labelled(path: Location | str, like: Known, identifiers: Identifiers = NO_IDENTIFIERS) -> Dataset:
    """Read labelled files, without identifiers, as `like` was read: for its classes, length, task and
    treatment. Validation data are read like the training set. Raises DataError.
    """
    files = _read_alike(location(path), like, identifiers)
    return _dataset(files, like.classes, like.task, like.treatment)


def _classes_of_names(
    files: list[LabelledSeries], path: Location, task: TaskName | None
) -> tuple[ClassLabels, TaskName]:
    """Return the classes and the task of files without a header. Raises DataError for an unsuitable task."""
    if task == "multilabel":
        raise DataError(
            f"{path} has no header; --task multilabel needs columns y_1, y_2, ... that a header names"
        )
    classes = ClassLabels.of([label for file in files for label in file.labels])
    if task == "binary" and len(classes) > 2:
        raise DataError(f"{path} holds {len(classes)} classes; --task binary takes two")
    return classes, task or "multiclass"


def _refuse_missing_among_numbers(files: list[LabelledSeries]) -> None:
    """Raise DataError for a label such as NA if the others are numbers; among text it may be a class."""
    distinct = {label for file in files for label in file.labels}
    missing = {label for label in distinct if is_missing(label)}
    if not missing or missing == distinct or not all(map(is_number, distinct - missing)):
        return
    file = next(file for file in files if missing & set(file.labels))
    row, label = next((row, label) for row, label in enumerate(file.labels, 1) if label in missing)
    where = f"{file.source}: row {row}, column {file.label_column}"
    raise DataError(f"{where}: the label is missing, found {label!r} among numbers")


def read_further(
    path: Location | str, like: Known, identifiers: Identifiers = NO_IDENTIFIERS, *, new_classes: bool
) -> Dataset:
    """Read training files, without identifiers, for a network that has been trained before. Classes
    that it doesn't know are added to its own with `new_classes`, else they are refused.

    Raises DataError, also when classes are to be added to the two of a binary task.
    """
    if new_classes and like.task == "binary":
        raise DataError(
            f"--new-classes can't add to the checkpoint's classes {like.classes}: its task is binary, and a"
            " network with one output tells two classes apart"
        )
    path = location(path)
    files = _read_alike(path, like, identifiers)
    _refuse_missing_among_numbers(files)
    unknown = _unknown(files, like, path)
    if unknown and not new_classes:
        raise DataError(
            f"{path} has the label {unknown[0]!r}, which is none of the checkpoint's classes {like.classes};"
            " --new-classes adds it"
        )
    classes = like.classes
    if unknown:
        # Beside a new class of text, two spellings of one number would be different classes.
        files = [replace(file, labels=[like.classes.spelt(label) for label in file.labels]) for file in files]
        with_them = [*classes.names, *unknown]
        classes = ClassLabels.of(with_them) if files[0].marks is None else ClassLabels(with_them)
    return _to_train_on(_dataset(files, classes, like.task, like.treatment), path)


def _unknown(files: list[LabelledSeries], like: Known, path: Location) -> list[str]:
    """Return the classes that are new to a network. There are none for a binary one, and none if the label
    columns don't continue its own: `_targets` then refuses the file. Raises DataError.
    """
    if like.task == "binary":
        return []
    classes, marks = like.classes, files[0].marks
    columns = _names_of_columns(len(classes) if marks is None else marks.shape[1])
    are_columns = classes.names == tuple(columns[: len(classes)])
    if marks is not None:
        return columns[len(classes) :] if are_columns else []
    unknown = classes.unknown([label for file in files for label in file.labels])
    if unknown and are_columns:
        raise DataError(
            f"{path} has the label {unknown[0]!r} and no header; the checkpoint learnt its classes"
            f" {classes} from a header, and new ones need columns there"
        )
    return unknown


def _classes_of_columns(
    num_columns: int, path: Location, task: TaskName | None
) -> tuple[ClassLabels, TaskName]:
    """Return the classes and the task of files with a header. Raises DataError for an unsuitable task."""
    is_single = num_columns == 1
    task = task or ("binary" if is_single else "multiclass")
    if task == "binary" and not is_single:
        raise DataError(
            f"{path} has {num_columns} y columns; --task binary takes one, and --task multiclass one for each"
            " class"
        )
    if task != "binary" and is_single:
        raise DataError(
            f"{path} has a single y column, which --task binary takes; --task {task} takes several"
        )
    return ClassLabels(["0", "1"] if is_single else _names_of_columns(num_columns)), task


def _names_of_columns(num_columns: int) -> list[str]:
    return [f"y_{number}" for number in range(1, num_columns + 1)]


def _read_alike(path: Location, like: Known, identifiers: Identifiers) -> list[LabelledSeries]:
    return _read_files(path, like.treatment.num_channels * like.length, identifiers, like.treatment)


def _read_files(
    path: Location, num_values: int | None, identifiers: Identifiers, treatment: Treatment
) -> list[LabelledSeries]:
    files: list[LabelledSeries] = []
    for file in csv_files(path):
        labelled = parse_labelled(
            read_bytes(file),
            source=str(file),
            num_values=num_values,
            identifiers=identifiers,
            treatment=treatment,
        )
        if treatment.channels is None:
            treatment = treatment.model_copy(update={"channels": labelled.channels})
        if not treatment.takes_any_length:
            num_values = labelled.series.shape[1]
        files.append(labelled)
        first = files[0]
        if (labelled.marks is None) != (first.marks is None):
            has = "no header" if labelled.marks is None else "a header"
            raise DataError(f"{file} has {has}, unlike {first.source}; files of one folder are alike in that")
    if num_values is None:
        num_values = max(labelled.series.shape[1] for labelled in files)
        return [replace(one, series=treatment.resized(one.series, num_values)) for one in files]
    return files


def _dataset(
    files: list[LabelledSeries], classes: ClassLabels, task: TaskName, treatment: Treatment
) -> Dataset:
    targets = [_targets(file, classes, task) for file in files]
    return Dataset(
        np.concatenate([file.series for file in files]),
        np.concatenate(targets),
        classes,
        task,
        has_header=files[0].marks is not None,
        treatment=treatment,
    )


def _targets(file: LabelledSeries, classes: ClassLabels, task: TaskName) -> NDArray[np.int64]:
    source, marks = file.source, file.marks
    expected = num_outputs(task, len(classes))
    if marks is None:
        if task == "multilabel":
            raise DataError(f"{source} has no header; {expected} columns y_1, y_2, ... are expected")
        return classes.positions(file.labels, source, file.label_column)
    if marks.shape[1] != expected:
        found = counted(marks.shape[1], "y column")
        verb = "is" if expected == 1 else "are"
        raise DataError(f"{source}: row 1 is a header with {found} where {expected} {verb} expected")
    if task == "multilabel":
        return marks.astype(np.int64)
    if task == "binary":
        return marks[:, 0].astype(np.int64)
    counts = marks.sum(axis=1)
    if (counts != 1).any():
        row = int(np.argmax(counts != 1))
        raise DataError(
            f"{source}: row {row + 2} has {counts[row]} labels where one is expected; --task multilabel takes"
            " any number"
        )
    positions: NDArray[np.int64] = marks.argmax(axis=1)
    return positions
