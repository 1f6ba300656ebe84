from __future__ import annotations

import csv
from pathlib import Path

import pytest

from jobs.explain import explain
from lstmfcn import explanation, storage
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.ensemble import load_checkpoint
from tests.commands import refused, refused_call, status_of
from tests.samples import (
    BROKEN_IN_A_FILE,
    LENGTH,
    broken_input,
    make_dataset,
    write_csv,
)


@pytest.fixture
def data_csv(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "data.csv", make_dataset(5, seed=2), labelled=False)


@pytest.mark.usefixtures("composed")
def test_explain_writes_a_picture_of_each_row_and_the_values(
    data_csv: Path, checkpoint_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "explanation"
    flags = ("--checkpoint", checkpoint_folder, "--data", data_csv, "--output", output)
    storage.write_bytes(output / "row-house.png", b"no row")

    assert status_of(explain, *flags, "--rows", "5,1") == 0

    written = {"explanation.csv", "row-1.png", "row-5.png"}
    assert {path.name for path in output.iterdir()} == {*written, "row-house.png"}
    rows = list(csv.DictReader((output / "explanation.csv").read_text().splitlines()))
    assert [(row["row"], row["label"]) for row in rows] == [("1", "down"), ("5", "down")]
    assert list(rows[0])[2:] == ["recurrent", *(f"step_{step}" for step in range(1, LENGTH + 1))]
    expected = explanation.explain(load_checkpoint(checkpoint_folder), make_dataset(5, seed=2).series[[0, 4]])
    for row, recurrent, steps in zip(rows, expected.recurrent, expected.contributions, strict=True):
        assert [float(value) for value in list(row.values())[2:]] == [recurrent, *steps]
    assert status_of(explain, *flags, "--rows", "2") == 2
    assert status_of(explain, *flags, "--rows", "2", "--overwrite") == 0
    assert {path.name for path in output.iterdir()} == {"explanation.csv", "row-2.png", "row-house.png"}


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("6", "--rows names row 6; {data} has 5 rows"),
        ("0", "--rows is '0'; it must be numbers from 1, separated by commas"),
        ("1,two", "--rows is '1,two'; it must be numbers from 1, separated by commas"),
    ],
)
def test_rows_that_are_not_there_are_refused(
    rows: str,
    sentence: str,
    data_csv: Path,
    checkpoint_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ("--checkpoint", checkpoint_folder, "--data", data_csv, "--rows", rows)

    told = refused(capsys, tmp_path / "output", explain, *flags)

    assert told == sentence.format(data=data_csv) + "\n"


@pytest.mark.parametrize("kind", [*BROKEN_IN_A_FILE, "missing file", "wrong length"])
def test_broken_data_to_explain_is_refused_in_one_sentence(
    kind: str, checkpoint_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = broken_input(kind, tmp_path / "input", labelled=False)
    given = {"checkpoint": checkpoint_folder, "data": path}

    assert str(path) in refused_call(capsys, tmp_path / "output", explain, **given)


def test_a_picture_that_is_there_is_not_replaced_unless_it_may_be(
    trained: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained.save(tmp_path / "model")
    data = write_csv(tmp_path / "data.csv", make_dataset(2), labelled=False)
    output = tmp_path / "output"
    storage.write_bytes(output / "row-7.png", b"own")
    flags = ("--checkpoint", tmp_path / "model", "--data", data, "--rows", "1", "--output", output)

    assert status_of(explain, *flags) == 2
    assert "already holds a result (row-7.png)" in capsys.readouterr().err
    assert storage.names(output) == ["row-7.png"]
    assert status_of(explain, *flags, "--overwrite") == 0
