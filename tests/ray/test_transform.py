from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jobs.transform import transform
from lstmfcn import transform as lstmfcn_transform
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.predictor import Predictor
from lstmfcn.transform import InputFile, Range, find_fault, find_inputs, plan_ranges, read_range
from tests.samples import BROKEN_IN_A_FILE, LENGTH, broken_input, make_dataset, write_csv
from tests.test_jobs import refused, status_of

needs_ray = pytest.mark.usefixtures("cluster")


@pytest.fixture
def series_csv(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "series.csv", make_dataset(200, seed=3), labelled=False)


def input_file(path: Path) -> InputFile:
    return InputFile(path, str(path), path.name, path.stat().st_size)


def expected_lines(checkpoint_folder: Path, path: Path) -> bytes:
    return Predictor.load(checkpoint_folder).predict_csv(path.read_bytes(), source="expected")


@pytest.mark.parametrize("range_bytes", [1, 7, 100, 1000, 1 << 20])
def test_ranges_of_any_size_read_every_row_once(
    series_csv: Path, range_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lstmfcn_transform, "_LARGEST_RANGE", range_bytes)
    monkeypatch.setattr(lstmfcn_transform, "_SMALLEST_RANGE", range_bytes)
    monkeypatch.setattr(lstmfcn_transform, "_BLOCK_BYTES", 300)
    file = input_file(series_csv)

    ranges = plan_ranges([file], num_predictors=2)

    assert len(ranges) == -(-file.size // range_bytes)
    series = [block for one in ranges for block in read_range(file, one, LENGTH)]
    assert np.array_equal(np.concatenate(series), make_dataset(200, seed=3).series)


def test_gzip_is_one_range(tmp_path: Path) -> None:
    path = tmp_path / "series.csv.gz"
    path.write_bytes(gzip.compress(b"1,2\n" * 10))

    assert plan_ranges([input_file(path)], 2) == [Range(0, 0, 0, path.stat().st_size)]


@pytest.mark.parametrize("start", [0, 1, 20, 39, 40, 41, 77])
def test_a_fault_is_told_with_its_row_in_the_file_wherever_the_range_begins(
    tmp_path: Path, start: int
) -> None:
    path = tmp_path / "series.csv"
    path.write_bytes(b"1,2\n" * 20 + b"1,x\n" + b"1,2\n" * 20)

    fault = find_fault(input_file(path), Range(0, 1, start, path.stat().st_size), length=2)

    assert fault == f"{path}: row 21, column 2: 'x' is not a finite number"


def test_a_blank_line_between_two_ranges_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_bytes(b"1,2\n\n3,4\n")

    assert len(list(read_range(input_file(path), Range(0, 0, 0, 4), length=2))) == 1
    assert "row 2 is blank" in find_fault(input_file(path), Range(0, 1, 4, 5), length=2)


def test_inputs_are_csv_files_below_the_folder_but_not_in_the_output(tmp_path: Path) -> None:
    for name in ("b.csv", "k=v/a é.csv.gz", "notes.txt", "out/old.csv", "out/b.csv.out"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    inputs, skipped = find_inputs(tmp_path, tmp_path / "out")

    assert [file.relative for file in inputs] == ["b.csv", "k=v/a é.csv.gz"]
    assert skipped == [tmp_path / "notes.txt"]


@needs_ray
def test_predictions_are_in_input_order_for_any_number_of_ranges(
    series_csv: Path, checkpoint_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lstmfcn_transform, "_SMALLEST_RANGE", 1000)
    expected = expected_lines(checkpoint_folder, series_csv)
    assert len(set(expected.splitlines())) == 2
    assert len(plan_ranges([input_file(series_csv)], 2)) > 4

    flags = ("--checkpoint", checkpoint_folder, "--input", series_csv, "--output", tmp_path / "output")
    assert status_of(transform, *flags) == 0

    assert (tmp_path / "output" / "series.csv.out").read_bytes() == expected
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["series.csv.out"]


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
    assert "skipped, for they are not *.csv or *.csv.gz: readme.md" in printed.out
    assert status_of(transform, *flags, "--output", output) == 2
    assert "already holds a result" in capsys.readouterr().err


@needs_ray
def test_check_reads_without_predicting(
    series_csv: Path, checkpoint_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))

    assert status_of(transform, "--checkpoint", checkpoint_folder, "--input", series_csv, "--check") == 0

    assert capsys.readouterr().out.startswith(f"200 rows of length {LENGTH} in 1 file found sound in ")
    assert sorted(tmp_path.rglob("*")) == before


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
    assert len(sentences) == len(paths)
    for path, sentence in zip(sorted(paths), sentences, strict=True):
        assert sentence.startswith(str(path))
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("kind", ["missing file", "folder without csv"])
def test_input_without_a_file_is_refused(
    kind: str, checkpoint_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = broken_input(kind, tmp_path / "input", labelled=False)

    assert str(path) in refused(
        capsys, tmp_path / "output", transform, "--checkpoint", checkpoint_folder, "--input", path
    )


def test_an_output_folder_is_needed_to_predict(series_csv: Path, trained: Checkpoint, tmp_path: Path) -> None:
    trained.save(tmp_path / "model")

    assert status_of(transform, "--checkpoint", tmp_path / "model", "--input", series_csv) == 2


@pytest.mark.long
def test_a_transform_killed_at_any_moment_leaves_whole_outputs_or_none(
    checkpoint_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "input"
    for number in range(6):
        write_csv(folder / f"{number}.csv", make_dataset(20_000, seed=number), labelled=False)
    expected = {path.name + ".out": expected_lines(checkpoint_folder, path) for path in folder.iterdir()}
    flags = [
        "--checkpoint",
        checkpoint_folder,
        "--input",
        folder,
        "--output",
        tmp_path / "output",
        "--overwrite",
    ]
    command = [sys.executable, "-m", "jobs.transform", *map(str, flags)]
    for seconds in np.random.default_rng(0).uniform(4, 16, size=10):
        with subprocess.Popen(command) as process:
            try:
                process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()

        for path in (tmp_path / "output").rglob("*.out"):
            assert path.read_bytes() == expected[path.name]

    assert subprocess.run(command, check=False).returncode == 0
    assert {path.name for path in (tmp_path / "output").iterdir()} == set(expected)


@needs_ray
@pytest.mark.long
def test_a_file_of_200_mb_keeps_its_order(checkpoint_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    one_set = write_csv(tmp_path / "set.csv", make_dataset(20_000, seed=1), labelled=False).read_bytes()
    path.write_bytes(one_set * (200_000_000 // len(one_set) + 1))

    assert status_of(transform, "--checkpoint", checkpoint_folder, "--input", path, "--output", tmp_path) == 0

    predictor = Predictor.load(checkpoint_folder)
    rows, lines = path.read_bytes().splitlines(), (tmp_path / "large.csv.out").read_bytes().splitlines(True)
    assert len(lines) == len(rows)
    for row in np.random.default_rng(0).choice(len(rows), size=1000, replace=False):
        assert predictor.predict_csv(rows[row], source="row") == lines[row]
