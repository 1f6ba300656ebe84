"""What befalls a cluster while it works, and what is lost by it: nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

import psutil
import pytest
from werkzeug.serving import make_server

from lstmfcn.object_storage import ObjectPath
from lstmfcn.storage import Location
from tests.ray.cluster.hosts import STORE_PORT, Host, Hosts
from tests.ray.cluster.store import TroubledStore
from tests.ray.cluster.work import (
    Leaderboard,
    Outputs,
    Submitted,
    Work,
    leaderboard,
    num_parts,
    num_trials,
    outputs,
)

SECONDS = 300
"""In which a disturbed job of some ten seconds must have ended, on a machine that is busy with others."""
SECONDS_CUT_OFF = 20
SECONDS_IN_TROUBLE = 20

JobName = Literal["transform", "sweep"]
both_jobs = pytest.mark.parametrize("job", ["transform", "sweep"])


class Trial:
    """A job that is disturbed, and what it would have led to."""

    def __init__(self, job: JobName, work: Work, expected: Outputs | Leaderboard) -> None:
        self.job, self._work, self._expected = job, work, expected

    def command(self, output: Location, *flags: str) -> list[str]:
        """Of the job."""
        make = self._work.transform if self.job == "transform" else self._work.tune
        return [*make(output), *flags]

    def has_begun(self, output: Location) -> bool:
        """Whether there is something to lose, and something left to do."""
        if self.job == "transform":
            return num_parts(output) > 0
        return num_trials(output) > 0

    def lost(self, output: Location) -> str:
        """What there would be without the fault and isn't."""
        found = outputs(output) if self.job == "transform" else leaderboard(output)
        wrong = [name for name, content in self._expected.items() if found.get(name) != content]
        what = "files" if self.job == "transform" else "trials"
        return f"{len(wrong)} of {len(self._expected)} {what}" if wrong else "nothing"


@pytest.fixture
def trial(job: JobName, work: Work, transformed: Outputs, swept: Leaderboard) -> Trial:
    return Trial(job, work, transformed if job == "transform" else swept)


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str, Trial, str], None]:
    """One line for each fault."""

    def write(fault: str, trial: Trial, lost: str) -> None:
        with capsys.disabled():
            print(f"\n{fault}, during a {trial.job}: lost {lost}", flush=True)

    return write


Tell = Callable[[str, Trial, str], None]


@both_jobs
def test_a_worker_node_is_killed(trial: Trial, nodes: Hosts, output: Path, tell: Tell) -> None:
    submitted = Submitted(nodes, trial.command(output))
    submitted.wait_until(lambda: trial.has_begun(output))

    nodes.first.kill()

    assert submitted.wait(SECONDS) == 0, submitted.log
    tell("worker node killed", trial, lost := trial.lost(output))
    assert lost == "nothing"


@both_jobs
def test_a_node_is_cut_off(trial: Trial, nodes: Hosts, output: Path, tell: Tell) -> None:
    submitted = Submitted(nodes, trial.command(output))
    submitted.wait_until(lambda: trial.has_begun(output))

    nodes.plug(nodes.first, into_the_switch=False)
    time.sleep(SECONDS_CUT_OFF)
    nodes.plug(nodes.first, into_the_switch=True)

    assert submitted.wait(SECONDS) == 0, submitted.log
    tell(f"node cut off for {SECONDS_CUT_OFF} s", trial, lost := trial.lost(output))
    assert lost == "nothing"


@both_jobs
def test_the_head_is_started_anew_while_the_driver_is_on_another_node(
    trial: Trial, nodes: Hosts, output: Path, tell: Tell
) -> None:
    submitted = Submitted(nodes, trial.command(output), driver_on=nodes.second)
    submitted.wait_until(lambda: trial.has_begun(output))

    nodes.head.kill()
    nodes.start_head()

    assert submitted.wait_for_its_end(SECONDS) == "SUCCEEDED", submitted.account()
    tell("head restarted", trial, lost := trial.lost(output))
    assert lost == "nothing"


@both_jobs
def test_the_head_is_started_anew_and_the_driver_is_lost_with_it(
    trial: Trial, nodes: Hosts, output: Path, tell: Tell
) -> None:
    submitted = Submitted(nodes, trial.command(output))
    submitted.wait_until(lambda: trial.has_begun(output))

    nodes.head.kill()
    nodes.start_head()

    again = Submitted(nodes, trial.command(output, "--resume"))
    assert again.wait(SECONDS) == 0, again.log
    assert submitted.state() != "SUCCEEDED"  # but FAILED not before minutes
    tell("head and driver restarted, --resume", trial, lost := trial.lost(output))
    assert lost == "nothing"


