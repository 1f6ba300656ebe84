from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.evaluate import evaluate
from tests.commands import refused, status_of
from tests.samples import BROKEN_FOR_ANY_JOB, broken_input


def test_evaluate_prints_one_json_object(
    valid_csv: Path, checkpoint_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(evaluate, "--checkpoint", checkpoint_folder, "--data", valid_csv, "--json") == 0

    printed = json.loads(capsys.readouterr().out)
    assert printed["num_cases"] == 10
    assert 0 <= printed["accuracy"] <= 1
    assert list(printed["classes"]) == ["down", "up"]


def test_evaluate_writes_the_same_and_a_picture(
    valid_csv: Path, checkpoint_folder: Path, tmp_path: Path
) -> None:
    flags = ("--checkpoint", checkpoint_folder, "--data", valid_csv, "--output", tmp_path / "evaluation")

    assert status_of(evaluate, *flags) == 0
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
    flags = ("--checkpoint", checkpoint_folder, "--data", path)

    assert str(path) in refused(capsys, tmp_path / "output", evaluate, *flags)
