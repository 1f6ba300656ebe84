"""Small data and networks for tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lstmfcn.checkpoint import Checkpoint
from lstmfcn.classes import ClassLabels
from lstmfcn.dataset import Dataset
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.training import fit
from lstmfcn.treatment import Treatment

TINY = Hyperparameters(
    hidden_size=3,
    filters_1=4,
    filters_2=4,
    filters_3=4,
    kernel_size_1=3,
    kernel_size_2=3,
    kernel_size_3=3,
    batch_size=8,
    lr=0.01,
    epochs=3,
)
LENGTH = 12
Marks: TypeAlias = NDArray[np.int64]


def make_dataset(num_cases: int, seed: int = 0) -> Dataset:
    """Return two classes that a small network tells apart: `up` rises by 1 at a random step, `down` falls."""
    random = np.random.default_rng(seed)
    targets = np.arange(num_cases) % 2
    steps = np.arange(LENGTH) >= random.integers(3, LENGTH - 3, size=(num_cases, 1))
    series = np.where(targets[:, None] == 1, steps, -1.0 * steps) + random.normal(0, 0.05, steps.shape)
    return Dataset(series.astype(np.float32), targets, ClassLabels(["down", "up"]))


def make_labels(num_cases: int, seed: int = 0) -> Dataset:
    """Return series with any of two labels: y_1, it rises by 1 at a random step; y_2, it swings."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, 2, size=(num_cases, 2))
    rises = np.arange(LENGTH) >= random.integers(3, LENGTH - 3, size=(num_cases, 1))
    swings = np.where(np.arange(LENGTH) % 2, 0.4, -0.4)
    series = targets[:, :1] * rises + targets[:, 1:] * swings + random.normal(0, 0.05, rises.shape)
    return Dataset(series.astype(np.float32), targets, ClassLabels(["y_1", "y_2"]), "multilabel", True)


def make_channels(num_cases: int, seed: int = 0) -> Dataset:
    """Return series of three channels: make_dataset's is the second, between noises of other sizes."""
    dataset = make_dataset(num_cases, seed)
    random = np.random.default_rng(seed + 1)
    before, after = (random.normal(0, size, dataset.series.shape).astype(np.float32) for size in (100, 0.01))
    return replace(
        dataset, series=np.hstack([before, dataset.series, after]), treatment=Treatment(channels=3)
    )


def make_beats() -> Dataset:
    """Return series like MIT-BIH's heart beats: 187 steps, padded with zeros, five classes, most of one."""
    random = np.random.default_rng(0)
    targets = np.repeat(np.arange(5), [90, 3, 5, 2, 10])
    phase = np.linspace(0, 2 * np.pi, 187) * (1 + targets[:, None])
    beats = (np.sin(phase) + random.normal(0, 0.1, phase.shape)).clip(0) * (np.arange(187) < 120)
    return Dataset(beats.astype(np.float32), targets, ClassLabels([f"{number}.0" for number in range(5)]))


def best_of(dataset: Dataset, hyperparameters: Hyperparameters = TINY, **how: Any) -> Checkpoint:
    """Return the checkpoint that a training keeps."""
    epochs = fit(dataset, hyperparameters=hyperparameters, **how)
    return [epoch.checkpoint for epoch in epochs if epoch.checkpoint is not None][-1]


def marks_of(dataset: Dataset) -> Marks:
    """Return the y columns of a file with a header."""
    match dataset.task:
        case "multilabel":
            return dataset.targets
        case "binary":
            return dataset.targets[:, None]
    return np.eye(len(dataset.classes), dtype=np.int64)[dataset.targets]


def write_named_csv(path: Path, dataset: Dataset, *, labelled: bool, seed: int | None = None) -> Path:
    """Write a file with a header; a seed shuffles its columns."""
    steps = [(c, n) for c in range(1, dataset.channels + 1) for n in range(1, dataset.length + 1)]
    names = [f"x{'' if dataset.channels == 1 else channel}_{step}" for channel, step in steps]
    columns = dict(zip(names, dataset.series.T, strict=True))
    if labelled:
        columns = {f"y_{n}": marks for n, marks in enumerate(marks_of(dataset).T, 1)} | columns
    names = list(columns)
    if seed is not None:
        names = list(np.random.default_rng(seed).permutation(names))
    lines = [names, *zip(*(columns[name] for name in names), strict=True)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(",".join(map(str, line)) + "\n" for line in lines))
    return path


def write_csv(path: Path, dataset: Dataset, *, labelled: bool) -> Path:
    lines = []
    for target, values in zip(dataset.targets, dataset.series, strict=True):
        label = [dataset.classes.names[target]] if labelled else []
        lines.append(",".join([*label, *map(str, values)]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def write_gappy_csv(path: Path, dataset: Dataset, *, labelled: bool, named: bool = False) -> Path:
    """Write a file without a third of the values between the ends of series. All but the first series end
    early; below a header (`named`) empty cells follow.
    """
    random = np.random.default_rng(0)
    rows = []
    for number, (series, target) in enumerate(zip(dataset.series, dataset.targets, strict=True)):
        length = random.integers(LENGTH - 4, LENGTH) if number else LENGTH
        is_gap = random.random(length) < 1 / 3
        is_gap[[0, -1]] = False
        cells = [("" if gap else repr(float(value))) for value, gap in zip(series, is_gap, strict=False)]
        label = str(target) if named else dataset.classes.names[target]
        filling = [""] * (LENGTH - length) if named else []
        rows.append(",".join([*([label] if labelled else []), *cells, *filling]))
    if named:
        names = [f"x_{step}" for step in range(1, LENGTH + 1)]
        rows.insert(0, ",".join([*(["y"] if labelled else []), *names]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n")
    return path


def broken_input(kind: str, folder: Path, *, labelled: bool) -> Path:
    """Write a file of series of LENGTH values with one fault; return it, or what stands in its place."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "broken.csv"
    label = "up," if labelled else ""
    good = label + ",".join(["0.5"] * LENGTH)
    other = good.replace("up", "down")

    def with_last_cell(text: str) -> bytes:
        return f"{good}\n{other}\n{good.removesuffix('0.5')}{text}\n".encode()

    contents = {
        "ragged": f"{good}\n{other}\n{good},1\n".encode(),
        "empty cell": with_last_cell(""),
        "text": with_last_cell("abc"),
        "nan": with_last_cell("nan"),
        "inf": with_last_cell("-inf"),
        "1e39": with_last_cell("1e39"),
        "empty file": b"",
        "wrong length": f"{label}1,2,3\n".encode(),
        "unknown label": f"{good}\nsideways{good[2:]}\n".encode(),
        "one class only": f"{good}\n{good}\n".encode(),
        "blank line": f"{good}\n\n{other}\n".encode(),
        "utf-16": f"{good}\n{other}\n".encode("utf-16"),
        "binary": bytes(range(256)),
        "header line": f"{good.replace('up', 'y').replace('0.5', 'x')}\n{good}\n".encode(),
    }
    if kind == "folder without csv":
        (folder / "empty").mkdir()
        return folder / "empty"
    if kind != "missing file":
        path.write_bytes(contents[kind])
    return path


BROKEN_IN_A_FILE = [
    "ragged",
    "empty cell",
    "text",
    "nan",
    "inf",
    "1e39",
    "empty file",
    "blank line",
    "utf-16",
    "binary",
    "header line",
]
BROKEN_FOR_ANY_JOB = [*BROKEN_IN_A_FILE, "missing file", "folder without csv"]