def fill(path: Path) -> None:
    """The rest of its disk."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 12))


@both_jobs
def test_the_disk_is_full(trial: Trial, nodes: Hosts, tell: Tell) -> None:
    output, others = nodes.disk / trial.job, nodes.disk / "others"
    submitted = Submitted(nodes, trial.command(output))
    submitted.wait_until(lambda: trial.has_begun(output))

    fill(others)

    assert submitted.wait(SECONDS) == 1, submitted.log
    assert "can't be written: No space left on device; --resume goes on when that is mended" in submitted.log
    assert "Traceback" not in submitted.log
    others.unlink()
    again = Submitted(nodes, trial.command(output, "--resume"))
    assert again.wait(SECONDS) == 0, again.log
    tell("disk filled, --resume", trial, lost := trial.lost(output))
    assert lost == "nothing"


@both_jobs
def test_a_process_gets_no_more_memory(trial: Trial, nodes: Hosts, output: Path, tell: Tell) -> None:
    submitted = Submitted(nodes, trial.command(output))
    submitted.wait_until(lambda: trial.has_begun(output))

    name = "MapWorker" if trial.job == "transform" else "Trainable"
    submitted.wait_until(lambda: "__init__" not in " ".join(worker_process(nodes.first, name).cmdline()))
    victim = worker_process(nodes.first, name)
    held = victim.memory_info().vms
    victim.rlimit(psutil.RLIMIT_AS, (held, held))
    submitted.wait_until(lambda: not victim.is_running())

    assert submitted.wait(SECONDS) == 0, submitted.log
    tell("memory exhausted in a process", trial, lost := trial.lost(output))
    assert lost == "nothing"


def worker_process(host: Host, name: str) -> psutil.Process:
    """Of Ray's, one that computes."""
    (first, *_) = [process for process in host.processes() if name in " ".join(process.cmdline())]
    return first


FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


@both_jobs
@pytest.mark.skipif(not FAKETIME.exists(), reason="libfaketime is missing: apt-get install faketime")
def test_a_nodes_clock_is_an_hour_ahead(trial: Trial, nodes: Hosts, output: Path, tell: Tell) -> None:
    nodes.first.kill()
    nodes.wait_for(lambda: nodes.first.address not in nodes.nodes(), "the loss of a node")
    ahead = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": "+1h"}
    nodes.start_worker(nodes.first, environment={**ahead, "RAY_LD_PRELOAD_ON_WORKERS": "1"})
    try:
        submitted = Submitted(nodes, trial.command(output))

        assert submitted.wait(SECONDS) == 0, submitted.log
        tell("clock of a node an hour ahead", trial, lost := trial.lost(output))
        assert lost == "nothing"
    finally:
        nodes.first.kill()
        nodes.wait_for(lambda: nodes.first.address not in nodes.nodes(), "the loss of a node")


@pytest.fixture
def store(machines: Hosts) -> Iterator[TroubledStore]:
    """What all hosts have for object storage."""
    store = TroubledStore()
    listener = machines.client.listen(STORE_PORT)
    server = make_server(machines.client.address, STORE_PORT, store, threaded=True, fd=listener.fileno())
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield store
    server.shutdown()
    thread.join()
    server.server_close()
    listener.close()


@both_jobs
def test_object_storage_is_slow_and_refuses(
    trial: Trial, nodes: Hosts, bucket: ObjectPath, store: TroubledStore, tell: Tell
) -> None:
    place = bucket / "trouble" / trial.job
    submitted = Submitted(nodes, trial.command(place))
    submitted.wait_until(lambda: trial.has_begun(place))

    store.is_in_trouble = True
    time.sleep(SECONDS_IN_TROUBLE)
    store.is_in_trouble = False

    assert submitted.wait(SECONDS) == 0, submitted.log
    assert store.num_refused > 0
    assert nodes.secret not in submitted.log
    tell(f"object storage in trouble for {SECONDS_IN_TROUBLE} s", trial, lost := trial.lost(place))
    assert lost == "nothing"
