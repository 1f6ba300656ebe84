from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from lstmfcn import report, storage, sweep_plots
from lstmfcn.errors import OutputError
from lstmfcn.evaluation import EnsembleComparison
from lstmfcn.history import METRICS
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.metrics import Mode
from lstmfcn.plan import Plan
from lstmfcn.record import Record
from lstmfcn.report import write_report
from lstmfcn.storage import Location
from lstmfcn.sweep_plots import Bar, Curve
from lstmfcn.trials import Status, Trial, TrialFolders

SPACE = {"hidden_size": {"categorical": [8, 64]}, "lr": {"log_uniform": [0.001, 0.1]}, "batch_size": 32}


@pytest.fixture(autouse=True)
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are neither composed nor rendered, which takes far longer than the rest of a report, unless
    the test wants them `composed` or `drawn`.
    """
    if "drawn" in request.fixturenames:
        return
    if "composed" in request.fixturenames:
        monkeypatch.setattr(sweep_plots, "_svg", lambda _, name: f'<svg id="{name}-x"></svg>')
        return
    for name in ("learning_curves", "parallel_coordinates", "importances", "time_line"):
        monkeypatch.setattr(sweep_plots, name, lambda *_, name=name: f'<svg id="{name}-x"></svg>')


@pytest.fixture
def drawn() -> None:
    """The test needs what `undrawn` leaves out."""


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> Location:
    """The folder of a sweep of twelve trials, with its report drawn."""
    folder = tmp_path_factory.mktemp("twelve")
    write_sweep(folder, some(12))
    write_report(folder)
    return folder


def write_sweep(output: Location, trials: Iterable[Trial], **plan: Any) -> None:
    Record(
        plan=Plan(**plan),
        search_space=SPACE,
        data="digest",
        description="700 series of length 100 in 3 classes",
        versions={"lstmfcn": "1.2.3", "torch": "2.13.0"},
        seconds=12.5,
    ).write(output)
    folders = TrialFolders(output)
    for trial in trials:
        folders.write(trial)
        if trial.epoch:
            rows = [{"epoch": epoch, **trial.metrics, "seconds": 0.5} for epoch in range(1, trial.epoch + 1)]
            storage.write_table(folders.folder(trial.number) / METRICS, rows)


def trained(number: int, accuracy: float, status: Status = "completed", **hyperparameters: float) -> Trial:
    values = {"hidden_size": (8, 64)[number % 2], "lr": 0.001 * (1 + number % 90), "batch_size": 32}
    metrics = {
        "train_loss": 0.5,
        "train_accuracy": 0.9,
        "valid_loss": 1 - accuracy,
        "valid_accuracy": accuracy,
    }
    return Trial(
        number=number,
        hyperparameters=Hyperparameters(**{**values, **hyperparameters}),
        status=status,
        epoch=4,
        metrics=metrics,
        best_epoch=3,
        best_metrics=metrics,
        seconds=2.0,
        started=1000.0 + 2 * number,
        ended=1002.0 + 2 * number,
        worker=f"node:{number % 3}",
    )


def failed(number: int, error: str) -> Trial:
    return Trial(number=number, hyperparameters=Hyperparameters(batch_size=32), status="failed", error=error)


def some(count: int) -> list[Trial]:
    return [trained(number, 0.5 + 0.4 * number / count) for number in range(1, count + 1)]


class Page(HTMLParser):
    """What a report shows, and what it would fetch."""

    def __init__(self, output: Location) -> None:
        super().__init__()
        self.source = storage.read_bytes(output / "report.html").decode()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses = re.findall(r"url\(([^)]*)\)|@import (\S+)", self.source)
        self.addresses = [address for found in self.addresses for address in found if address]
        self._words: list[str] = []
        self.feed(self.source)
        self.text = " ".join(" ".join(self._words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
                self.addresses.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_data(self, data: str) -> None:
        self._words.append(data)


def page_of(output: Location, trials: Iterable[Trial], **plan: Any) -> Page:
    write_sweep(output, trials, **plan)
    write_report(output)
    return Page(output)


def test_it_begins_with_the_best_trial_and_its_metric(tmp_path: Path) -> None:
    page = page_of(tmp_path, [trained(1, 0.7), trained(2, 0.9125), trained(3, 0.8)])

    assert "Best trial 2 epoch 3 of 4 valid_accuracy 0.9125 higher is better" in page.text


def test_the_objective_says_which_trial_is_the_best(tmp_path: Path) -> None:
    page = page_of(tmp_path, [trained(1, 0.7), trained(2, 0.9)], metric="valid_loss", mode="max")

    assert "Best trial 1 epoch 3 of 4 valid_loss 0.3000 higher is better" in page.text


def test_it_says_what_was_run_with_what(tmp_path: Path) -> None:
    page = page_of(tmp_path, [*some(3), failed(4, "x")], scheduler="median")

    assert "700 series of length 100 in 3 classes · lstmfcn 1.2.3, torch 2.13.0" in page.text
    assert "Trials 4 3 completed, 1 failed" in page.text
    assert "12.5 s" in page.text
    assert "scheduler median" in page.text


def test_the_ten_best_are_listed_best_first(twelve: Location) -> None:
    page = Page(twelve)

    listed = re.findall(r"<tr><td>(\d+)</td><td>completed</td>", page.source)
    assert listed == [str(number) for number in range(12, 2, -1)]


def test_what_all_trials_share_is_said_once(tmp_path: Path) -> None:
    page = page_of(tmp_path, some(3))

    assert "<th>lr</th>" in page.source
    assert "<th>batch_size</th>" not in page.source
    assert "batch_size 32, epochs 2000, attention 0, squeeze_excite 0." in page.text


@pytest.mark.usefixtures("composed")
def test_a_point_outside_the_search_space_is_shown(tmp_path: Path) -> None:
    page = page_of(tmp_path, [*some(4), trained(5, 0.9, hidden_size=100, lr=1.0, batch_size=7)])

    assert "<td>100</td><td>1</td><td>7</td>" in page.source


def test_failed_trials_show_their_reason_as_text(tmp_path: Path) -> None:
    page = page_of(tmp_path, [trained(1, 0.7), failed(2, "a <b> & c"), failed(3, "a <b> & c")])

    assert "reason trials a <b> & c 2, 3" in page.text
    assert "b" not in page.tags


@pytest.mark.usefixtures("drawn")
def test_class_names_and_workers_are_text(tmp_path: Path) -> None:
    write_evaluation(tmp_path, {"<script>": {}, "$x$": {}}, [[5, 1], [0, 7]])

    page = page_of(tmp_path, [trained(1, 0.7).model_copy(update={"worker": "<script>:--> $1$"})])

    assert "script" not in page.tags
    assert "<script> 5 1 $x$ 0 7" in page.text


def write_evaluation(output: Path, classes: dict[str, Any], confusion: list[list[int]]) -> None:
    document = json.dumps({"task": "multiclass", "classes": classes, "confusion": confusion}).encode()
    storage.write_bytes(output / "evaluation" / "evaluation.json", document)


def test_thirty_classes_have_a_confusion_matrix(tmp_path: Path) -> None:
    confusion = [[int(row == column) for column in range(30)] for row in range(30)]
    write_evaluation(tmp_path, {f"class {number}": {} for number in range(30)}, confusion)

    page = page_of(tmp_path, some(2))

    assert page.source.count('class="deep"') == 30


def test_without_an_evaluation_there_is_no_confusion_matrix(tmp_path: Path) -> None:
    assert "Confusion matrix" not in page_of(tmp_path, some(2)).text


def test_an_ensembles_gain_and_cost_are_stated(tmp_path: Path) -> None:
    EnsembleComparison(
        num_networks=3,
        accuracy=0.95,
        accuracy_alone=0.9375,
        milliseconds=30.0,
        milliseconds_alone=12.0,
        num_timed=256,
    ).save(tmp_path / "evaluation")

    page = page_of(tmp_path, some(3))

    assert "milliseconds for 256 series" in page.text
    assert "ensemble 0.9500 30.0 best trial alone 0.9375 12.0 gain and cost +0.0125 2.5 times" in page.text


def test_without_an_ensemble_there_is_none_in_it(tmp_path: Path) -> None:
    assert "Ensemble" not in page_of(tmp_path, some(3)).text


def test_nothing_is_fetched(twelve: Location) -> None:
    page = Page(twelve)

    assert page.tags.count("svg") == 4
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    assert not {"script", "iframe", "object", "embed"} & set(page.tags)


def test_pictures_share_no_ids(twelve: Location) -> None:
    page = Page(twelve)

    assert len(page.ids) == len(set(page.ids))
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)


@pytest.mark.usefixtures("drawn")
def test_the_same_sweep_has_the_same_report(twelve: Location) -> None:
    first = Page(twelve).source

    write_report(twelve)

    assert Page(twelve).source == first


def test_what_the_results_follow_is_the_most_important(tmp_path: Path) -> None:
    page = page_of(tmp_path, some(24))

    assert "The first is lr, with " in page.text


@pytest.mark.usefixtures("composed")
def test_results_may_be_nearly_equal(tmp_path: Path) -> None:
    page = page_of(tmp_path, [trained(number, 0.8 + 1e-9 * number) for number in range(1, 9)])

    assert "The first is " in page.text


@pytest.mark.usefixtures("composed")
@pytest.mark.parametrize(
    "trials",
    [
        some(3),
        [trained(number, 0.8) for number in range(1, 9)],
        [trained(number, 0.1 * number, hidden_size=8, lr=0.01) for number in range(1, 9)],
    ],
    ids=["few", "same results", "same hyperparameters"],
)
def test_importance_is_left_out_where_nothing_tells_it(tmp_path: Path, trials: list[Trial]) -> None:
    page = page_of(tmp_path, trials)

    assert "Left out: it takes four trials" in page.text
    assert 'id="importances-' not in page.source


@pytest.mark.parametrize(
    "trials",
    [
        [failed(1, "x"), trained(2, 0.7), failed(3, "y")],
        [trained(1, 0.7), trained(2, 0.8, "interrupted")],
    ],
    ids=["all but one failed", "interrupted"],
)
@pytest.mark.usefixtures("composed")
def test_small_sweeps_have_their_pictures(tmp_path: Path, trials: list[Trial]) -> None:
    page = page_of(tmp_path, trials, metric="valid_loss")

    assert "Best trial" in page.text
    assert page.tags.count("svg") == 3


@pytest.mark.usefixtures("drawn")
def test_a_sweep_of_one_trial_has_its_pictures(tmp_path: Path) -> None:
    page = page_of(tmp_path, [trained(1, 0.7)], metric="valid_loss")

    assert "Best trial" in page.text
    assert page.tags.count("svg") == 3


def test_trials_without_an_epoch_have_no_pictures(tmp_path: Path) -> None:
    interrupted = Trial(number=1, hyperparameters=Hyperparameters(), status="interrupted")

    page = page_of(tmp_path, [interrupted])

    assert "Best trial none no trial succeeded" in page.text
    assert "svg" not in page.tags


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(99.9, "99.9 s"), (125.0, "2 min 5 s"), (5999.0, "99 min 59 s"), (7200.0, "2 h 0 min")],
)
def test_a_sweeps_time_is_told_in_fitting_units(seconds: float, told: str) -> None:
    assert report._duration(seconds) == told


@pytest.mark.long
@pytest.mark.usefixtures("drawn")
def test_a_thousand_trials_are_a_small_file(tmp_path: Path) -> None:
    assert len(page_of(tmp_path, some(1000)).source) < 5_000_000


def test_of_very_many_trials_some_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_MOST_DRAWN", 5)
    monkeypatch.setattr(report, "_NUM_CURVES", 15)
    drawn: list[list[float]] = []
    num_curves: list[int] = []

    def curves(best: Sequence[Curve], others: Sequence[Curve], metric: str) -> str:
        num_curves.append(len(best) + len(others))
        return ""

    def coordinates(_: object, points: Sequence[Mapping[str, float]], metric: str, mode: Mode) -> str:
        drawn.append([point[metric] for point in points])
        return ""

    def time_line(bars: Sequence[Bar]) -> str:
        drawn.append([bar.number for bar in bars])
        return ""

    monkeypatch.setattr(sweep_plots, "learning_curves", curves)
    monkeypatch.setattr(sweep_plots, "parallel_coordinates", coordinates)
    monkeypatch.setattr(sweep_plots, "time_line", time_line)
    few, many = (page_of(tmp_path / str(count), some(count)) for count in (5, 40))

    assert "Of these 40 trials, what follows shows at most 5" in many.text
    assert "Of these" not in few.text
    assert num_curves == [5, 15]
    of_few, bars_of_few, of_many, bars_of_many = drawn
    assert (len(of_few), bars_of_few) == (5, [5, 4, 3, 2, 1])
    assert bars_of_many == [40, 32, 24, 16, 8]  # at equal steps from the best
    assert of_many == pytest.approx([0.5 + 0.4 * number / 40 for number in bars_of_many])


def test_it_lies_where_the_sweep_lies(place: Location) -> None:
    assert "Best trial" in page_of(place, some(2)).text


def test_a_sweep_without_a_trial_has_no_report(tmp_path: Path) -> None:
    write_sweep(tmp_path, [])

    with pytest.raises(OutputError, match="holds a sweep without a trial; there is nothing to show"):
        write_report(tmp_path)


@pytest.mark.usefixtures("composed")
def test_curves_are_drawn_as_far_as_a_lost_process_wrote_them_down(tmp_path: Path) -> None:
    lost = [trained(number, 0.7, "failed") for number in (2, 3)]
    write_sweep(tmp_path, [trained(1, 0.6), *lost])
    table = TrialFolders(tmp_path).folder(2) / METRICS
    storage.write_table(table, [{"epoch": 1, **lost[0].metrics, "seconds": 0.5}])
    storage.remove(TrialFolders(tmp_path).folder(3), METRICS)

    write_report(tmp_path)

    page = Page(tmp_path)
    assert "Learning curves" in page.text
    assert "Best trial 1" in page.text
