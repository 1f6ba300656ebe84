"""What a transform has done so far, on disk: so that it can go on after a crash and nothing is mixed up.

In a work folder inside the output folder lie plan.json, which says what is computed from what, and for every
range that is done one part file, which is complete as soon as it has its name. The name holds the counts:
`<file>-<part>.<rows>-<bad rows>`; with the rejects of its bad rows beside it, written before it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lstmfcn import storage
from lstmfcn.errors import OutputError
from lstmfcn.storage import Location

WORK_FOLDER = ".transform"
SUMMARY = "transform.json"

_PLAN = "plan.json"
_PART = re.compile(r"(\d+)-(\d+)\.(\d+)-(\d+)")
_FAULTS = "faults"
_CONCLUDED = "concluded"


@dataclass(frozen=True, slots=True)
class Part:
    """The predictions of a range that is done."""

    file: int
    part: int
    num_rows: int
    num_bad: int

    @property
    def name(self) -> str:
        """Of its file in the work folder."""
        return f"{self.file}-{self.part}.{self.num_rows}-{self.num_bad}"

    @property
    def rejects_name(self) -> str:
        """Of the file of its bad rows, if it has some."""
        return f"{self.file}-{self.part}.rejects"


class Journal:
    """The work folder of one transform."""

    def __init__(self, output: Location) -> None:
        self.folder = output.resolve() / WORK_FOLDER

    def begin(self, plan: dict[str, Any]) -> None:
        """Record what is going to be computed."""
        storage.write_bytes(self.folder / _PLAN, json.dumps(plan, indent=1).encode())

    def resume(self, plan: dict[str, Any]) -> dict[str, Any]:
        """The plan as recorded. Raises OutputError unless it has the same values as `plan`."""
        path = self.folder / _PLAN
        if not path.exists():
            raise OutputError(f"--resume: {self.folder.parent} holds no unfinished transform; leave it out")
        recorded = json.loads(storage.read_bytes(path))
        for name, value in plan.items():
            if recorded.get(name) != value:
                raise OutputError(
                    f"--resume: {_difference(name, recorded.get(name), value)} since {self.folder.parent} was"
                    " begun; --overwrite starts over"
                )
        return dict(recorded)

    def parts(self) -> Iterator[Part]:
        """The ranges that are done."""
        for name in storage.names(self.folder):
            if match := _PART.fullmatch(name):
                yield Part(*map(int, match.groups()))

    def join(self, parts: Sequence[Part], rows_before: Mapping[int, int], relative: str) -> None:
        """Join the parts of a file, in order, to its output, and their rejects with the file's row numbers.

        The parts stay until the file is noted as concluded.
        """
        output = self.folder.parent
        with storage.atomic_file(output / f"{relative}.out") as whole:
            storage.join([self.folder / part.name for part in parts], whole)
        if any(part.num_bad for part in parts):
            rows = [["row", "reason", "line"]]
            for part in parts:
                if part.num_bad:
                    for row, *rest in storage.read_rows(self.folder / part.rejects_name):
                        rows.append([str(rows_before[part.part] + int(row)), *rest])
            storage.write_rows(output / f"{relative}.rejects.csv", rows)

    def note_concluded(self, file: int, result: dict[str, Any], parts: Sequence[Part]) -> None:
        """Record what became of a file, and remove its parts."""
        storage.write_bytes(self.folder / f"{_CONCLUDED}-{file}", json.dumps(result).encode())
        rejects = [part.rejects_name for part in parts if part.num_bad]
        storage.remove(self.folder, *(part.name for part in parts), *rejects)

    def concluded(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The files of which it is known what became of them, and what."""
        for name in storage.names(self.folder):
            if name.startswith(f"{_CONCLUDED}-"):
                result = json.loads(storage.read_bytes(self.folder / name))
                yield int(name.rpartition("-")[2]), result

    def end(self, summary: bytes | None) -> None:
        """Write transform.json, if there is a result, and remove the work folder; leave no empty folder."""
        output = self.folder.parent
        if summary is not None:
            storage.write_bytes(output / SUMMARY, summary)
        storage.remove(output, WORK_FOLDER)
        storage.remove_if_empty(output)

    def note_fault(self, file: int, part: int) -> None:
        """Record that a range has a bad row, for others to leave the file alone."""
        storage.write_bytes(self.folder / _FAULTS / f"{file}-{part}", b"")

    def first_fault(self, file: int) -> int | None:
        """The first range of a file that is known to have a bad row."""
        noted = storage.names(self.folder / _FAULTS)  # apart, since every range asks
        of_file = [name for name in noted if name.startswith(f"{file}-")]
        return min((int(name.rpartition("-")[2]) for name in of_file), default=None)


def _difference(name: str, recorded: object, value: object) -> str:
    if isinstance(recorded, list) and isinstance(value, list):
        return f"{name} changed"
    return f"{name} was {recorded} and is {value}"
