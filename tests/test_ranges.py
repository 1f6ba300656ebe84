from __future__ import annotations

import gzip
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from lstmfcn import ranges
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.errors import DataError
from lstmfcn.header import Header
from lstmfcn.identifiers import Identifiers
from lstmfcn.layout import Layout
from lstmfcn.prediction_format import PredictionFormat
from lstmfcn.ranges import (
    ByteRange,
    InputFile,
    count_rows,
    find_inputs,
    group_ranges,
    plan_ranges,
    read_blocks,
    read_layouts,
)
from lstmfcn.rendering import Renderer
from lstmfcn.series import parse_series
from lstmfcn.treatment import LengthTreatment, Treatment
from tests.samples import LENGTH, make_dataset, write_csv, write_gappy_csv, write_named_csv

PLAIN = Layout(PredictionFormat(), ("label",))


def with_identifier(position: int) -> Layout:
    return Layout(PredictionFormat(identifiers=Identifiers((position,))), ("label",))


@pytest.mark.parametrize("range_bytes", [1, 7, 100, 1000, 1 << 20])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "no last"])
def test_ranges_of_any_size_read_every_row_once(
    range_bytes: int, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "_BLOCK_BYTES", 300)
    written = make_dataset(8 if range_bytes == 1 else 60, seed=3)
    path = write_csv(tmp_path / "series.csv", written, labelled=False)
    if ending == "\r\n":
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    if ending == "no last":
        path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    files, _ = find_inputs(path, None)

    planned = plan_ranges(files, range_bytes)

    assert len(planned) == -(-files[0].size // range_bytes)
    blocks = [block for one in planned for block in read_blocks(files[0], one, LENGTH, PLAIN)]
    assert np.array_equal(np.concatenate([block.series for block in blocks]), written.series)
    assert sum(block.num_rows for block in blocks) == len(written)
    assert sum(count_rows(files[0], one, PLAIN) for one in planned) == len(written)


@pytest.mark.parametrize("range_bytes", [1, 100, 1 << 20])
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("length", ["pad", "resample"])
def test_ranges_of_any_size_treat_rows_alike(
    range_bytes: int,
    named: bool,
    length: LengthTreatment,
    trained: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ranges, "_BLOCK_BYTES", 300)
    num_rows = 4 if range_bytes == 1 else 20
    path = write_gappy_csv(
        tmp_path / "series.csv", make_dataset(num_rows, seed=3), labelled=False, named=named
    )
    treatment = Treatment(missing="interpolate", length=length)
    files, _ = find_inputs(path, None)
    renderer = Renderer(trained.task, trained.classes)

    [layout] = read_layouts(files, PredictionFormat(), LENGTH, renderer, treatment)

    assert isinstance(layout, Layout)
    planned = plan_ranges(files, range_bytes)
    blocks = [block for one in planned for block in read_blocks(files[0], one, LENGTH, layout)]
    whole = parse_series(path.read_bytes(), source="f", num_values=LENGTH, treatment=treatment)
    assert b"".join(block.series.tobytes() for block in blocks) == whole.tobytes()
    assert len(whole) == num_rows


def test_gzip_is_one_range(tmp_path: Path) -> None:
    path = tmp_path / "series.csv.gz"
    path.write_bytes(gzip.compress(b"1,2\n" * 10))
    files, _ = find_inputs(path, None)

    assert plan_ranges(files, 2) == [ByteRange(0, 0, 0, path.stat().st_size)]


def test_small_neighbours_share_a_task_and_what_is_done_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ranges, "_SMALLEST_RANGE", 10)
    sizes = [4, 4, 4, 20, 1, 1]
    planned = [ByteRange(number, 0, 0, size) for number, size in enumerate(sizes)]

    assert group_ranges(planned, 1) == [[0, 1], [2], [3], [4, 5]]
    assert group_ranges(planned, 1, leave_out={1, 3}) == [[0, 2, 4, 5]]


def test_very_many_ranges_share_tasks_by_the_dozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "_SMALLEST_RANGE", 10)
    planned = [ByteRange(0, number, 100 * number, 100 * number + 100) for number in range(24_000)]

    assert [len(group) for group in group_ranges(planned, 16)] == [12] * 2000


def test_very_many_predictors_have_two_tasks_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "_SMALLEST_RANGE", 10)
    planned = [ByteRange(0, number, 100 * number, 100 * number + 100) for number in range(24_000)]

    assert [len(group) for group in group_ranges(planned, 4000)] == [3] * 8000


