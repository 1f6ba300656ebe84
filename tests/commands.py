"""Jobs as a user calls them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lstmfcn import command

SMALL = ["--filters-1=4", "--filters-2=4", "--filters-3=4", "--batch-size=8", "--hidden-size=3"]
"""Flags of a small network."""


def status_of(job: Callable[..., None], *flags: object) -> int:
    """The exit status of a job that is called with these flags."""
    with pytest.raises(SystemExit) as ended:
        command.run(job, "python -m jobs.x", [str(flag) for flag in flags])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def refused(
    capsys: pytest.CaptureFixture[str], output: Path, job: Callable[..., None], *flags: object
) -> str:
    """The sentence with which a job refuses its input, having left nothing behind."""
    assert status_of(job, *flags, "--output", output) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Traceback" not in error
    assert not output.exists()
    return error
