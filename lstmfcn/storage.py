"""Files: reading them whole or by ranges of lines, and writing them so that no reader sees half of one.

The only module that opens files.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, cast
from uuid import uuid4

from lstmfcn.errors import DataError, OutputError

CSV_SUFFIXES = (".csv", ".csv.gz")
_GZIP_MAGIC = b"\x1f\x8b"


def read_bytes(path: Path) -> bytes:
    """The content of a file, unzipped if it is gzip. Raises DataError when it is missing or broken gzip."""
    with _open(path) as file:
        return file.read()


def line_blocks(path: Path, start: int, end: int, block_bytes: int) -> Iterator[bytes]:
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
                return
            if not block.endswith(b"\n"):
                block += file.readline()
            if remaining is not None:
                remaining -= len(block)
            yield block


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            if not zipped:
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


def is_gzip(path: Path) -> bool:
    """Whether a file begins as gzip does."""
    with path.open("rb") as file:
        return file.read(2) == _GZIP_MAGIC


def csv_files(path: Path) -> list[Path]:
    """The file itself, or every *.csv and *.csv.gz below a directory, sorted.

    Raises DataError when there is none.
    """
    if not path.is_dir():
        if not path.exists():
            raise DataError(f"{path} does not exist")
        return [path]
    files = sorted(file for file in path.rglob("*") if file.name.endswith(CSV_SUFFIXES) and file.is_file())
    if not files:
        raise DataError(f"{path} holds no *.csv or *.csv.gz file")
    return files


class PendingFile:
    """A file that is being written and has no name yet."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path, self._file = path, file
        self.write = file.write

    def commit(self, path: Path) -> None:
        """Let it appear, whole, at `path`, which is in the folder that it was begun in."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._path.replace(path)


@contextmanager
def pending_file(folder: Path) -> Iterator[PendingFile]:
    """A file to write, which vanishes if it isn't committed before the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{uuid4().hex}.tmp"
    try:
        with path.open("xb") as file:
            yield PendingFile(path, file)
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def atomic_file(path: Path) -> Iterator[PendingFile]:
    """A file to write that appears at `path` whole when the block ends, and not at all if it fails."""
    with pending_file(path.parent) as pending:
        yield pending
        pending.commit(path)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file at once: afterwards it holds all of `content`, or what it held before."""
    with atomic_file(path) as file:
        file.write(content)


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a CSV with a header, all of whose rows have the columns of the first."""
    text = io.StringIO()
    table = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def append(path: Path, whole: PendingFile) -> None:
    """Write the content of a file to another, a piece at a time."""
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            whole.write(piece)


def read_rows(path: Path) -> Iterator[list[str]]:
    """The rows of a CSV."""
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.reader(file)


def write_rows(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Write a CSV at once."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_bytes(path, text.getvalue().encode())


def remove(folder: Path, *names: str) -> None:
    """Remove files and folders of these names, if they are there."""
    for name in names:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def check_output(output: Path, *patterns: str, overwrite: bool) -> None:
    """Raise OutputError if the output folder can't be written or, unless it may be overwritten,
    already holds something of these names.
    """
    if output.exists() and not output.is_dir():
        raise OutputError(f"--output {output} is a file; it must be a folder")
    nearest = next(folder for folder in (output, *output.absolute().parents) if folder.is_dir())
    try:
        with TemporaryDirectory(dir=nearest):
            pass
    except OSError as error:
        raise OutputError(f"--output {output} can't be written: {error.strerror}") from None
    if overwrite:
        return
    for pattern in patterns:
        for existing in output.glob(pattern):
            raise OutputError(
                f"--output {output} already holds a result ({existing.relative_to(output)});"
                " choose another folder, or add --overwrite to replace it"
            )