def test_a_fault_at_the_beginning_of_a_range_is_a_fault_of_its_first_row(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_bytes(b"1,2\n\n3,4\n")
    files, _ = find_inputs(path, None)

    (first,) = read_blocks(files[0], ByteRange(0, 0, 0, 4), 2, PLAIN)
    (second,) = read_blocks(files[0], ByteRange(0, 1, 4, 5), 2, PLAIN)

    assert first.faults == []
    assert [(fault.row, fault.reason) for fault in second.faults] == [
        (1, " is blank; every line must hold a series")
    ]


def test_a_file_that_is_known_to_be_faulty_is_not_opened(tmp_path: Path) -> None:
    gone = InputFile(tmp_path / "gone.csv", "gone.csv", "gone.csv", 30, 0)

    assert len(plan_ranges([gone], 10, faulty={0})) == 3
    with pytest.raises(DataError, match=r"gone.csv can't be read: No such file or directory$"):
        plan_ranges([gone], 10)


@pytest.mark.parametrize(
    ("num_cells", "rows_by_block"), [(1, [1] * 5), (25, [1] * 5), (26, [2, 2, 1]), (10_000, [5])]
)
def test_few_lines_are_a_block_where_they_become_long(
    num_cells: int, rows_by_block: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "_MOST_CELLS", num_cells)
    path = tmp_path / "series.csv"
    path.write_bytes(b"1,2\n3,4,5\n\n6,7\n8,9")
    files, _ = find_inputs(path, None)
    layout = replace(PLAIN, treatment=Treatment(length="resample"))

    blocks = list(read_blocks(files[0], ByteRange(0, 0, 0, files[0].size), 13, layout))

    assert [block.num_rows for block in blocks] == rows_by_block
    assert np.concatenate([block.series for block in blocks])[:, [0, 6, 12]].tolist() == [
        [1, 1.5, 2],
        [3, 4, 5],
        [6, 6.5, 7],
        [8, 8.5, 9],
    ]
    assert [len(block.faults) for block in blocks if block.faults] == [1]


def test_rows_after_the_last_fault_that_is_asked_for_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "_BLOCK_BYTES", 8)
    path = tmp_path / "series.csv"
    path.write_bytes(b"1,2\nx,y\n1,2\nx,y\nx,y\n1,2\n1,2\n1,2")
    files, _ = find_inputs(path, None)

    blocks = list(read_blocks(files[0], ByteRange(0, 0, 0, files[0].size), 2, PLAIN, most_faults=2))

    assert [(block.num_rows, [fault.row for fault in block.faults]) for block in blocks] == [
        (2, [2]),
        (2, [2]),
        (2, []),
        (2, []),
    ]


