from __future__ import annotations

import csv
from pathlib import Path

import pytest

from lstmfcn import storage
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.errors import CheckpointError, DataError, OutputError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.ledger import Ledger
from lstmfcn.metrics import MetricName, Objective
from lstmfcn.search import RandomSearch
from lstmfcn.search_space import SearchSpace
from lstmfcn.storage import Location
from lstmfcn.trials import Trial, TrialFolders, ranked, read_leaderboard, write_leaderboard

SPACE = SearchSpace.from_mapping({"lr": {"log_uniform": [0.001, 0.01]}, "epochs": 5})
ACCURACY = Objective.of("valid_accuracy")


def ended(number: int, accuracy: float, loss: float, **known: object) -> Trial:
    metrics = {"train_loss": 0.5, "train_accuracy": 0.9, "valid_loss": loss, "valid_accuracy": accuracy}
    values = {"status": "completed", "epoch": 5, "best_epoch": 3, "best_metrics": metrics, "metrics": metrics}
    return Trial(number=number, hyperparameters=Hyperparameters(epochs=5), **{**values, **known})


def test_trials_are_ranked_by_their_best_epoch_then_loss_then_number() -> None:
    trials = [
        ended(1, 0.8, 0.2),
        ended(2, 0.9, 0.4),
        ended(3, 0.9, 0.3),
        ended(4, 1.0, 0.1, status="failed"),
        ended(5, 0.9, 0.3),
        Trial(number=6, hyperparameters=Hyperparameters()),
        ended(7, 0.95, 0.3, status="stopped early"),
    ]

    assert [trial.number for trial in ranked(trials, ACCURACY)] == [7, 3, 5, 2, 1, 4, 6]


@pytest.mark.parametrize(
    ("metric", "mode", "order"),
    [("valid_loss", None, [2, 1]), ("valid_loss", "max", [1, 2]), ("valid_accuracy", "min", [2, 1])],
)
def test_the_objective_says_what_is_better(metric: str, mode: str | None, order: list[int]) -> None:
    trials = [ended(1, 0.8, 0.6), ended(2, 0.7, 0.5)]

    objective = Objective.of(metric, mode)  # type: ignore[arg-type]

    assert [trial.number for trial in ranked(trials, objective)] == order


def test_a_trial_is_read_as_it_was_written(tmp_path: Path) -> None:
    folders = TrialFolders(tmp_path)
    written = [ended(2, 0.8, 0.2, error="x", failures=1), ended(10, 0.7, 0.1)]
    for trial in reversed(written):
        folders.write(trial)

    assert folders.read() == written


def test_a_trial_whose_process_was_killed_has_the_epoch_that_it_saved(
    trained: Checkpoint, tmp_path: Path
) -> None:
    folders = TrialFolders(tmp_path)
    for number, status in ((1, "running"), (2, "running"), (3, "interrupted")):
        folders.write(Trial(number=number, hyperparameters=trained.hyperparameters, status=status))
    for number in (1, 3):
        trained.save(folders.folder(number))

    saved, unsaved, told = folders.read()

    metrics = dict(trained.metrics)
    known = (saved.epoch, saved.metrics, saved.best_epoch, saved.best_metrics)
    assert known == (trained.epoch, metrics, trained.epoch, metrics)
    assert (unsaved.epoch, unsaved.best_epoch, told.epoch, told.best_epoch) == (0, 0, 0, 0)


def test_what_a_process_saved_is_later_or_earlier_than_its_last_report(
    trained: Checkpoint, tmp_path: Path
) -> None:
    folders = TrialFolders(tmp_path)
    trained.save(folders.folder(1))
    best = {"best_epoch": trained.epoch, "best_metrics": dict(trained.metrics)}
    later = {"epoch": trained.epoch, "metrics": dict(trained.metrics)}

    assert folders.saved(ended(1, 0.8, 0.2, epoch=trained.epoch - 1)) == {**best, **later}
    assert folders.saved(ended(1, 0.8, 0.2, epoch=trained.epoch)) == best


def test_a_damaged_document_is_refused(tmp_path: Path) -> None:
    folders = TrialFolders(tmp_path)
    folders.write(ended(1, 0.8, 0.2))
    (tmp_path / "trials" / "1" / "trial.json").write_text("{")

    with pytest.raises(CheckpointError, match=r"trial.json is damaged: "):
        folders.read()


def test_a_leaderboard_tells_later_sweeps_what_usable_trials_led_to(tmp_path: Path) -> None:
    good = ended(1, 0.8, 0.2)
    write_leaderboard(tmp_path, [good, ended(2, 0.9, 0.1, status="failed", error="a, b")])

    assert read_leaderboard(tmp_path) == [(good.hyperparameters, good.best_metrics)]


