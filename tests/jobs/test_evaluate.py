from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.evaluate import evaluate
from tests.commands import refused_call, status_of
from tests.samples import BROKEN_FOR_ANY_JOB, broken_input


def test_evaluate_prints_one_json_object(
    valid_csv: Path, checkpoint_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(evaluate, "--checkpoint", checkpoint_folder, "--data", valid_csv, "--json") == 0

    printed = json.loads(capsys.readouterr().out)
    assert (printed["num_cases"], printed["accuracy"], printed["precision"]) == (10, 1.0, "fp32")
    assert printed["confusion"] == [[5, 0], [0, 5]]
    assert list(printed["classes"]) == ["down", "up"]


def test_identifiers_are_left_out_and_a_precision_is_computed_in(
    valid_csv: Path, checkpoint_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    valid_csv.write_text("".join(f"p,{line}\n" for line in valid_csv.read_text().splitlines()))
    flags = ("--checkpoint", checkpoint_folder, "--data", valid_csv, "--json", "--id-columns", 1)

    assert status_of(evaluate, *flags, "--precision", "bf16") == 0

    printed = json.loads(capsys.readouterr().out)
    assert (printed["num_cases"], printed["accuracy"], printed["precision"]) == (10, 1.0, "bf16")


@pytest.mark.usefixtures("composed")
def test_evaluate_writes_the_same_and_a_picture(
    valid_csv: Path, checkpoint_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--checkpoint", checkpoint_folder, "--data", valid_csv, "--output", tmp_path / "evaluation")

    assert status_of(evaluate, *flags, "--json") == 0
    written = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    assert written.items() > json.loads(capsys.readouterr().out).items()
    assert {path.name for path in (tmp_path / "evaluation").iterdir()} == {
        "evaluation.json",
        "confusion-matrix.png",
    }
    assert status_of(evaluate, *flags) == 2


def test_an_evaluation_that_is_there_is_printed_again_as_json(
    valid_csv: Path, checkpoint_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--checkpoint", checkpoint_folder, "--data", valid_csv, "--output", tmp_path, "--resume")

    assert status_of(evaluate, *flags, "--json") == 0
    first = capsys.readouterr().out
    written = (tmp_path / "evaluation.json").stat().st_mtime_ns
    assert status_of(evaluate, *flags, "--json") == 0

    assert capsys.readouterr().out == first
    assert (tmp_path / "evaluation.json").stat().st_mtime_ns == written


@pytest.mark.parametrize("kind", [*BROKEN_FOR_ANY_JOB, "wrong length", "unknown label"])
def test_broken_data_to_evaluate_is_refused_in_one_sentence(
    kind: str, checkpoint_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = broken_input(kind, tmp_path / "input", labelled=True)
    given = {"checkpoint": checkpoint_folder, "data": path}

    assert str(path) in refused_call(capsys, tmp_path / "output", evaluate, **given)
