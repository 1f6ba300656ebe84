import gzip
from itertools import count, pairwise
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto.s3.exceptions import AccessForbidden
from moto.s3.models import S3Backend
from moto.s3.responses import S3Response
from werkzeug.exceptions import ServiceUnavailable

from lstmfcn import object_storage, storage
from lstmfcn.errors import DataError, LocationError
from lstmfcn.object_storage import ObjectPath
from lstmfcn.storage import Location
from tests.commands import without_room

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


def test_a_file_without_line_ends_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_LONGEST_LINE_BYTES", 1 << 20)
    path = tmp_path / "a.csv"
    path.write_bytes(b"1," * (1 << 20) + b"1\n")

    for start in (0, 10):
        with pytest.raises(DataError, match=r"a.csv has a line of more than 1 MB; is it a CSV file\?$"):
            list(storage.line_blocks(path, start, path.stat().st_size, 100))


def test_ranges_are_read_from_object_storage_too(bucket: ObjectPath) -> None:
    path = bucket / "ranges" / "file.csv"
    storage.write_bytes(path, b"1,2\n3,4\n5,6")

    assert list(storage.line_blocks(path, 0, 5, 3)) == [b"1,2\n", b"3,4\n"]
    assert list(storage.line_blocks(path, 5, 11, 100)) == [b"5,6"]


def test_gzip_is_read_as_its_content_whatever_its_name(place: Location) -> None:
    path = place / "data.csv"
    storage.write_bytes(path, gzip.compress(b"1,2\n3,4\n"))

    storage.write_bytes(place / "plain.csv", b"1")

    assert [storage.is_gzip(file) for file in (path, place / "plain.csv")] == [True, False]
    with pytest.raises(DataError, match=r"none can't be read: "):
        storage.is_gzip(place / "none")
    assert storage.read_bytes(path) == b"1,2\n3,4\n"
    assert list(storage.line_blocks(path, 0, 30, 4)) == [b"1,2\n", b"3,4\n"]


