"""Progress of long work: a live bar with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self, TextIO

from rich.console import Console, RenderableType
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts work towards a total. If stderr is a terminal, a bar is shown there; else a line is printed to
    stdout every ten seconds, whether or not work got done.
    """

    def __init__(
        self,
        task: str,
        total: float,
        unit: str,
        *,
        above: Callable[[], RenderableType] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`above` returns what to show over the bar, and is called ten times a second."""
        self._task, self._total, self._unit = task, total, unit
        self._clock = clock
        self._started = clock()
        self._done = self._before = 0.0
        self.state = ""
        """Text to show after the counts."""
        self._counts: dict[str, int] = {}
        self._bar = _Bar(
            above,
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            _TimeLeft(self._time_left),
            TextColumn("{task.fields[counted]}", markup=False),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
            redirect_stdout=sys.stdout.isatty(),
            transient=True,
        )
        self._ended = Event()
        self._talker = Thread(target=self._print_lines, daemon=True)

    def __enter__(self) -> Self:
        self._row = self._bar.add_task(self._task, total=self._total, counted="")
        self._bar.start()
        if self._bar.disable:
            self._talker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        self._ended.set()
        if self._bar.disable:
            self._talker.join()  # else its last line could come after those that follow the work

    def __str__(self) -> str:
        return f"{self._task}: {self._counted()}, {self._time_left()}"

    def _print_lines(self) -> None:
        while not self._ended.wait(_SECONDS_BETWEEN_LINES):
            say(str(self))

    def advance(self, line: str | None = None, work: float = 1) -> None:
        """Count work done, and print a line about it if there is one."""
        self._done += work
        self._bar.update(self._row, advance=work, counted=self._counted())
        if line is not None:
            say(line)

    def skip(self, work: float) -> None:
        """Count work that was done before, which tells nothing of the rate."""
        self._before += work
        self._bar.update(self._row, advance=work, counted=self._counted())

    def count(self, unit: str, number: int) -> None:
        """Count something else along with the work, to be shown beside it."""
        self._counts[unit] = self._counts.get(unit, 0) + number

    def _counted(self) -> str:
        seconds = max(self._clock() - self._started, 1e-9)
        digits = 0 if self._total >= 10 or float(self._total).is_integer() else 2
        done = f"{self._before + self._done:,.{digits}f} of {self._total:,.{digits}f} {self._unit}"
        shown = [f"{done}, {_rate(self._done / seconds)}" if self._done else done]
        shown += [
            f"{number:,} {unit}, {number / seconds:,.0f}/s" for unit, number in list(self._counts.items())
        ]
        return "; ".join([*shown, self.state] if self.state else shown)

    def _time_left(self) -> str:
        if self._done == 0:
            return "time left unknown"
        seconds = (self._clock() - self._started) / self._done * (self._total - self._before - self._done)
        if seconds < 100:
            return f"about {seconds:.0f} s left"
        minutes = round(seconds / 60)
        return f"about {minutes} min left" if minutes < 100 else f"about {minutes / 60:.1f} h left"


class _TimeLeft(ProgressColumn):
    """The time left as the lines have it; rich's own column forgets what is longer ago than 30 s."""

    def __init__(self, time_left: Callable[[], str]) -> None:
        self._time_left = time_left
        super().__init__()

    def render(self, task: Task) -> Text:
        """Return the text to show."""
        return Text(self._time_left())


class _Bar(Bar):
    """A bar with something else shown over it."""

    def __init__(
        self, above: Callable[[], RenderableType] | None, *columns: ProgressColumn, **how: Any
    ) -> None:
        self._above = above
        super().__init__(*columns, **how)

    def get_renderables(self) -> Iterable[RenderableType]:
        if self._above is not None:
            yield self._above()
        yield from super().get_renderables()


def say(text: str, stream: TextIO | None = None, end: str = "\n") -> None:
    """Print a text, to stdout unless another stream is given. Once that can't be written, mostly since nobody
    reads it any more, this text and those that follow are lost, and the work goes on.
    """
    stream = stream or sys.stdout
    try:
        print(text, end=end, file=stream, flush=True)
    except OSError:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 (a device)
            os.dup2(nowhere.fileno(), stream.fileno())


def _rate(per_second: float) -> str:
    if 0 < per_second < 0.5:
        return f"{60 * per_second:,.1f}/min"
    return f"{per_second:,.1f}/s"
