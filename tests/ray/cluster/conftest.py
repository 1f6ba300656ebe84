from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ray.cluster.hosts import Hosts, hosts, why_not
from tests.ray.cluster.work import Leaderboard, Outputs, Work, leaderboard, outputs, run_locally


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def machines() -> Iterator[Hosts]:
    """Connected, without a cluster."""
    if reason := why_not():
        pytest.skip(reason)
    with hosts() as connected:
        yield connected


@pytest.fixture
def nodes(machines: Hosts) -> Hosts:
    """A head without CPUs and two workers with one each, all of them well."""
    if not machines.nodes():
        machines.head.kill()
        machines.first.kill()
        machines.second.kill()
        machines.start_head()
    for worker in (machines.first, machines.second):
        if worker.address not in machines.nodes():
            worker.kill()
            machines.start_worker(worker)
    return machines


@pytest.fixture(scope="session")
def work(machines: Hosts) -> Work:
    return Work.prepare(machines.shared / "work")


@pytest.fixture(scope="session")
def transformed(machines: Hosts, work: Work) -> Outputs:
    """What the transform gives on one machine."""
    output = machines.shared / "transformed"
    run_locally(machines, work.transform(output))
    return outputs(output)


@pytest.fixture(scope="session")
def swept(machines: Hosts, work: Work) -> Leaderboard:
    """The leaderboard of the sweep on one machine."""
    output = machines.shared / "swept"
    run_locally(machines, work.tune(output))
    return leaderboard(output)


@pytest.fixture
def output(machines: Hosts, request: pytest.FixtureRequest) -> Path:
    """A folder that is not there yet, and that all hosts share."""
    return machines.shared / str(request.node.name)
