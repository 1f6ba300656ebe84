from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from lstmfcn.trial_process import NUMBER, TrialProcess
from lstmfcn.trials import Status, Trial, TrialFolders
from tests.samples import TINY


class Left:
    """In place of a trial at work."""

    for_good: bool | None = None

    def leave(self, *, for_good: bool) -> None:
        self.for_good = for_good


@pytest.mark.parametrize(("status", "expected"), [("stopped early", True), ("running", False), (None, False)])
def test_a_trial_is_left_for_good_when_it_is_noted_to_have_ended(
    status: Status | None, expected: bool, tmp_path: Path
) -> None:
    folders = TrialFolders(tmp_path)
    if status is not None:
        folders.write(Trial(number=1, hyperparameters=TINY, status=status))
    folders.write(Trial(number=2, hyperparameters=TINY))
    process: Any = TrialProcess.__new__(TrialProcess)
    process._folders, process._run, process._number = folders, (left := Left()), 1
    process.config = {NUMBER: 2}  # which Tune has set already

    process.cleanup()

    assert left.for_good == expected


def test_what_a_trial_can_not_write_when_it_is_left_does_not_fail_the_next_one(tmp_path: Path) -> None:
    class OnAFullDisk:
        def leave(self, *, for_good: bool) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    process: Any = TrialProcess.__new__(TrialProcess)
    process._folders, process._run, process._number = TrialFolders(tmp_path), OnAFullDisk(), 1

    assert process.reset_config({NUMBER: 2})
    assert process._run is None
