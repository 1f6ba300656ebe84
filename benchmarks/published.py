"""Accuracies that others published, beside ours: as a table and as a picture."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

OURS, BASELINE = "ours", "lstm_fcn_lowest_train_loss"
OTHERS = (BASELINE, "lstm_fcn_best_on_test", "inceptiontime", "minirocket", "hivecote2")


@dataclass(frozen=True, slots=True)
class Result:
    """The accuracies on one data set, and the time that they took."""

    name: str
    accuracies: list[float]
    """Accuracy of each network."""
    together: float
    """Accuracy of the mean of all networks' probabilities."""
    seconds: float
    """CPU seconds that the training of all seeds took, so that other work beside it doesn't count. On GPUs
    the time that passed, times the share of a GPU. For a sweep the time that passed in the epochs of its
    trials and of what was trained again.
    """

    @property
    def accuracy(self) -> float:
        """The median over networks."""
        return statistics.median(self.accuracies)


def published_figures(path: Path) -> dict[str, dict[str, float]]:
    """Read the published accuracies by set and method; none if there is no file."""
    if not path.is_file():
        return {}
    rows = csv.DictReader(path.read_text().splitlines(), delimiter="\t")
    return {row["dataset"]: {name: float(row[name]) for name in OTHERS if row.get(name)} for row in rows}


def pairs(
    results: Sequence[Result], published: dict[str, dict[str, float]], method: str
) -> list[tuple[Result, float]]:
    """Return our result and the published figure of each set that has one."""
    return [(one, published[one.name][method]) for one in results if method in published.get(one.name, {})]


def table(results: Sequence[Result], published: dict[str, dict[str, float]]) -> str:
    """Return a table in Markdown, with the wins, ties and losses below it."""
    lines = ["| set | ours | each | together | " + " | ".join(OTHERS) + " | seconds |"]
    lines.append("|" + "---|" * (len(OTHERS) + 5))
    for result in results:
        others = [published.get(result.name, {}).get(name) for name in OTHERS]
        cells = [
            result.name,
            f"{result.accuracy:.4f}",
            " ".join(f"{accuracy:.4f}" for accuracy in result.accuracies),
            f"{result.together:.4f}",
            *("" if other is None else f"{other:.4f}" for other in others),
            f"{result.seconds:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    for name in OTHERS:
        # as precise as the table: published figures are rounded
        both = [(round(one.accuracy, 4), round(other, 4)) for one, other in pairs(results, published, name)]
        wins = sum(ours > other for ours, other in both)
        ties = sum(ours == other for ours, other in both)
        lines.append(f"against {name}: {wins} wins, {ties} ties, {len(both) - wins - ties} losses")
    return "\n".join(lines)


def write(folder: Path, results: Sequence[Result], published: dict[str, dict[str, float]]) -> None:
    """Write accuracy.csv and accuracy.png into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "accuracy.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["set", OURS, "together", *OTHERS, "seconds"])
        for one in results:
            others = [published.get(one.name, {}).get(name, "") for name in OTHERS]
            rows.writerow([one.name, one.accuracy, one.together, *others, round(one.seconds, 1)])
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    both = pairs(results, published, BASELINE)
    least = min([0.9, *(min(one.accuracy, other) for one, other in both)]) - 0.02
    axes.plot([least, 1], [least, 1], color="0.7")
    axes.scatter([other for _, other in both], [one.accuracy for one, _ in both])
    height = 1.0
    for one, other in sorted(both, key=lambda pair: -pair[0].accuracy):
        height = min(height, one.accuracy)
        axes.annotate(
            one.name,
            (other, one.accuracy),
            (least, height),
            fontsize=8,
            va="center",
            arrowprops={"arrowstyle": "-", "color": "0.85", "shrinkB": 4},
        )
        height -= (1 - least) / 30  # so that names of near points don't cover each other
    axes.set_xlabel(f"published: {BASELINE}")
    axes.set_ylabel("ours, median over networks")
    figure.savefig(folder / "accuracy.png", dpi=120)
