"""Files on disks and in object storage: reading them whole or by ranges of lines, and writing them so that
no reader sees half of one.

The only module that opens users' files.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import platform
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, TypeAlias, TypeVar, cast
from uuid import uuid4

from lstmfcn.errors import DataError, ForbiddenDataError, LocationError, MissingDataError
from lstmfcn.object_storage import ObjectPath

Location: TypeAlias = Path | ObjectPath
"""Place of a file or folder, on a disk or in object storage."""
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

csv.field_size_limit(2**31 - 1)  # a cell of a rejects file is a whole line
_GZIP_MAGIC = b"\x1f\x8b"
_REQUESTS_AT_ONCE = 16
"""Most files that are worked on at once, since a request to object storage takes its time."""
_PIECE_BYTES = 4 << 20
_LONGEST_LINE_BYTES = 64 << 20


def location(text: str | Location) -> Location:
    """Return what a path or URI stands for. Raises LocationError for one that can't be used."""
    if not isinstance(text, str):
        return text
    if not text:
        raise LocationError("a path is empty; . would be the current folder")
    return ObjectPath.parse(text) if re.match("[A-Za-z0-9]+://", text) else Path(text)


def reason(error: OSError) -> str:
    """Return what an operating system or an object store said, in its words."""
    return error.strerror or str(error)


def read_bytes(path: Location) -> bytes:
    """Return a file's content, unzipped if it is gzip. Raises DataError if it is missing or broken gzip."""
    with _open(path) as file:
        return file.read()


def first_line(path: Location) -> tuple[bytes, bool]:
    """Return a file's first line, unzipped if it is gzip, and whether more follows. Raises as read_bytes."""
    with _open(path) as file:
        return file.readline(_LONGEST_LINE_BYTES), bool(file.read(1))


def line_blocks(path: Location, start: int, end: int, block_bytes: int) -> Iterator[bytes]:
    """Yield the lines whose first byte lies in [start, end), in blocks of whole lines of about `block_bytes`.

    Adjacent ranges read every line once, wherever the cuts are. A gzip file has no ranges:
    read it from 0 to its size, which stand for the whole of its content.

    Raises DataError for a file that can't be read to the end, or not by lines.
    """
    blocks = _line_blocks(path, start, end, block_bytes)
    return _read_ahead(blocks) if isinstance(path, ObjectPath) else blocks


def _line_blocks(path: Location, start: int, end: int, block_bytes: int) -> Iterator[bytes]:
    if start > 0 and start >= end:
        return
    with _open(path, start) as file:
        if isinstance(file, gzip.GzipFile):
            remaining: int | None = None
        else:
            if start > 0:
                _rest_of_line(file, path)  # of a line that began earlier, or just a line end
            remaining = end - file.tell()
        while remaining is None or remaining > 0:
            block = file.read(block_bytes if remaining is None else min(block_bytes, remaining))
            if not block:
                if remaining is None:
                    return
                raise DataError(f"{path} has become shorter while it was read")
            if not block.endswith(b"\n"):
                block += _rest_of_line(file, path)
            if remaining is not None:
                remaining -= len(block)
            yield block


def _rest_of_line(file: IO[bytes], path: Location) -> bytes:
    line = file.readline(_LONGEST_LINE_BYTES)
    if len(line) == _LONGEST_LINE_BYTES:
        raise DataError(f"{path} has a line of more than {_LONGEST_LINE_BYTES >> 20} MB; is it a CSV file?")
    return line


def _read_ahead(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the same blocks, each read ahead while the one before is worked on."""
    with ThreadPoolExecutor(1) as reader:
        pending = reader.submit(next, blocks, None)
        while (block := pending.result()) is not None:
            pending = reader.submit(next, blocks, None)
            yield block


@contextmanager
def unpacked(archive: Path) -> Iterator[Path]:
    """Yield a temporary folder with what a tar.gz archive holds. Raises DataError if it can't be unpacked."""
    if not hasattr(tarfile, "data_filter"):
        raise DataError(
            f"{archive} can't be unpacked safely by Python {platform.python_version()}; 3.11.4 can"
        )
    with TemporaryDirectory() as folder:
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")  # files within the folder, no devices, no links out
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            raise DataError(f"{archive} is not an archive that can be unpacked: {error}") from None
        yield Path(folder)


@contextmanager
def _open(path: Location, start: int = 0) -> Iterator[IO[bytes]]:
    """Open a file: for start 0 at its beginning, unzipped if it is gzip; else, as it is, at the byte before
    `start`.
    """
    try:
        with path.open("rb") as raw:
            if start > 0:
                if raw.seek(0, os.SEEK_END) < start:
                    raise DataError(f"{path} has become shorter while it was read")
                raw.seek(start - 1)
                yield raw
            elif raw.peek(2)[:2] != _GZIP_MAGIC:  # not by going back, which a pipe can't
                yield raw
            else:
                with gzip.GzipFile(fileobj=raw) as unzipped:
                    yield cast(IO[bytes], unzipped)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path} is not a whole gzip file: {error}") from None
    except (FileNotFoundError, NotADirectoryError):
        raise MissingDataError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a directory where a file is expected") from None
    except PermissionError:
        raise ForbiddenDataError(f"{path} can't be read: permission denied") from None
    except OSError as error:  # a failed read, which doesn't name its file
        if error.errno is not None:
            error.filename = str(path)
        raise