def test_inputs_are_csv_files_below_the_folder_but_not_in_the_output(tmp_path: Path) -> None:
    for name in ("b.csv", "b.csv.rejects.csv", "k=v/a é.csv.gz", "notes.txt", "out/old.csv", "out/b.csv.out"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    inputs, skipped = find_inputs(tmp_path, tmp_path / "out")

    assert [file.relative for file in inputs] == ["b.csv", "k=v/a é.csv.gz"]
    assert skipped == ["b.csv.rejects.csv", "notes.txt"]


def test_an_output_folder_above_the_input_hides_none_of_it(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.csv").touch()

    inputs, _ = find_inputs(tmp_path / "deep", tmp_path)

    assert [file.relative for file in inputs] == ["a.csv"]


def test_a_bad_row_is_kept_as_it_stands_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_bytes(b'1,2,"a"\r\n1,x,"b"\r\n')
    files, _ = find_inputs(path, None)

    (block,) = read_blocks(files[0], ByteRange(0, 0, 0, 18), 2, with_identifier(3))

    assert [fault.line for fault in block.faults] == [b'1,x,"b"']


def test_a_byte_order_mark_is_one_only_where_the_file_begins(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_bytes(b"\xef\xbb\xbfa,1,2\n\xef\xbb\xbfb,1,2\n")
    files, _ = find_inputs(path, None)

    (block,) = read_blocks(files[0], ByteRange(0, 0, 0, path.stat().st_size), 2, with_identifier(1))

    assert block.identifiers == [b"a", b"\xef\xbb\xbfb"]


NAMED = PredictionFormat(identifiers=Identifiers(names=("id",)))
RENDERER = Renderer("multiclass", make_dataset(2).classes)


def with_identifiers(path: Path) -> Path:
    lines = path.read_text().splitlines()
    named = [f"{line},{'id' if row == 0 else f'r{row}'}" for row, line in enumerate(lines)]
    path.write_text("\n".join(named) + "\n")
    return path


@pytest.mark.parametrize(
    ("ending", "range_bytes"),
    [*product(["\n", "\r\n", "no last"], [1, 7, 100, 1000, 1 << 20]), ("gzip", 100)],
)
def test_below_a_header_too(
    ending: str, range_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "_BLOCK_BYTES", 300)
    num_rows = 8 if range_bytes == 1 else 60
    dataset = make_dataset(num_rows, seed=3)
    path = with_identifiers(write_named_csv(tmp_path / "series.csv", dataset, labelled=False, seed=0))
    content = path.read_bytes()
    if ending == "\r\n":
        content = content.replace(b"\n", b"\r\n")
    if ending == "no last":
        content = content.removesuffix(b"\n")
    path.write_bytes(gzip.compress(content) if ending == "gzip" else content)
    files, _ = find_inputs(path, None)
    (layout,) = read_layouts(files, NAMED, LENGTH, RENDERER)
    assert isinstance(layout, Layout)

    planned = plan_ranges(files, range_bytes)

    blocks = [block for one in planned for block in read_blocks(files[0], one, LENGTH, layout)]
    assert np.array_equal(np.concatenate([block.series for block in blocks]), dataset.series)
    assert [one for block in blocks for one in block.identifiers or []] == [
        f"r{row}".encode() for row in range(1, num_rows + 1)
    ]
    assert sum(count_rows(files[0], one, layout) for one in planned) == num_rows


@pytest.mark.parametrize(
    "content", [b"x_1,x_2", b"x_1,x_2\n", gzip.compress(b"x_1,x_2\r\n")], ids=["line", "lines", "zipped"]
)
def test_a_header_alone_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    files, _ = find_inputs(tmp_path / "a.csv", None)

    assert read_layouts(files, PredictionFormat(), 2, RENDERER) == [
        f"{tmp_path / 'a.csv'} holds a header and no series"
    ]


def test_files_of_both_formats_have_each_its_layout_or_a_sentence(tmp_path: Path) -> None:
    for name, content in (("a.csv", "1,2\n"), ("b.csv", "x_2,x_1\n1,2\n"), ("c.csv", "x_1,t\n1,2\n")):
        (tmp_path / name).write_text(content)
    (tmp_path / "d.csv.gz").write_bytes(b"\x1f\x8bno gzip")
    files, _ = find_inputs(tmp_path, None)

    first, second, third, fourth = read_layouts(files, PredictionFormat(), 2, RENDERER)

    assert first == PLAIN
    assert isinstance(fourth, str)
    assert fourth.startswith(f"{tmp_path / 'd.csv.gz'} is not a whole gzip file: ")
    assert isinstance(second, Layout)
    assert second.header == Header(series=(1, 0), labels=())
    assert isinstance(third, str)
    assert third.startswith(f"{tmp_path / 'c.csv'}: row 1, column 2: 't' is no column of a header")


def test_a_first_line_that_the_storage_fails_to_read_is_not_taken_for_one_without_a_header(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x_1,x_2\n1,2\n")
    files, _ = find_inputs(path, None)
    path.unlink()
    path.symlink_to(path)  # which opens as little as a broken disk does

    with pytest.raises(DataError, match=rf"^{path} can't be read: Too many levels of symbolic links$"):
        read_layouts(files, PredictionFormat(), 2, RENDERER)


def test_a_file_that_has_gone_is_told_before_anything_is_begun(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2\n")
    files, _ = find_inputs(tmp_path, None)
    (tmp_path / "a.csv").unlink()

    with pytest.raises(DataError, match=r"a.csv does not exist$"):
        read_layouts(files, PredictionFormat(), 2, RENDERER)


def test_files_with_one_header_share_a_layout(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("x_1,x_2\n1,2\n")
    (tmp_path / "c.csv").write_text("x_2,x_1\n1,2\n")
    files, _ = find_inputs(tmp_path, None)

    first, second, third = read_layouts(files, PredictionFormat(), 2, RENDERER)

    assert first is second
    assert third != first
