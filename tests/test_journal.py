from __future__ import annotations

import json
from pathlib import Path

import pytest

from lstmfcn import storage
from lstmfcn.errors import OutputError
from lstmfcn.journal import Journal, Part
from lstmfcn.storage import Location

PLAN = {"checkpoint": "abc", "precision": "fp32", "input": [["a.csv", 10, 1]]}


@pytest.fixture
def journal(place: Location) -> Journal:
    """On a disk and in object storage."""
    journal = Journal(place / "output")
    journal.begin({**PLAN, "range_bytes": 1000})
    return journal


def commit(journal: Journal, part: Part, lines: bytes, rejects: bytes = b"") -> None:
    storage.write_bytes(journal.folder / part.name, lines)
    if rejects:
        storage.write_bytes(journal.folder / part.rejects_name, rejects)


def test_the_same_plan_goes_on_with_what_was_recorded_beside_it(journal: Journal) -> None:
    resumed = Journal(journal.output)

    assert resumed.resume(PLAN)["range_bytes"] == 1000
    assert resumed.folder == journal.folder


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"precision": "bf16"}, "precision was fp32 and is bf16 since"),
        ({"checkpoint": "x"}, "checkpoint was abc and is x since"),
        ({"input": [["a.csv", 11, 1]]}, "input changed since"),
    ],
)
def test_another_plan_is_refused_by_what_differs(
    change: dict[str, object], sentence: str, tmp_path: Path
) -> None:
    journal = Journal(tmp_path)
    journal.begin(PLAN)

    with pytest.raises(OutputError, match=f"^--resume: {sentence}"):
        journal.resume({**PLAN, **change})


def test_nothing_begun_is_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"holds no unfinished transform; leave it out$"):
        Journal(tmp_path).resume(PLAN)


def test_who_could_not_begin_was_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    journal = Journal(tmp_path / "file")

    with pytest.raises(OSError, match="file"):
        journal.ownership.take()
    journal.ownership.refuse_another()


def test_parts_are_joined_in_order_and_rejects_get_the_files_rows(journal: Journal) -> None:
    first, second = Part(0, 0, 2, 0), Part(0, 1, 3, 1)
    commit(journal, second, b"c\nERROR\ne\n", b"2,is blank,\n")
    commit(journal, first, b"a\nb\n")
    assert set(journal.parts()) == {first, second}

    journal.join([first, second], {0: 0, 1: 2}, "deep/a.csv")
    journal.note_concluded(0, {"name": "a.csv"})

    output = journal.output
    assert storage.read_bytes(output / "deep" / "a.csv.out") == b"a\nb\nc\nERROR\ne\n"
    assert storage.read_bytes(output / "deep" / "a.csv.rejects.csv") == b"row,reason,line\n4,is blank,\n"
    assert list(journal.parts()) == []
    storage.write_bytes(journal.folder / "concluded" / ".left-by-a-kill.tmp", b"")
    assert list(journal.concluded()) == [(0, {"name": "a.csv"})]


def test_the_first_faulty_range_of_a_file_is_known(journal: Journal) -> None:
    journal.note_fault(3, 12)
    journal.note_fault(3, 5)
    journal.note_fault(33, 1)

    assert journal.first_fault(3) == 5
    assert journal.first_fault(4) is None


@pytest.mark.parametrize("ending", [None, b"{}"])
def test_a_transform_that_another_took_the_folder_from_changes_nothing(
    journal: Journal, ending: bytes | None
) -> None:
    other = Journal(journal.output)
    other.begin(PLAN)
    part = Part(0, 0, 1, 0)
    commit(journal, part, b"a\n")
    commit(other, part, b"b\n")
    before = storage.names_below(journal.output)

    taken_over = pytest.raises(OutputError, match=r"was taken over by another run; this one ends$")
    with taken_over:
        journal.join([part], {0: 0}, "a.csv")
    with taken_over:
        journal.note_concluded(0, {})
    with taken_over:
        journal.end(ending)

    assert storage.names_below(journal.output) == before
    assert list(other.parts()) == [part]


def test_of_two_that_resume_the_first_one_ends(journal: Journal) -> None:
    part = Part(0, 0, 1, 0)
    commit(journal, part, b"a\n")
    first, second = Journal(journal.output), Journal(journal.output)
    for one in (first, second):
        one.resume(PLAN)
        one.ownership.take()

    with pytest.raises(OutputError, match=r"was taken over by another run; this one ends$"):
        first.join([part], {0: 0}, "a.csv")

    second.join([part], {0: 0}, "a.csv")
    assert storage.read_bytes(journal.output / "a.csv.out") == b"a\n"


