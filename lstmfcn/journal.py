"""What a transform has done so far, on disk, so that it can go on after a crash and nothing is mixed up.

A work folder inside the output folder holds plan.json, which says what is computed from what; the mark of the
transform that began or resumed last; and a folder of the run, since an earlier run that was thought dead may
still write. The run's folder has a folder for each file, with a part for each range that is done, complete as
soon as it has its name. The name tells the counts: `<part>.<rows>-<bad rows>`. The rejects of a part's bad
rows lie beside it, and are written before it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from uuid import uuid4

from lstmfcn import storage
from lstmfcn.errors import OutputError
from lstmfcn.ownership import OWNER, Ownership
from lstmfcn.prediction_format import REJECTS_SUFFIX
from lstmfcn.storage import Location, PendingFile

_WORK_FOLDER = ".transform"
_PLAN = "plan.json"
_SUMMARY = "transform.json"
_PART = re.compile(r"(\d+)/(\d+)\.(\d+)-(\d+)")
_FAULT = "fault-"
_CONCLUDED = "concluded"
_OUTPUT_SUFFIX = ".out"

RESULT_PATTERNS = (f"**/*{_OUTPUT_SUFFIX}", f"**/*{REJECTS_SUFFIX}", _SUMMARY)
"""What a transform writes to its output folder."""


@dataclass(frozen=True, slots=True)
class Part:
    """The predictions of a range that is done."""

    file: int
    part: int
    num_rows: int
    num_bad: int

    @property
    def name(self) -> str:
        """Path of its predictions, below the run's folder."""
        return f"{self.file}/{self.part}.{self.num_rows}-{self.num_bad}"

    @property
    def rejects_name(self) -> str:
        """Path of its rejects, below the run's folder, if it has bad rows."""
        return f"{self.file}/{self.part}.rejects"


def _result_names(inputs: Iterable[str]) -> set[str]:
    """Return the paths that the outputs and rejects of these inputs have, below the output folder."""
    return {f"{name}{end}" for name in inputs for end in (_OUTPUT_SUFFIX, REJECTS_SUFFIX)}


