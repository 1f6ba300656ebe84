from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import ray

from lstmfcn import actors

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote(max_restarts=-1, max_task_retries=-1, num_cpus=0)
class Weary:
    """Its process dies as long as it is told to."""

    def work(self, folder: Path) -> None:
        if len(list(folder.iterdir())) < 3:
            (folder / str(os.getpid())).touch()
            os._exit(1)


def test_processes_that_die_again_and_again_are_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(actors, "_SECONDS_BETWEEN_LOOKS", 0.05)
    monkeypatch.setattr(actors, "_MANY_LOSSES", 2)

    with actors.watching("Weary"):
        ray.get(Weary.remote().work.remote(tmp_path))  # type: ignore[attr-defined]
        give_up = time.monotonic() + 60
        while not caplog.messages and time.monotonic() < give_up:
            time.sleep(0.01)

    assert caplog.messages[0] == (
        "predictors lost their processes 2 times and were started again; use fewer (--predictors of"
        " jobs.transform), or give them more memory"
    )


@ray.remote
class Idle:
    """It has begun once it answers."""

    def answer(self) -> None:
        pass


def test_actors_have_begun_once_their_processes_are_ready() -> None:
    idle = [Idle.options(num_cpus=cpus).remote() for cpus in (0, 1000)]  # type: ignore[attr-defined]
    ray.get(idle[0].answer.remote())

    assert [actors.have_begun("Idle", count) for count in (1, 2)] == [True, False]
    assert not actors.have_begun("Nobody")
    for one in idle:
        ray.kill(one)
