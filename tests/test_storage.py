import gzip
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmfcn import storage
from lstmfcn.errors import DataError, OutputError

LINES = st.lists(st.text(alphabet="12,\r", max_size=6).map(str.encode), max_size=12)


@given(LINES, st.booleans(), st.lists(st.integers(0, 60), max_size=6), st.integers(1, 20))
def test_ranges_that_touch_read_every_line_once(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[bytes],
    final: bool,
    cuts: list[int],
    block_bytes: int,
) -> None:
    content = b"\n".join(lines) + b"\n" * final
    path = tmp_path_factory.mktemp("ranges") / "file.csv"
    path.write_bytes(content)
    bounds = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]

    blocks = [
        block
        for start, end in pairwise(bounds)
        for block in storage.line_blocks(path, start, end, block_bytes)
    ]

    assert b"".join(blocks) == content
    assert all(block.endswith(b"\n") for block in blocks[:-1])


@given(LINES, st.integers(0, 60))
def test_a_range_starts_with_the_line_that_starts_in_it(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], start: int
) -> None:
    content = b"".join(line + b"\n" for line in lines)
    path = tmp_path_factory.mktemp("ranges") / "file.csv"
    path.write_bytes(content)
    starts = [0] + [index + 1 for index, byte in enumerate(content) if byte == ord("\n")]
    first = min([position for position in starts if position >= start], default=len(content))

    assert b"".join(storage.line_blocks(path, start, len(content), 8)) == content[min(first, len(content)) :]


def test_gzip_is_read_as_its_content_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(gzip.compress(b"1,2\n3,4\n"))

    assert storage.is_gzip(path)
    assert storage.read_bytes(path) == b"1,2\n3,4\n"
    assert list(storage.line_blocks(path, 0, path.stat().st_size, 4)) == [b"1,2\n", b"3,4\n"]


@pytest.mark.parametrize("end", [b"", b"\xff" * 9], ids=["cut short", "overwritten"])
def test_damaged_gzip_is_refused(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "data.csv.gz"
    path.write_bytes(gzip.compress(b"1,2\n" * 100)[:15] + end)

    with pytest.raises(DataError, match=r"data.csv.gz is not a whole gzip file: "):
        storage.read_bytes(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.csv does not exist$"):
        storage.read_bytes(tmp_path / "none.csv")


def test_csv_files_of_a_folder_are_found_below_it_in_order(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv.gz", "notes.txt", "deep/er/c.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    found = [path.relative_to(tmp_path).as_posix() for path in storage.csv_files(tmp_path)]

    assert found == ["a.csv.gz", "b.csv", "deep/er/c.csv"]


def test_a_folder_without_csv_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no \*.csv or \*.csv.gz file$"):
        storage.csv_files(tmp_path)


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with storage.atomic_file(path) as file:
        file.write(b"whole")
        assert not path.exists()

    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail_half_way() -> None:
        with storage.atomic_file(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_pending_file_that_is_not_committed_vanishes(tmp_path: Path) -> None:
    with storage.pending_file(tmp_path) as kept, storage.pending_file(tmp_path) as dropped:
        kept.write(b"kept")
        dropped.write(b"dropped")
        kept.commit(tmp_path / "name")

    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"kept"]


def test_a_file_is_appended_to_another(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"second")
    with storage.atomic_file(tmp_path / "whole") as whole:
        whole.write(b"first,")
        storage.append(tmp_path / "part", whole)

    assert (tmp_path / "whole").read_bytes() == b"first,second"


def test_files_and_folders_are_removed_by_name(tmp_path: Path) -> None:
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "file").touch()
    (tmp_path / "kept").touch()

    storage.remove(tmp_path, "folder", "file", "absent")

    assert list(tmp_path.iterdir()) == [tmp_path / "kept"]


def test_an_output_folder_with_a_result_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a" / "b.csv.out").parent.mkdir()
    (tmp_path / "a" / "b.csv.out").touch()

    storage.check_output(tmp_path, "*.json", overwrite=False)
    storage.check_output(tmp_path, "**/*.out", overwrite=True)
    with pytest.raises(OutputError) as refused:
        storage.check_output(tmp_path, "*.json", "**/*.out", overwrite=False)

    assert str(refused.value) == (
        f"--output {tmp_path} already holds a result (a/b.csv.out);"
        " choose another folder, or add --overwrite to replace it"
    )


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_output_that_is_a_file_is_refused(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(OutputError, match=r"is a file; it must be a folder$"):
        storage.check_output(tmp_path / "file", overwrite=overwrite)


def test_an_output_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(OutputError, match=r"^--output /proc/x/y can't be written: "):
        storage.check_output(Path("/proc/x/y"), overwrite=True)


def test_checking_an_output_folder_makes_nothing(tmp_path: Path) -> None:
    storage.check_output(tmp_path / "new" / "deep", "*", overwrite=False)

    assert list(tmp_path.iterdir()) == []