@pytest.mark.parametrize("end", [b"", b"\xff" * 9], ids=["cut short", "overwritten"])
def test_damaged_gzip_is_refused(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "data.csv.gz"
    path.write_bytes(gzip.compress(b"1,2\n" * 100)[:15] + end)

    with pytest.raises(DataError, match=r"data.csv.gz is not a whole gzip file: "):
        storage.read_bytes(path)


def test_a_missing_file_is_refused(place: Location) -> None:
    with pytest.raises(DataError, match=r"none.csv does not exist$"):
        storage.read_bytes(place / "none.csv")


def test_a_file_appears_only_when_it_is_whole(place: Location) -> None:
    path = place / "new" / "file"
    with storage.pending_file(path.parent) as file:
        file.write(b"whole")
        assert not path.exists()
        file.commit(path)

    assert storage.read_bytes(path) == b"whole"
    assert storage.names(path.parent) == ["file"]


def test_a_file_of_several_uploads_is_whole(bucket: ObjectPath) -> None:
    content = bytes(range(256)) * 42_000

    storage.write_bytes(bucket / "large", content)

    assert storage.read_bytes(bucket / "large") == content


def test_an_upload_that_fails_half_way_leaves_what_was_there(
    bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bucket / "half way"
    storage.write_bytes(path, b"old")
    upload_part = S3Backend.upload_part

    def refuse_second(*args: Any, **kwargs: Any) -> Any:
        if "2" in (str(value) for value in (*args, *kwargs.values())):
            raise AccessForbidden("no more")
        return upload_part(*args, **kwargs)

    monkeypatch.setattr(S3Backend, "upload_part", refuse_second)
    with pytest.raises(OSError, match="no more"):
        storage.write_bytes(path, bytes(10_600_000))

    assert storage.read_bytes(path) == b"old"


@pytest.mark.parametrize("num_bytes", [1, 100, 5_000])
def test_a_busy_object_store_is_asked_again(
    num_bytes: int, bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bucket / "busy"
    storage.write_bytes(path, bytes(num_bytes))
    get_object, asked = S3Response.get_object, count(1)

    def refuse_twice(*args: Any, **kwargs: Any) -> Any:
        if next(asked) <= 2:
            raise ServiceUnavailable("Please reduce your request rate.")
        return get_object(*args, **kwargs)

    monkeypatch.setattr(S3Response, "get_object", refuse_twice)
    monkeypatch.setattr(object_storage, "_PAUSES", (0.01,) * 7)

    assert storage.read_bytes(path) == bytes(num_bytes)
    assert next(asked) == 4


def test_zipped_content_is_stored_as_it_is(place: Location) -> None:
    content = gzip.compress(b"1,2\n")

    storage.write_bytes(place / "a.csv.gz", content)

    with (place / "a.csv.gz").open("rb") as file:
        assert file.read() == content


def test_a_failed_write_leaves_what_was_there(place: Location) -> None:
    path = place / "file"
    storage.write_bytes(path, b"old")

    def fail_half_way() -> None:
        with storage.pending_file(place) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()

    assert storage.read_bytes(path) == b"old"
    assert storage.names(place) == ["file"]


def test_a_pending_file_that_is_not_committed_vanishes(place: Location) -> None:
    with storage.pending_file(place) as kept, storage.pending_file(place) as dropped:
        kept.write(b"kept")
        dropped.write(b"dropped")
        kept.commit(place / "name")

    assert storage.names(place) == storage.names_below(place) == ["name"]
    assert storage.read_bytes(place / "name") == b"kept"


def test_files_of_any_size_are_joined_in_order(place: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_PIECE_BYTES", 2)
    monkeypatch.setattr(storage, "_REQUESTS_AT_ONCE", 4)
    parts = [place / str(number) for number in range(8, 14)]
    for part in parts:
        storage.write_bytes(part, f"{part.name},".encode())
    with storage.pending_file(place) as whole:
        storage.join(parts, whole)
        whole.commit(place / "whole")

    assert storage.read_bytes(place / "whole") == b"8,9,10,11,12,13,"


def test_files_and_folders_are_removed_by_name(place: Location) -> None:
    for name in ("folder/deep/a", "folder/b", "file", "kept"):
        storage.write_bytes(place / name, b"")

    storage.remove(place, "folder", "file", "absent")

    assert storage.names(place) == ["kept"]


def test_an_empty_folder_is_removed(place: Location) -> None:
    folder = place / "folder"
    storage.write_bytes(folder / "file", b"")

    storage.remove_if_empty(folder)
    assert storage.names(folder) == ["file"]
    storage.remove(folder, "file")
    storage.remove_if_empty(folder)
    assert not folder.exists()


def test_an_empty_bucket_stays(google_bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "names", lambda _: [])

    storage.remove_if_empty(google_bucket)

    assert google_bucket.exists()


def test_an_empty_path_is_refused() -> None:
    with pytest.raises(LocationError, match=r"^a path is empty; \. would be the current folder$"):
        storage.location("")


def test_a_disk_that_is_full_names_the_file_and_leaves_no_half_of_it(tmp_path: Path) -> None:
    raised = without_room(f"storage.write_bytes(Path({str(tmp_path / 'a.json')!r}), b'[1]')")

    assert raised == f"OSError: [Errno 27] File too large: '{tmp_path}/a.json'"
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_shorter_than_it_was_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"1,2\n3,4\n")

    with pytest.raises(DataError, match=r"a.csv has become shorter while it was read$"):
        list(storage.line_blocks(tmp_path / "a.csv", 4, 20, 100))


def test_what_object_storage_says_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, *_: object) -> IO[bytes]:
        raise OSError("ACCESS_DENIED")

    monkeypatch.setattr(Path, "open", fail)

    with pytest.raises(OSError, match=r"^ACCESS_DENIED$"):
        storage.read_bytes(Path("any"))


def test_a_disk_that_fails_while_a_file_is_read_is_told_with_its_name() -> None:
    with pytest.raises(OSError, match=r"Input/output error: '/proc/self/mem'$"):
        storage.read_bytes(Path("/proc/self/mem"))
