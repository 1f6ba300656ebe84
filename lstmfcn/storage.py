"""Files on disks and in object storage: reading them whole or by ranges of lines, and writing them so that
no reader sees half of one.

The only module that opens files.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TypeAlias, cast
from uuid import uuid4

from lstmfcn.errors import DataError, OutputError
from lstmfcn.object_storage import ObjectPath

Location: TypeAlias = Path | ObjectPath
"""Of a file or folder."""

CSV_SUFFIXES = (".csv", ".csv.gz")
csv.field_size_limit(2**31 - 1)  # a rejected line is one cell
_GZIP_MAGIC = b"\x1f\x8b"
_READ_AT_ONCE = 8
"""Files, since a request to object storage takes its time."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file and what distinguishes it from another that has its name later."""

    path: Location
    size: int
    modified: int
    """Nanoseconds since 1970."""


def location(text: str) -> Location:
    """What a path or URI stands for. Raises LocationError for one that can't be used."""
    return ObjectPath.parse(text) if re.match("[A-Za-z0-9]+://", text) else Path(text)


def reason(error: OSError) -> str:
    """What an operating system or an object store said, in its words."""
    return error.strerror or str(error)


def read_bytes(path: Location) -> bytes:
    """The content of a file, unzipped if it is gzip. Raises DataError when it is missing or broken gzip."""
    with _open(path) as file:
        return file.read()


def line_blocks(path: Location, start: int, end: int, block_bytes: int) -> Iterator[bytes]:
    """The lines whose first byte lies in [start, end), in blocks of whole lines of about `block_bytes`.

    Ranges that touch read every line once, whatever the cuts. A gzip file has no ranges:
    read it from 0 to its size, which stand for the whole of its content.
    """
    with _open(path) as file:
        if isinstance(file, gzip.GzipFile):
            remaining: int | None = None
        else:
            if start > 0:
                file.seek(start - 1)
                file.readline()  # the line that began before the range, or the line end just before it
            remaining = end - file.tell()
        while remaining is None or remaining > 0:
            block = file.read(block_bytes if remaining is None else min(block_bytes, remaining))
            if not block:
                if remaining is None:
                    return
                raise DataError(f"{path} has become shorter while it was read")
            if not block.endswith(b"\n"):
                block += file.readline()
            if remaining is not None:
                remaining -= len(block)
            yield block


@contextmanager
def _open(path: Location) -> Iterator[IO[bytes]]:
    try:
        with path.open("rb") as raw:
            if raw.peek(2)[:2] != _GZIP_MAGIC:  # without going back, which a pipe can't
                yield raw
                return
            with gzip.GzipFile(fileobj=raw) as unzipped:
                yield cast(IO[bytes], unzipped)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path} is not a whole gzip file: {error}") from None
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a directory where a file is expected") from None
    except PermissionError:
        raise DataError(f"{path} can't be read: permission denied") from None


def is_gzip(path: Location) -> bool:
    """Whether a file begins as gzip does."""
    with path.open("rb") as file:
        return file.read(2) == _GZIP_MAGIC


def files(path: Location) -> list[StoredFile]:
    """The file itself, or every file below a folder, sorted. Raises DataError when there is no such path."""
    if isinstance(path, ObjectPath):
        found = [StoredFile(file, info.size, info.mtime_ns) for file, info in path.files()]
    else:
        paths = [path] if path.is_file() else [below for below in path.rglob("*") if below.is_file()]
        statuses = [(file, file.stat()) for file in paths]
        found = [StoredFile(file, status.st_size, status.st_mtime_ns) for file, status in statuses]
    if not found and not path.exists():
        raise DataError(f"{path} does not exist")
    return sorted(found, key=lambda file: str(file.path))


def csv_files(path: Location) -> list[Location]:
    """The file itself, or every *.csv and *.csv.gz below a folder, sorted.

    Raises DataError when there is none.
    """
    if path.is_file():
        return [path]
    found = [file.path for file in files(path) if file.path.name.endswith(CSV_SUFFIXES)]
    if not found:
        raise DataError(f"{path} holds no *.csv or *.csv.gz file")
    return found


