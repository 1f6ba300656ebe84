"""Jobs as a user calls them."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import pytest

from lstmfcn import command

SMALL = ["--filters-1=4", "--filters-2=4", "--filters-3=4", "--batch-size=8", "--hidden-size=3"]
"""Flags of a small network."""


def status_of(job: Callable[..., None], *flags: object) -> int:
    """Return the exit status of a job that is called with these flags."""
    with pytest.raises(SystemExit) as ended:
        command.run(job, "python -m jobs.x", [str(flag) for flag in flags])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def refused(
    capsys: pytest.CaptureFixture[str], output: Path, job: Callable[..., None], *flags: object
) -> str:
    """Return the sentence with which a job refuses its input, having left nothing behind."""
    assert status_of(job, *flags, "--output", output) == 2
    return _sentence(capsys, output)


def refused_call(
    capsys: pytest.CaptureFixture[str], output: Path, job: Callable[..., None], **given: object
) -> str:
    """Do as `refused` does, without the flags of the job, which take 30 ms to parse."""
    assert status_of(lambda: job(output=output, **given)) == 2
    return _sentence(capsys, output)


def _sentence(capsys: pytest.CaptureFixture[str], output: Path) -> str:
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Traceback" not in error
    assert not output.exists()
    return error


def without_room(call: str) -> str:
    """Return what a call raises in a process whose files can't grow, as on a full disk."""
    program = (
        "import resource\n"
        "from pathlib import Path\n"
        "from lstmfcn import output_folder, storage\n"
        "_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))\n"
        f"{call}\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, check=False)
    return ended.stderr.splitlines()[-1]


@contextmanager
def in_terminal(command: Sequence[str], cwd: Path) -> Iterator[tuple[subprocess.Popen[bytes], TextIO]]:
    """Yield a process, killed after the block, that leads its own group, and the terminal it writes to."""
    master, slave = pty.openpty()
    heeding = ("env", "--default-signal=HUP", *command)  # also where the tests run under nohup
    with subprocess.Popen(
        heeding, cwd=cwd, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    ) as process:
        os.close(slave)
        try:
            with os.fdopen(master) as terminal:
                yield process, terminal
        finally:
            process.kill()


def close(terminal: TextIO, process: subprocess.Popen[bytes]) -> None:
    """Close a terminal as its window does: system and shell each send a SIGHUP to the whole group."""
    terminal.close()
    for _ in range(2):
        time.sleep(0.05)
        os.killpg(process.pid, signal.SIGHUP)
