"""The folder of a command's results, judged before anything is computed."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile
from uuid import uuid4

from lstmfcn import storage
from lstmfcn.errors import OutputError
from lstmfcn.object_storage import ObjectPath
from lstmfcn.storage import Location

_PROBE_BYTES = 4096
_SUBMITTED = "working_dir_files"
"""Where Ray keeps the folders that came with submitted jobs, until nothing runs in them."""


def check(output: Location, *patterns: str, overwrite: bool) -> None:
    """Raise OutputError if the output folder can't be written, would be lost or, unless it may be
    overwritten, already holds something that matches a pattern.
    """
    if isinstance(output, Path) and not output.is_absolute() and _SUBMITTED in Path.cwd().parts:
        raise OutputError(
            f"--output {output} would be lost with the copy of a folder that a submitted job runs in;"
            " an absolute path, of a folder that all nodes share, would be right"
        )
    try:
        is_file = output.is_file()
        if not is_file:
            _try_to_write(output)
    except OSError as error:
        raise OutputError(unwritable(output, error)) from None
    if is_file:
        raise OutputError(f"--output {output} is a file; it must be a folder")
    if overwrite:
        return
    for pattern in patterns:
        for existing in output.glob(pattern):
            raise OutputError(
                f"--output {output} already holds a result ({storage.relative(existing, output)});"
                " choose another folder, or add --overwrite to replace it"
            )


def unwritable(output: Location, error: OSError) -> str:
    """Return the sentence on an output folder that can't be written."""
    return f"--output {output} can't be written: {storage.reason(error)}"


def refuse_resume_and_overwrite(*, resume: bool, overwrite: bool) -> None:
    """Raise OutputError when a job is both to go on and to start over."""
    if resume and overwrite:
        raise OutputError("--resume goes on and --overwrite starts over; give one of them")


def refuse_within(output: Location, *data: Location | None) -> None:
    """Raise OutputError if the output folder lies within a folder of data."""
    for folder in data:
        if folder is not None and storage.is_within(output, folder):
            raise OutputError(
                f"--output {output} lies within {folder}, all of whose CSV files are data, as those of"
                " results would be"
            )


def _try_to_write(folder: Location) -> None:
    if isinstance(folder, ObjectPath):
        probe = folder / f".{uuid4().hex}.tmp"
        storage.write_bytes(probe, b"")
        probe.remove()
    else:
        nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with TemporaryFile(dir=nearest) as probe_file:
            probe_file.write(bytes(_PROBE_BYTES))  # an empty file has room on a full disk
