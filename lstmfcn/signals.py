"""The signals that end a job: Ctrl-C, a request to terminate, and the closing of its terminal."""

from __future__ import annotations

import errno
import os
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def end_on_signals() -> None:
    """Let SIGTERM, which `docker stop` and `ray job stop` send, and SIGHUP, which a terminal sends when it is
    closed, end a job as Ctrl-C does. Where SIGHUP is ignored, by `nohup`, it stays so.

    Ray installs a handler of its own for SIGTERM when it starts, so this is called again after that.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, _hang_up)


@contextmanager
def outliving_the_terminal() -> Iterator[None]:
    """Keep processes started in the block from ending when the terminal is closed: the job ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _hang_up(_signal: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGHUP, _hang_up_again)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for output in (1, 2):
        if stat.S_ISCHR(os.fstat(output).st_mode):  # the terminal, where every further print would fail
            os.dup2(nowhere, output)
    if not _is_ending(sys.exception()):
        _interrupt(signal.SIGHUP, frame)


def has_hung_up() -> bool:
    """Return whether the terminal has been closed, and this job is ending because of it."""
    return signal.getsignal(signal.SIGHUP) is _hang_up_again


def _hang_up_again(_signal: int, _frame: FrameType | None) -> None:
    """Do nothing: the shell sends one SIGHUP and the system another."""


def _is_ending(error: BaseException | None) -> bool:
    """Return whether an error ends the job already: Ctrl-C's, or that of a print to the closed terminal."""
    return isinstance(error, KeyboardInterrupt) or (isinstance(error, OSError) and error.errno == errno.EIO)


def _interrupt(_signal: int, frame: FrameType | None) -> None:
    # Not by sending SIGINT, which Ray's job supervisor blocks and a shell ignores in background jobs.
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler):
        handler(signal.SIGINT, frame)
    else:
        raise KeyboardInterrupt