def in_parallel(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Yield what a function that reads or writes files returns for each item, in order."""
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
        yield from pool.map(function, items)


def is_gzip(path: Location) -> bool:
    """Return whether a file begins as gzip does. Raises DataError if it can't be read."""
    try:
        with path.open("rb", buffering=len(_GZIP_MAGIC)) as file:
            return file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    except OSError as error:
        raise DataError(f"{path} can't be read: {reason(error)}") from None


def is_within(path: Location, folder: Location) -> bool:
    """Return whether a path lies below a folder, or is that folder."""
    match path, folder:
        case ObjectPath(), ObjectPath():
            return path.is_relative_to(folder)
        case Path(), Path():
            return path.resolve().is_relative_to(folder.resolve())
    return False


def relative(path: Location, folder: Location) -> str:
    """Return a path relative to the folder that it was found in, with slashes."""
    match path, folder:
        case ObjectPath(), ObjectPath():
            return str(path.relative_to(folder))
        case Path(), Path():
            return path.relative_to(folder).as_posix()
    raise AssertionError(path, folder)


def names(folder: Location) -> list[str]:
    """Return the names in a folder; none if it does not exist."""
    if isinstance(folder, ObjectPath):
        return sorted(folder.names())
    try:
        return [path.name for path in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def names_below(folder: Location) -> list[str]:
    """Return the relative paths of all files below a folder, which may come and go meanwhile."""
    if isinstance(folder, ObjectPath):
        return [relative(path, folder) for path, _ in folder.files()]
    walked = [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]
    return [relative(path, folder) for path in walked]


class PendingFile:
    """A file that is being written and has no name yet."""

    def __init__(self, file: IO[bytes], path: Path | None = None) -> None:
        """`path` is where the file lies on the disk that it is for."""
        self._file, self._path = file, path
        self.write = file.write

    def commit(self, path: Location) -> None:
        """Make the whole file appear at `path`, on the disk or in the store that it was begun on."""
        self._file.flush()
        if isinstance(path, ObjectPath):
            path.upload(self._file)
        else:
            assert self._path is not None
            os.fsync(self._file.fileno())
            path.parent.mkdir(parents=True, exist_ok=True)
            self._path.replace(path)


@contextmanager
def pending_file(folder: Location) -> Iterator[PendingFile]:
    """Yield a file to write, which vanishes if it isn't committed before the block ends.

    Until then it lies in the folder itself or, for object storage, on this machine's disk.
    """
    if isinstance(folder, ObjectPath):
        with TemporaryFile() as nameless:  # of which nothing is left when this process is killed
            yield PendingFile(nameless)
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{uuid4().hex}.tmp"
    try:
        with path.open("xb") as file:
            yield PendingFile(file, path)
    finally:
        path.unlink(missing_ok=True)


def write_bytes(path: Location, content: bytes) -> None:
    """Write a whole file at once: afterwards it holds all of `content`, or what it held before.

    An OSError of a disk names the file.
    """
    try:
        with pending_file(path.parent) as file:
            file.write(content)
            file.commit(path)
    except OSError as error:
        if error.errno is not None:
            error.filename = str(path)
        raise


def write_text(path: Location, text: str) -> None:
    """Write a whole text file at once, with a line end after the text, as `write_bytes` does."""
    write_bytes(path, text.encode() + b"\n")


def write_table(path: Location, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a CSV with a header; all rows have the columns of the first, in its order."""
    write_bytes(path, csv_lines([rows[0].keys(), *(row.values() for row in rows)]))


def join(paths: Sequence[Location], whole: PendingFile) -> None:
    """Write the contents of files, in order, into one file, with a piece of each of several in memory."""
    for start in range(0, len(paths), _REQUESTS_AT_ONCE):
        for first_piece, rest in in_parallel(_first_piece, paths[start : start + _REQUESTS_AT_ONCE]):
            with rest:
                whole.write(first_piece)
                shutil.copyfileobj(rest, whole, _PIECE_BYTES)


def _first_piece(path: Location) -> tuple[bytes, IO[bytes]]:
    file = path.open("rb")
    return file.read(_PIECE_BYTES), file


def read_all(paths: Iterable[Location], missing: bytes | None = None) -> Iterator[bytes]:
    """Return the contents of small files, in order, with `missing` in place of those that don't exist.

    If `missing` is None, a file that doesn't exist raises DataError.
    """

    def read(path: Location) -> bytes:
        try:
            return read_bytes(path)
        except MissingDataError:
            if missing is None:
                raise
            return missing

    return in_parallel(read, paths)


def read_rows(path: Location) -> Iterator[list[str]]:
    """Yield the rows of a CSV. Raises DataError for one that can't be read."""
    with (
        _open(path) as file,
        io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="") as text,
    ):
        yield from csv.reader(text)


def csv_lines(rows: Iterable[Iterable[object]]) -> bytes:
    """Return rows as the lines of a CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def remove(folder: Location, *names: str) -> None:
    """Remove files and folders of these names, if they are there."""
    for name in names:
        path = folder / name
        if isinstance(path, ObjectPath):
            path.remove()
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def remove_if_empty(folder: Location) -> None:
    """Remove a folder that holds nothing, unless it is a bucket or a mounted disk."""
    with suppress(OSError):
        if isinstance(folder, Path):
            folder.rmdir()
        elif not folder.is_bucket and not names(folder):
            folder.remove()