class Journal:
    """The work folder of one transform."""

    def __init__(self, output: Location) -> None:
        self.output = output.resolve()
        self._run = ""
        self.ownership = Ownership(self.output, self._work_folder)

    @property
    def folder(self) -> Location:
        """The folder of this run."""
        return self._work_folder / self._run

    @property
    def _work_folder(self) -> Location:
        return self.output / _WORK_FOLDER

    def is_unfinished(self) -> bool:
        """Whether there is something to resume."""
        return (self._work_folder / _PLAN).exists()

    def can_go_on(self) -> bool:
        """Whether `resume` would go on; not while what earlier transforms have left is being removed."""
        return self.is_unfinished() and _is_whole(_read(self._work_folder / _PLAN))

    def begin(self, plan: dict[str, Any]) -> None:
        """Remove what earlier transforms have left, and record what is going to be computed.

        Raises OutputError when an output would lie where another one needs a folder, or when another run took
        over.
        """
        own = {name for name, *_ in plan["input"]}
        self._refuse_clashes(own)
        inputs = own | set(self._earlier_inputs())
        self._run = uuid4().hex
        self.ownership.take()
        self._write_plan({"input": [[name] for name in inputs]})  # for the next, if this one ends here
        stale = _result_names(inputs) & set(storage.names_below(self.output))
        for name in (_SUMMARY, *stale):
            self.ownership.refuse_another()
            storage.remove(self.output, name)
        self.ownership.refuse_another()
        self._write_plan(plan)
        for name in set(storage.names(self._work_folder)) - {OWNER, _PLAN}:
            self.ownership.refuse_another()
            with suppress(OSError):  # where an earlier run still writes
                storage.remove(self._work_folder, name)

    def _refuse_clashes(self, inputs: set[str]) -> None:
        folders = {str(folder) for name in inputs for folder in PurePosixPath(name).parents}
        files = _result_names(inputs)
        for name in sorted(folders & (files | {_SUMMARY, _WORK_FOLDER})):
            raise OutputError(
                f"the input's folder {name} has the name of a file or folder that a transform writes to"
                f" {self.output}; rename it"
            )

    def _earlier_inputs(self) -> Iterator[str]:
        """Yield the paths, below the input folder, of the files that an earlier transform here has read."""
        for path in (self._work_folder / _PLAN, self.output / _SUMMARY):
            if path.exists():
                with suppress(ValueError, LookupError, TypeError, AttributeError):  # another program's file
                    recorded = json.loads(storage.read_bytes(path))
                    yield from [name for name, *_ in recorded.get("input", [])]
                    yield from [file["relative"] for file in recorded.get("files", [])]

    def _write_plan(self, plan: dict[str, Any]) -> None:
        content = json.dumps({**plan, "run": self._run}, indent=1).encode()
        storage.write_bytes(self._work_folder / _PLAN, content)

    def resume(self, plan: dict[str, Any]) -> dict[str, Any]:
        """Take up the recorded run and return its plan.

        Raises OutputError unless there is one, with the same values as `plan`.
        """
        if not self.is_unfinished():
            raise OutputError(f"--resume: {self.output} holds no unfinished transform; leave it out")
        recorded = _read(self._work_folder / _PLAN)
        if not _is_whole(recorded):
            raise OutputError(
                f"--resume: {self.output} holds what --overwrite had begun to replace; only --overwrite goes"
                " on"
            )
        for name, value in plan.items():
            if recorded.get(name) != value:
                raise OutputError(
                    f"--resume: {_difference(name, recorded.get(name), value)} since {self.output} was"
                    " begun; --overwrite starts over"
                )
        self._run = recorded["run"]
        return recorded

    def ended(self, plan: str) -> dict[str, Any] | None:
        """Return transform.json if the transform of this plan, given by its digest, has ended here; None if
        none has ended. Raises OutputError if another one has, or if an output has gone since.
        """
        if self.is_unfinished() or not (self.output / _SUMMARY).exists():
            return None
        recorded = _read(self.output / _SUMMARY)
        if recorded.get("plan") != plan:
            raise OutputError(
                f"--resume: {self.output} holds what was computed from another checkpoint or input, or in"
                " another way; --overwrite starts over"
            )
        outputs = {f"{file['relative']}{_OUTPUT_SUFFIX}" for file in recorded["files"] if file["is_sound"]}
        for name in sorted(outputs - set(storage.names_below(self.output))):
            raise OutputError(f"--resume: {self.output} has lost {name}; --overwrite starts over")
        return recorded

    def holds_something(self) -> bool:
        """Whether there are predictions, or what a transform has begun or was about to replace."""
        return self.is_unfinished() or (self.output / _SUMMARY).exists()

    def checkpoint(self) -> str | None:
        """Return the digest of the checkpoint whose predictions are here or begun; None if there are none."""
        for path in (self._work_folder / _PLAN, self.output / _SUMMARY):
            if path.exists():
                recorded: str | None = _read(path).get("checkpoint")
                return recorded
        return None

    def pending(self) -> AbstractContextManager[PendingFile]:
        """Return a file to write and then commit; before that nobody sees it."""
        return storage.pending_file(self.folder)

    def parts(self) -> Iterator[Part]:
        """Yield the parts of the ranges that are done."""
        for name in storage.names_below(self.folder):
            if match := _PART.fullmatch(name):
                yield Part(*map(int, match.groups()))

    def join(self, parts: Sequence[Part], rows_before: Mapping[int, int], relative: str) -> None:
        """Join the parts of a file, in order, to its output, and their rejects with the file's row numbers.

        The parts stay until the file is noted as concluded.
        """
        with self.pending() as whole:
            storage.join([self.folder / part.name for part in parts], whole)
            self.ownership.refuse_another()
            whole.commit(self.output / f"{relative}{_OUTPUT_SUFFIX}")
        if any(part.num_bad for part in parts):
            rows = self._rejects(parts, rows_before)
            with self.pending() as rejects:
                for row in rows:
                    rejects.write(storage.csv_lines([row]))
                self.ownership.refuse_another()
                rejects.commit(self.output / f"{relative}{REJECTS_SUFFIX}")

    def _rejects(self, parts: Sequence[Part], rows_before: Mapping[int, int]) -> Iterator[list[object]]:
        yield ["row", "reason", "line"]
        for part in parts:
            if part.num_bad:
                for row, *rest in storage.read_rows(self.folder / part.rejects_name):
                    yield [rows_before[part.part] + int(row), *rest]

    def note_concluded(self, file: int, result: dict[str, Any]) -> None:
        """Record what became of a file, and remove its parts. Raises OutputError if another run, which may be
        about to join them, took over.
        """
        self.ownership.refuse_another()
        storage.write_bytes(self.folder / _CONCLUDED / str(file), json.dumps(result).encode())
        storage.remove(self.folder, str(file))

    def concluded(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the number of each file that is concluded, and what became of it."""
        folder = self.folder / _CONCLUDED
        noted = [name for name in storage.names(folder) if name.isdecimal()]
        for name, result in zip(noted, storage.read_all([folder / name for name in noted]), strict=True):
            yield int(name), json.loads(result)

    def end(self, summary: bytes | None) -> None:
        """Write transform.json, if there is a result, and remove the work folder; leave no empty folder."""
        self.ownership.refuse_another()
        if summary is not None:
            storage.write_bytes(self.output / _SUMMARY, summary)
        storage.remove(self._work_folder, _PLAN)  # first: without it nothing is to be resumed
        with suppress(OSError):  # where a process that was thought dead still writes
            storage.remove(self.output, _WORK_FOLDER)
        storage.remove_if_empty(self.output)

    def note_fault(self, file: int, part: int) -> None:
        """Record that a range has a bad row, for others to leave the file alone."""
        storage.write_bytes(self.folder / f"{_FAULT}{file}" / str(part), b"")

    def first_fault(self, file: int) -> int | None:
        """Return the first range of a file that is known to have a bad row; None if none is."""
        noted = storage.names(self.folder / f"{_FAULT}{file}")  # by themselves, since every range asks
        return min((int(name) for name in noted if name.isdecimal()), default=None)


def _read(path: Location) -> dict[str, Any]:
    """Read a JSON object. Raises OutputError if the file doesn't hold one."""
    try:
        recorded = json.loads(storage.read_bytes(path))
    except ValueError:
        recorded = None
    if not isinstance(recorded, dict):
        raise OutputError(f"{path} is not what a transform writes; --overwrite starts over")
    return recorded


def _is_whole(plan: dict[str, Any]) -> bool:
    """Return whether it is more than the list of what a transform had begun to remove."""
    return not plan.keys() <= {"input", "run"}


def _difference(name: str, recorded: object, value: object) -> str:
    if isinstance(recorded, list) and isinstance(value, list):
        return f"{name} changed"
    return f"{name} was {recorded} and is {value}"