def test_a_leaderboard_of_an_earlier_version_has_defaults_for_what_was_not_there_yet(tmp_path: Path) -> None:
    good = ended(1, 0.8, 0.2)
    write_leaderboard(tmp_path, [good])
    rows = list(csv.DictReader((tmp_path / "leaderboard.csv").read_text().splitlines()))
    storage.write_table(
        tmp_path / "leaderboard.csv",
        [{name: row[name] for name in row if name != "attention"} for row in rows],
    )

    assert read_leaderboard(tmp_path) == [(good.hyperparameters, good.best_metrics)]


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n"])
def test_another_table_is_no_leaderboard(content: str, tmp_path: Path) -> None:
    (tmp_path / "leaderboard.csv").write_text(content)

    with pytest.raises(DataError, match=r"is no sweep's leaderboard: it has no column status$"):
        read_leaderboard(tmp_path)


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("completed,", "completed,,", r"row 2 has \d+ columns where row 1 has \d+"),
        ("0.8", "most", "row 2: could not convert string to float: 'most'"),
    ],
)
def test_a_damaged_leaderboard_is_refused(before: str, after: str, sentence: str, tmp_path: Path) -> None:
    write_leaderboard(tmp_path, [ended(1, 0.8, 0.2)])
    path = tmp_path / "leaderboard.csv"
    path.write_text(path.read_text().replace(before, after))

    with pytest.raises(DataError, match=f"leaderboard.csv: {sentence}$"):
        read_leaderboard(tmp_path)


def test_where_there_is_no_leaderboard_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"leaderboard.csv does not exist$"):
        read_leaderboard(tmp_path)


def ledger(folder: Path, num_trials: int, **known: object) -> Ledger:
    return Ledger(TrialFolders(folder), RandomSearch(SPACE, seed=0), ACCURACY, num_trials, **known)  # type: ignore[arg-type]


def test_points_are_tried_first_and_change_no_later_trial(tmp_path: Path) -> None:
    point = Hyperparameters(lr=0.5)
    plain, pointed = ledger(tmp_path / "a", 3), ledger(tmp_path / "b", 4, points=[point])

    drawn = [pointed.draw() for _ in range(5)]

    assert drawn[4] is None
    assert drawn[0] is not None
    assert drawn[0].hyperparameters == point
    for expected, trial in zip([plain.draw() for _ in range(3)], drawn[1:4], strict=True):
        assert expected is not None
        assert trial is not None
        assert trial.hyperparameters == expected.hyperparameters
        assert trial.number == expected.number + 1


def test_a_sweep_that_goes_on_keeps_what_has_ended_and_draws_the_rest(tmp_path: Path) -> None:
    before = ledger(tmp_path, 4)
    for _ in range(3):
        before.draw()
    before.update(
        1, status="completed", best_epoch=1, best_metrics={"valid_accuracy": 0.5, "valid_loss": 1.0}
    )
    before.update(3, status="interrupted")

    after = ledger(tmp_path, 4, earlier=TrialFolders(tmp_path).read())

    assert after.num_left == 3
    assert after.trials[1] == before.trials[1]
    numbers = []
    while (trial := after.draw()) is not None:
        assert trial.hyperparameters == RandomSearch(SPACE, seed=0).propose(trial.number)
        numbers.append(trial.number)
    assert numbers == [2, 3, 4]


def test_a_sweep_that_another_run_took_the_folder_from_notes_no_end_of_a_trial(place: Location) -> None:
    folders = TrialFolders(place)
    folders.ownership.take()
    first = Ledger(folders, RandomSearch(SPACE, seed=0), ACCURACY, 1)
    first.draw()
    TrialFolders(place).ownership.take()
    first.update(1, epoch=1)

    with pytest.raises(OutputError, match=r"was taken over by another run; this one ends$"):
        first.update(1, status="completed")

    (drawn,) = TrialFolders(place).read()
    assert drawn.status == "running"


@pytest.mark.parametrize(
    ("metric", "value", "is_reached"),
    [
        ("valid_accuracy", 0.5, True),
        ("valid_accuracy", 0.49, False),
        ("valid_loss", 0.5, True),
        ("valid_loss", 0.51, False),
    ],
)
def test_a_target_is_reached_by_what_is_as_good(metric: MetricName, value: float, is_reached: bool) -> None:
    assert Objective.of(metric).reached({metric: value}, 0.5) == is_reached


class Learning(RandomSearch):
    """Notes what it is told."""

    def __init__(self) -> None:
        super().__init__(SPACE, seed=0)
        self.learnt: list[float | None] = []

    def learn(self, hyperparameters: Hyperparameters, value: float | None) -> None:
        self.learnt.append(value)


def test_a_search_learns_from_trials_that_have_ended_that_more_is_better(tmp_path: Path) -> None:
    earlier = [ended(1, 0.8, 0.2), ended(2, 0.7, 0.3, status="interrupted"), ended(3, 0, 0, status="failed")]
    search = Learning()
    known = Ledger(TrialFolders(tmp_path), search, Objective.of("valid_loss"), 4, earlier=earlier)
    assert search.learnt == [-0.2, None]

    known.draw()
    known.update(2, epoch=4)
    assert search.learnt == [-0.2, None]
    known.update(2, status="completed", best_metrics={"valid_loss": 0.1, "valid_accuracy": 0.9})

    assert search.learnt == [-0.2, None, -0.1]
