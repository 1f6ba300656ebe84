"""Whose an output folder is: that of the run which took it over last. An earlier one, which was thought dead
but still runs, ends when it sees that.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from lstmfcn import storage
from lstmfcn.errors import MissingDataError, OutputError
from lstmfcn.object_storage import ObjectPath
from lstmfcn.storage import Location

OWNER = "owner"
"""Name of the file that holds the mark of the owner."""
_SECONDS_BETWEEN_LOOKS = 10.0
_SECONDS_TO_APPEAR = 60.0
"""For which a client of NFS may remember that a name was missing (acdirmax in nfs(5))."""


class Ownership:
    """One run's claim to an output folder."""

    def __init__(self, output: Location, folder: Location) -> None:
        """The owner is told in a file in `folder`, which lies in the output folder."""
        self._output, self._folder = output, folder
        self._mark = ""
        self._looked = 0.0

    def take(self) -> None:
        """Own the output folder from now on."""
        mark = uuid4().hex
        storage.write_bytes(self._folder / OWNER, mark.encode())
        self._mark = mark
        self._looked = time.monotonic()

    def look(self) -> None:
        """Do what `refuse_another` does, at most every ten seconds."""
        if time.monotonic() >= self._looked + _SECONDS_BETWEEN_LOOKS:
            self.refuse_another()
            self._looked = time.monotonic()

    def refuse_another(self) -> None:
        """Raise OutputError if another run has taken the output folder over since this one took it."""
        if not self._mark:
            return
        try:
            is_own = storage.read_bytes(self._folder / OWNER) == self._mark.encode()
        except MissingDataError:
            is_own = False
        if not is_own:
            raise OutputError(f"--output {self._output} was taken over by another run; this one ends")

    def absence(self, node: str) -> str:
        """Return a sentence if the folder that this run took isn't there on the node on which this process
        runs; else nothing.
        """
        if isinstance(self._folder, ObjectPath) or not self._mark:
            return ""
        give_up = time.monotonic() + _SECONDS_TO_APPEAR
        while not _exists(self._folder / OWNER):
            if time.monotonic() >= give_up:
                missing = f"--output {self._output} isn't there on node {node}"
                return f"{missing}; on a cluster it must be a folder that all nodes share"
            time.sleep(1)
        return ""

    def give_up(self) -> None:
        """Own the output folder no longer, and leave no mark. Raises OutputError as `refuse_another` does."""
        self.refuse_another()
        storage.remove(self._folder, OWNER)
        self._mark = ""


def _exists(path: Path) -> bool:
    """Return whether a file is there; False while its disk fails."""
    with suppress(OSError):
        return path.exists()
    return False
