"""Paths in object storage, with pathlib's words, on pyarrow's filesystems."""

from __future__ import annotations

import io
import mmap
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import PurePosixPath
from typing import IO, Self

from pyarrow import NativeFile, fs

from lstmfcn.errors import LocationError

SCHEMES = ("s3", "gs")
_BUCKET = re.compile("[a-z0-9][a-z0-9._-]*")
_BUFFER_BYTES = 1 << 20
_UPLOAD_BYTES = 64 << 20
_SMALL_BYTES = 4096
_PAUSES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds between attempts at a small object."""


@dataclass(frozen=True, slots=True)
class ObjectPath:
    """A place in object storage: `s3://bucket/key` or `gs://bucket/key`.

    Credentials, region and endpoint are those of the environment: variables, configuration files, the
    machine's role. What the store answers to wrong ones is an OSError.
    """

    scheme: str
    key: PurePosixPath
    """Key of the object or folder, with the bucket before it."""

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Read a URI. Raises LocationError for one that can't be used."""
        scheme, _, key = uri.partition("://")
        scheme = scheme.lower()
        if scheme not in SCHEMES:
            known = " and ".join(f"{known}://" for known in SCHEMES)
            raise LocationError(f"a path begins with {scheme}://; object storage is {known}")
        bucket = key.partition("/")[0]
        if not _BUCKET.fullmatch(bucket):  # which may hold a secret, and isn't repeated
            raise LocationError(
                f"what follows {scheme}:// is no bucket's name; {scheme}://bucket/path would be right,"
                " and credentials are set in the environment"
            )
        return cls(scheme, PurePosixPath(key))

    def __str__(self) -> str:
        return f"{self.scheme}://{self.key}"

    def __truediv__(self, name: str) -> Self:
        return type(self)(self.scheme, self.key / name)

    @property
    def name(self) -> str:
        return self.key.name

    @property
    def parent(self) -> Self:
        return type(self)(self.scheme, self.key.parent)

    @property
    def is_bucket(self) -> bool:
        return len(self.key.parts) == 1

    def resolve(self) -> Self:
        return self

    def relative_to(self, folder: Self) -> PurePosixPath:
        return self.key.relative_to(folder.key)

    def is_relative_to(self, folder: Self) -> bool:
        return self.scheme == folder.scheme and self.key.is_relative_to(folder.key)

    def exists(self) -> bool:
        return bool(self.info().type != fs.FileType.NotFound)

    def is_file(self) -> bool:
        return bool(self.info().is_file)

    def open(self, mode: str = "rb", buffering: int = _BUFFER_BYTES) -> io.BufferedReader:
        """Open the object for reading bytes, `buffering` of them at once. Raises FileNotFoundError."""
        assert mode == "rb"
        file = self._filesystem().open_input_file(str(self.key))
        raw = io.BytesIO(_read_small(file)) if file.size() <= _SMALL_BYTES else file
        return io.BufferedReader(raw, buffering)

    def glob(self, pattern: str) -> Iterator[Self]:
        """Yield what matches one of pathlib's patterns: a name with `*`, perhaps with `**/` before it; here a
        `*` also stands for slashes.
        """
        for info in self.below(recursive=True):
            path = type(self)(self.scheme, PurePosixPath(info.path))
            if fnmatchcase(str(path.relative_to(self)), pattern.removeprefix("**/")):
                yield path

    def files(self) -> list[tuple[Self, fs.FileInfo]]:
        """Return the object itself, or all objects below this folder, with what is known of each. A key with
        // or /./ in it is no path: what is known of its object comes with the path of another.
        """
        info = self.info()
        found = [info] if info.is_file else self.below(recursive=True)
        return [(type(self)(self.scheme, PurePosixPath(info.path)), info) for info in found if info.is_file]

    def below(self, *, recursive: bool) -> list[fs.FileInfo]:
        """Return what lies below this folder, with sizes and times, by a request for each thousand."""
        selector = fs.FileSelector(str(self.key), allow_not_found=True, recursive=recursive)
        return list(self._filesystem().get_file_info(selector))

    def names(self) -> set[str]:
        """Return the names of the objects and folders in this folder."""
        # In Google's store pyarrow lists no folder, unless an object stands for it, but what is in it.
        infos = self.below(recursive=self.scheme == "gs")
        return {PurePosixPath(info.path).relative_to(self.key).parts[0] for info in infos}

    def upload(self, file: IO[bytes]) -> None:
        """Upload an open local file, which appears here as a whole or not at all."""
        # In a thread, which Ctrl-C can't end half-way: a stream left open completes its upload all the same.
        with ThreadPoolExecutor(1) as uploader:
            uploader.submit(self._upload, file).result()

    def _upload(self, file: IO[bytes]) -> None:
        size = os.fstat(file.fileno()).st_size
        # Mapped, since reading can fail half-way; an empty file can't be.
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else io.BytesIO() as local:
            stream = self._filesystem().open_output_stream(str(self.key), compression=None)
            try:
                while piece := local.read(_UPLOAD_BYTES):
                    stream.write(piece)
                    stream.flush()  # else the memory fills faster than the network empties it
            finally:
                stream.close()  # raises what went wrong with it, and nothing appears

    def remove(self) -> None:
        """Remove the object, or all that is below this folder; do nothing if there is nothing."""
        match self.info().type:
            case fs.FileType.File:
                self._filesystem().delete_file(str(self.key))
            case fs.FileType.Directory:
                with suppress(FileNotFoundError):  # in Google's store, where no object stands for it
                    self._filesystem().delete_dir(str(self.key))

    def info(self) -> fs.FileInfo:
        """Return what is known of the object or folder, if there is one."""
        return self._filesystem().get_file_info(str(self.key))

    def _filesystem(self) -> fs.FileSystem:
        return _filesystem(f"{self.scheme}://{self.key.parts[0]}")


def _read_small(file: NativeFile) -> bytes:
    # pyarrow asks a busy store again, but not if the refusal is longer than the object, since it has made
    # room for no more than that.
    for pause in _PAUSES:
        try:
            return bytes(file.read_at(file.size(), 0))
        except OSError:
            time.sleep(pause)
    return bytes(file.read_at(file.size(), 0))


@cache
def _filesystem(bucket: str) -> fs.FileSystem:
    # With this an upload that fits in one request isn't preceded by another that announces it.
    options = "?allow_delayed_open=true" if bucket.startswith("s3:") else ""
    filesystem, _ = fs.FileSystem.from_uri(bucket + options)
    return filesystem
