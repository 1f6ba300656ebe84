"""Jobs that are submitted to a cluster do what they do on one machine."""

from __future__ import annotations

from pathlib import Path

from tests.ray.cluster.hosts import Hosts
from tests.ray.cluster.work import Outputs, Submitted, Work, leaderboard, outputs


def test_a_submitted_transform_gives_the_bytes_of_a_local_one(
    nodes: Hosts, work: Work, transformed: Outputs, output: Path
) -> None:
    job = Submitted(nodes, work.transform(output))

    assert job.wait(120) == 0, job.log

    assert job.state() == "SUCCEEDED"
    assert outputs(output) == transformed


def test_a_submitted_sweep_gives_the_leaderboard_of_a_local_one(
    nodes: Hosts, work: Work, swept: dict[str, tuple[str, ...]], output: Path
) -> None:
    job = Submitted(nodes, work.tune(output))

    assert job.wait(180) == 0, job.log

    assert job.state() == "SUCCEEDED"
    assert leaderboard(output) == swept