def is_within(path: Location, folder: Location) -> bool:
    """Whether a path lies below a folder."""
    match path, folder:
        case ObjectPath(), ObjectPath():
            return path.is_relative_to(folder)
        case Path(), Path():
            return path.resolve().is_relative_to(folder.resolve())
    return False


def relative(path: Location, folder: Location) -> str:
    """The path below a folder that it was found in, with slashes."""
    match path, folder:
        case ObjectPath(), ObjectPath():
            return str(path.relative_to(folder))
        case Path(), Path():
            return path.relative_to(folder).as_posix()
    raise AssertionError(path, folder)


def names(folder: Location) -> list[str]:
    """Of what a folder holds; none if it does not exist."""
    if isinstance(folder, ObjectPath):
        return [info.base_name for info in folder.below(recursive=False)]
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


class PendingFile:
    """A file that is being written and has no name yet."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path, self._file = path, file
        self.write = file.write

    def commit(self, path: Location) -> None:
        """Let it appear, whole, at `path`, which is in the folder that it was begun for."""
        self._file.flush()
        if isinstance(path, ObjectPath):
            path.upload(self._path)
        else:
            os.fsync(self._file.fileno())
            self._path.replace(path)


@contextmanager
def pending_file(folder: Location) -> Iterator[PendingFile]:
    """A file to write, which vanishes if it isn't committed before the block ends.

    Until then it lies in the folder itself or, for object storage, on this machine's disk.
    """
    with ExitStack() as stack:
        if isinstance(folder, ObjectPath):
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="lstmfcn-")))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f".{uuid4().hex}.tmp"
        try:
            with path.open("xb") as file:
                yield PendingFile(path, file)
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def atomic_file(path: Location) -> Iterator[PendingFile]:
    """A file to write that appears at `path` whole when the block ends, and not at all if it fails."""
    with pending_file(path.parent) as pending:
        yield pending
        pending.commit(path)


def write_bytes(path: Location, content: bytes) -> None:
    """Write a whole file at once: afterwards it holds all of `content`, or what it held before."""
    with atomic_file(path) as file:
        file.write(content)


def write_table(path: Location, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a CSV with a header, all of whose rows have the columns of the first."""
    text = io.StringIO()
    table = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def join(paths: Sequence[Location], whole: PendingFile) -> None:
    """Write the contents of files, in order, to another; as many in memory as are read at once."""
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        for start in range(0, len(paths), _READ_AT_ONCE):
            for content in pool.map(_content, paths[start : start + _READ_AT_ONCE]):
                whole.write(content)


def _content(path: Location) -> bytes:
    with path.open("rb") as file:
        return file.read()


def read_rows(path: Location) -> Iterator[list[str]]:
    """The rows of a CSV."""
    with path.open("rb") as file, io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
        yield from csv.reader(text)


def write_rows(path: Location, rows: Iterable[Sequence[str]]) -> None:
    """Write a CSV at once."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_bytes(path, text.getvalue().encode())


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
    """Remove a folder that holds nothing."""
    if not names(folder):
        remove(folder.parent, folder.name)


def check_output(output: Location, *patterns: str, overwrite: bool) -> None:
    """Raise OutputError if the output folder can't be written or, unless it may be overwritten,
    already holds something of these names.
    """
    if output.is_file():
        raise OutputError(f"--output {output} is a file; it must be a folder")
    try:
        _try_to_write(output)
    except OSError as error:
        raise OutputError(f"--output {output} can't be written: {reason(error)}") from None
    if overwrite:
        return
    for pattern in patterns:
        for existing in output.glob(pattern):
            raise OutputError(
                f"--output {output} already holds a result ({relative(existing, output)});"
                " choose another folder, or add --overwrite to replace it"
            )


def _try_to_write(folder: Location) -> None:
    if isinstance(folder, ObjectPath):
        probe = folder / f".{uuid4().hex}.tmp"
        write_bytes(probe, b"")
        probe.remove()
    else:
        nearest = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
        with TemporaryDirectory(dir=nearest):
            pass
