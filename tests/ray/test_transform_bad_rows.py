"""What a transform says of rows and files that it can't predict, and does with them."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.transform import transform
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.classes import ClassLabels
from lstmfcn.predictor import Predictor
from tests.commands import refused, status_of
from tests.ray.test_transform import expected_lines, needs_ray
from tests.samples import (
    BROKEN_IN_A_FILE,
    LENGTH,
    broken_input,
    make_dataset,
    write_named_csv,
)


@needs_ray
@pytest.mark.usefixtures("small_ranges")
def test_bad_rows_are_marked_where_they_stand_and_listed_with_the_files_row_numbers(
    series_csv: Path, checkpoint_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = expected_lines(checkpoint_folder, series_csv).splitlines()
    lines = series_csv.read_bytes().splitlines()
    for row, line in ((7, b"1,2"), (50, b"abc\rdef"), (100, lines[99] + b"x"), (101, b"\xff"), (200, b"")):
        lines[row - 1] = line
        expected[row - 1] = b"ERROR"
    series_csv.write_bytes(b"\n".join(lines) + b"\n")
    flags = ("--checkpoint", checkpoint_folder, "--input", series_csv, "--bad-rows", "mark")

    assert status_of(transform, *flags, "--output", tmp_path / "output") == 0

    assert (tmp_path / "output" / "series.csv.out").read_bytes().splitlines() == expected
    rejects = (tmp_path / "output" / "series.csv.rejects.csv").read_text().splitlines()
    assert rejects[0] == "row,reason,line"
    assert rejects[1] == f'7,has 2 columns where {LENGTH} are expected,"1,2"'
    assert [row.partition(",")[0] for row in rejects[1:]] == ["7", "50", "100", "101", "200"]
    assert "5 bad rows are marked ERROR" in capsys.readouterr().out

    assert status_of(transform, *flags, "--output", tmp_path / "few", "--max-bad-rows", 3) == 2
    sentence = f"{series_csv} has 5 bad rows, more than --max-bad-rows 3"
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "few").exists()


@needs_ray
@pytest.mark.usefixtures("small_ranges")
def test_a_wrong_header_costs_its_file_the_output_and_no_other(
    checkpoint_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "input"
    for name in ("a.csv", "b.csv"):
        write_named_csv(folder / name, make_dataset(200, seed=3), labelled=name == "b.csv")
    flags = ("--checkpoint", checkpoint_folder, "--input", folder, "--bad-rows", "mark")

    assert status_of(transform, *flags, "--output", tmp_path / "output") == 2

    assert capsys.readouterr().err.splitlines()[-1] == (
        f"{folder / 'b.csv'}: row 1, column 1: 'y_1' is a label, which has no place here"
    )
    names = {path.name for path in (tmp_path / "output").iterdir()}
    assert names == {"a.csv.out", "transform.json"}


@needs_ray
def test_a_gzip_file_that_is_cut_off_has_no_output_though_bad_rows_are_marked(
    series_csv: Path, checkpoint_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(gzip.compress(b"1,2\n" + series_csv.read_bytes())[:-9])
    flags = ("--checkpoint", checkpoint_folder, "--input", path, "--bad-rows", "mark")

    assert status_of(transform, *flags, "--output", tmp_path / "output") == 2

    assert f"{path} is not a whole gzip file" in capsys.readouterr().err
    assert not (tmp_path / "output").exists()


@needs_ray
@pytest.mark.usefixtures("small_ranges")
def test_all_faults_that_were_read_are_told_with_the_files_rows_and_columns(
    series_csv: Path, checkpoint_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = [b"id," + line for line in series_csv.read_bytes().splitlines()]
    lines[149] = lines[149].replace(b"id,", b"id,x")
    lines[150] = b"id,1,2"
    series_csv.write_bytes(b"\n".join(lines))
    flags = ("--checkpoint", checkpoint_folder, "--input", series_csv, "--id-columns", 1)

    assert status_of(transform, *flags, "--output", tmp_path / "output") == 2

    told = [line for line in capfd.readouterr().err.splitlines() if "core_worker" not in line]
    assert told[0].startswith(f"{series_csv}: row 150, column 2: 'x")
    assert told[1].startswith(f"{series_csv}: row 151 has 3 columns where {LENGTH + 1} are expected")
    assert not (tmp_path / "output").exists()


@needs_ray
def test_a_folder_gives_an_output_for_each_sound_file_and_a_sentence_for_each_other(
    series_csv: Path, checkpoint_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output = tmp_path / "input", tmp_path / "input" / "output"
    (folder / "deep").mkdir(parents=True)
    content = series_csv.read_bytes()
    (folder / "deep" / "plain.csv").write_bytes(content)
    (folder / "zipped.csv.gz").write_bytes(gzip.compress(content))
    (folder / "windows.csv").write_bytes(content.replace(b"\n", b"\r\n"))
    (folder / "empty.csv").touch()
    (folder / "readme.md").touch()
    broken = broken_input("text", folder, labelled=False)
    expected = expected_lines(checkpoint_folder, series_csv)

    flags = ("--checkpoint", checkpoint_folder, "--input", folder)
    assert status_of(transform, *flags, "--output", output) == 2

    printed = capsys.readouterr()
    outputs = {path.relative_to(output).as_posix(): path.read_bytes() for path in output.rglob("*.out")}
    assert outputs == {
        "deep/plain.csv.out": expected,
        "zipped.csv.gz.out": expected,
        "windows.csv.out": expected,
    }
    assert printed.err.splitlines() == [
        f"{broken}: row 3, column {LENGTH}: 'abc' is not a finite number",
        f"{folder / 'empty.csv'} is empty",
    ]
    assert "skipped (neither *.csv nor *.csv.gz, or a list of bad rows): readme.md" in printed.out
    assert status_of(transform, *flags, "--output", output) == 2
    assert "already holds a result" in capsys.readouterr().err


@needs_ray
def test_check_reads_without_predicting(
    series_csv: Path, checkpoint_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))

    flags = ("--checkpoint", checkpoint_folder, "--input", series_csv, "--check")
    assert status_of(transform, *flags) == 0

    assert capsys.readouterr().out.startswith(f"200 rows of length {LENGTH} in 1 file found sound in ")
    assert sorted(tmp_path.rglob("*")) == before

    series_csv.write_bytes(series_csv.read_bytes() + b"x\n")
    assert status_of(transform, *flags, "--bad-rows", "mark") == 0
    assert "1 bad row would be marked ERROR" in capsys.readouterr().out


@needs_ray
def test_every_broken_file_gets_its_sentence_and_none_an_output(
    checkpoint_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kinds = [*BROKEN_IN_A_FILE, "wrong length"]
    paths = [broken_input(kind, tmp_path / "input" / kind, labelled=False) for kind in kinds]
    flags = (
        "--checkpoint",
        checkpoint_folder,
        "--input",
        tmp_path / "input",
        "--output",
        tmp_path / "output",
    )

    assert status_of(transform, *flags) == 2

    sentences = [line for line in capfd.readouterr().err.splitlines() if "core_worker" not in line]
    for path in paths:
        assert any(sentence.startswith(f"{path}") for sentence in sentences)
    assert all(sentence.startswith(str(tmp_path)) for sentence in sentences)
    assert not (tmp_path / "output").exists()


@needs_ray
@pytest.mark.usefixtures("small_ranges")
def test_below_a_header_rows_are_counted_with_it(
    trained: Checkpoint, checkpoint_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_named_csv(tmp_path / "series.csv", make_dataset(200, seed=3), labelled=False)
    expected = Predictor(trained).predict_csv(path.read_bytes(), source="expected").splitlines()
    lines = path.read_bytes().splitlines()
    lines[149] += b"x"
    path.write_bytes(b"\n".join(lines))
    flags = ("--checkpoint", checkpoint_folder, "--input", path)

    assert status_of(transform, *flags, "--output", tmp_path / "failed") == 2
    assert f"{path}: row 150, column 12: " in capsys.readouterr().err

    lines[1] = b"1,2"
    path.write_bytes(b"\n".join(lines))
    expected[1] = expected[149] = b"ERROR,ERROR,ERROR,ERROR"
    assert status_of(transform, *flags, "--output", tmp_path / "marked", "--bad-rows", "mark") == 0
    assert (tmp_path / "marked" / "series.csv.out").read_bytes().splitlines() == expected
    rejects = (tmp_path / "marked" / "series.csv.rejects.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in rejects] == ["row", "2", "150"]
    assert rejects[1] == '2,has 2 columns where row 1 has 12,"1,2"'


def test_what_marks_bad_rows_is_refused_where_it_would_mark_none(
    series_csv: Path, trained: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replace(trained, classes=ClassLabels(["ERROR", "up"])).save(tmp_path / "model")
    flags = ("--checkpoint", tmp_path / "model", "--input", series_csv)

    marked = refused(capsys, tmp_path / "output", transform, *flags, "--bad-rows", "mark")
    limited = refused(capsys, tmp_path / "output", transform, *flags, "--max-bad-rows", 3)

    assert marked == ("a class is named ERROR, which is what --bad-rows mark writes; use --bad-rows fail\n")
    assert limited == "--max-bad-rows is for --bad-rows mark; --bad-rows fail takes none\n"
