"""The files that a path stands for: the file itself, or those below a folder."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lstmfcn import storage
from lstmfcn.errors import DataError, MissingDataError
from lstmfcn.object_storage import ObjectPath
from lstmfcn.storage import Location

CSV_SUFFIXES = (".csv", ".csv.gz")
_ERRNOS_OF_NOTHING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""Errors that say that a path, or what it links to, isn't there."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file, and what distinguishes it from another that has the same name later."""

    path: Location
    size: int
    modified: int
    """Time of the last change, in nanoseconds since 1970."""


def stored(path: Location) -> StoredFile:
    """Return what a path names now. Raises FileNotFoundError when that is nothing, or no object."""
    if isinstance(path, ObjectPath):
        info = path.info()
        if not info.is_file:
            raise FileNotFoundError(path)
        return StoredFile(path, info.size, info.mtime_ns)
    status = path.stat()
    return StoredFile(path, status.st_size, status.st_mtime_ns)


def files(path: Location) -> list[StoredFile]:
    """Return the file itself, or every file below a folder, sorted. Raises DataError when there is no such
    path, for a broken link that may be meant for data, and for a CSV object whose key is no path.
    """
    if isinstance(path, ObjectPath):
        objects = path.files()
        for file, info in objects:
            if str(file.key) != info.path and info.path.endswith(CSV_SUFFIXES):
                raise DataError(
                    f"the key {path.scheme}://{info.path} has // or /./ in it, where a path has /; give the"
                    " object another one"
                )
        found = [StoredFile(file, info.size, info.mtime_ns) for file, info in objects]
    else:
        paths = [path] if path.is_file() else [below for below in _below(path) if _is_file(below)]
        found = [stored(file) for file in paths]
    if not found and not path.exists():
        raise MissingDataError(f"{path} does not exist")
    return sorted(found, key=lambda file: str(file.path))


def _is_file(path: Path) -> bool:
    """Return whether it is a file. Raises DataError for a broken link that may stand for data: one named as
    CSV, or without a suffix, as a folder is.
    """
    try:
        return stat.S_ISREG(path.stat().st_mode)  # is_file() says no to a failing disk, in Python 3.14
    except OSError as error:
        if error.errno not in _ERRNOS_OF_NOTHING:
            raise
    is_data = path.name.endswith(CSV_SUFFIXES) or not path.suffix
    if is_data and not path.name.startswith(".") and path.is_symlink():
        raise DataError(f"{path} is a link to {path.readlink()}, which does not exist")
    return False


def _below(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder, in those below it and in those elsewhere that it links to, each folder
    once. Raises DataError for a folder that can't be read.
    """
    root, entered = folder.resolve(), set[tuple[int, int]]()

    def overlaps(other: Path) -> bool:
        return other.is_relative_to(root) or root.is_relative_to(other)

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise DataError(f"{error.filename} can't be read: {storage.reason(error)}")

    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        for name in sorted(folders):
            below = Path(parent, name)
            try:
                status = below.stat()
            except OSError as error:
                refuse(error)
                folders.remove(name)
                continue
            identity = status.st_dev, status.st_ino
            if identity in entered or (below.is_symlink() and overlaps(below.resolve())):
                folders.remove(name)
            else:
                entered.add(identity)
        yield from (Path(parent, name) for name in names)


def csv_files(path: Location) -> list[Location]:
    """Return the file itself, or every *.csv and *.csv.gz below a folder, sorted.

    Raises DataError when there is none.
    """
    if path.is_file() or (isinstance(path, Path) and path.is_fifo()):
        return [path]
    found = [file.path for file in files(path) if file.path.name.endswith(CSV_SUFFIXES)]
    if not found:
        raise DataError(f"{path} holds no *.csv or *.csv.gz file")
    return found