def test_what_begins_and_ends_at_once_leaves_the_next_one_to_clear_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write_bytes(tmp_path / "transform.json", b'{"files": [{"relative": "old.csv"}]}')
    storage.write_bytes(tmp_path / "old.csv.out", b"")
    with monkeypatch.context() as patch:
        patch.setattr(storage, "remove", interrupt)
        with pytest.raises(KeyboardInterrupt):
            Journal(tmp_path).begin(PLAN)
    with pytest.raises(OutputError, match=r"had begun to replace; only --overwrite goes on$"):
        Journal(tmp_path).resume(PLAN)
    assert not Journal(tmp_path).can_go_on()

    Journal(tmp_path).begin(PLAN)

    assert storage.names(tmp_path) == [".transform"]
    assert Journal(tmp_path).can_go_on()


def test_who_is_taken_over_while_it_clears_up_removes_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write_bytes(tmp_path / "transform.json", b'{"files": [{"relative": "old.csv"}]}')
    storage.write_bytes(tmp_path / "old.csv.out", b"")
    remove, other = storage.remove, Journal(tmp_path)

    def remove_and_be_taken_over(folder: Location, *names: str) -> None:
        remove(folder, *names)
        other.ownership.take()

    monkeypatch.setattr(storage, "remove", remove_and_be_taken_over)
    with pytest.raises(OutputError, match=r"was taken over by another run; this one ends$"):
        Journal(tmp_path).begin(PLAN)

    assert sorted(storage.names(tmp_path)) == [".transform", "old.csv.out"]
    assert not Journal(tmp_path).can_go_on()


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_starting_over_removes_what_earlier_transforms_wrote_and_nothing_else(place: Location) -> None:
    output = place / "output"
    result = {"files": [{"relative": "a.csv"}]}
    storage.write_bytes(output / "transform.json", json.dumps(result).encode())
    for name in ("a.csv.out", "a.csv.rejects.csv", "b.csv.out", "nohup.out"):
        storage.write_bytes(output / name, b"")

    Journal(output).begin({"input": [["b.csv", 10, 1]]})

    assert sorted(storage.names(output)) == [".transform", "nohup.out"]


@pytest.mark.parametrize("folder", ["a.csv.out", "a.csv.rejects.csv", "transform.json", ".transform"])
def test_a_folder_of_the_input_with_the_name_of_a_result_is_refused_before_anything_changes(
    folder: str, tmp_path: Path
) -> None:
    storage.write_bytes(tmp_path / "transform.json", b"{}")
    clash = [["a.csv", 10, 1], [f"{folder}/b.csv", 10, 1]]

    with pytest.raises(OutputError, match=f"^the input's folder {folder} has the name of a file or folder"):
        Journal(tmp_path).begin({**PLAN, "input": clash})

    assert storage.names(tmp_path) == ["transform.json"]


def test_another_programs_transform_json_is_replaced(tmp_path: Path) -> None:
    storage.write_bytes(tmp_path / "transform.json", b"[1]")

    Journal(tmp_path).begin(PLAN)

    assert storage.names(tmp_path) == [".transform"]


def test_the_end_leaves_the_summary_or_no_folder(journal: Journal, place: Location) -> None:
    journal.end(b"{}")
    assert not journal.is_unfinished()
    assert storage.names(place / "output") == ["transform.json"]

    other = Journal(place / "other")
    other.begin(PLAN)
    other.end(None)
    assert storage.names(place) == ["output"]


def test_what_no_transform_wrote_is_not_resumed(tmp_path: Path) -> None:
    (tmp_path / "transform.json").write_text("[]")

    with pytest.raises(OutputError) as refused:
        Journal(tmp_path).ended("plan")

    assert str(refused.value) == (
        f"{tmp_path / 'transform.json'} is not what a transform writes; --overwrite starts over"
    )


def test_a_replacement_that_was_broken_off_holds_no_checkpoints_predictions(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert not journal.holds_something()
    journal.begin({"input": [], "checkpoint": "digest"})
    assert (journal.holds_something(), journal.checkpoint()) == (True, "digest")

    journal._write_plan({"input": []})

    assert (journal.holds_something(), journal.checkpoint()) == (True, None)
