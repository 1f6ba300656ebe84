"""Progress of long work: a live bar with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts steps towards a total. Lines go to stdout; the bar, on a terminal, to stderr."""

    def __init__(self, task: str, total: int, unit: str) -> None:
        self._task, self._total, self._unit = task, total, unit
        self._started = self._said = time.monotonic()
        self._done = 0
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]} {task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
            redirect_stdout=sys.stdout.isatty(),
            transient=True,
        )

    def __enter__(self) -> Self:
        self._row = self._bar.add_task(self._task, total=self._total, unit=self._unit, rate="")
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, line: str | None = None, steps: int = 1) -> None:
        """Count steps and print a line; without one, a line on the progress now and then."""
        self._done += steps
        self._bar.update(self._row, advance=steps, rate=self._rate())
        if line is not None:
            print(line, flush=True)
        elif self._bar.disable and time.monotonic() - self._said >= _SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            print(self._summary(), flush=True)

    def _rate(self) -> str:
        return f"{self._done / max(time.monotonic() - self._started, 1e-9):,.1f}/s"

    def _summary(self) -> str:
        left = (time.monotonic() - self._started) / self._done * (self._total - self._done)
        counted = f"{self._done:,} of {self._total:,} {self._unit}"
        return f"{self._task}: {counted}, {self._rate()}, about {left:.0f} s left"
