"""What the tests submit to a cluster, and what it leads to where nothing is submitted and nothing fails."""

from __future__ import annotations

import csv
import json
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from lstmfcn import storage
from lstmfcn.journal import Journal
from lstmfcn.storage import Location
from lstmfcn.trials import TrialFolders
from tests.ray.cluster.hosts import ROOT, Host, Hosts
from tests.samples import TINY, best_of, make_dataset, write_csv

NUM_TRIALS = 4

Outputs = dict[str, bytes]
Leaderboard = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Work:
    """A transform of some ten seconds and a sweep of some twenty, on two CPUs."""

    folder: Path

    @classmethod
    def prepare(cls, folder: Path) -> Work:
        """Write its data and checkpoint to a folder."""
        for number in range(2):
            data = make_dataset(60_000, seed=number)
            write_csv(folder / "input" / f"{number}.csv", data, labelled=False)
        write_csv(folder / "train.csv", make_dataset(40), labelled=True)
        write_csv(folder / "valid.csv", make_dataset(20, seed=1), labelled=True)
        ranges = {
            **TINY.model_dump(),
            "lr": {"log_uniform": [0.0003, 0.01]},
            "epochs": {"integer": [200, 300]},
        }
        (folder / "space.yaml").write_text(yaml.safe_dump(ranges))
        slow = TINY.model_copy(update={"filters_1": 32, "filters_2": 64, "filters_3": 32})
        best_of(make_dataset(40), slow).save(folder / "model")
        return cls(folder)

    def transform(self, output: Location) -> list[str]:
        """Return the command that transforms into `output`."""
        flags = {"--checkpoint": self.folder / "model", "--input": self.folder / "input", "--output": output}
        return _command("transform", flags)

    def tune(self, output: Location) -> list[str]:
        """Return the command that tunes into `output`."""
        flags = {
            "--training": self.folder / "train.csv",
            "--validation": self.folder / "valid.csv",
            "--search-space": self.folder / "space.yaml",
            "--num-trials": NUM_TRIALS,
            "--scheduler": "none",
            "--seed": 7,
            "--output": output,
        }
        return _command("tune", flags)

    def train(self, output: Path, epochs: int) -> list[str]:
        """Return the command that trains into `output`."""
        flags = {
            "--training": self.folder / "train.csv",
            "--validation": self.folder / "valid.csv",
            "--output": output,
            "--epochs": epochs,
            "--filters-1": 4,
            "--filters-2": 4,
            "--filters-3": 4,
            "--batch-size": 8,
            "--num-cpus": 1,
        }
        return _command("train", flags)

    def evaluate(self, output: Path) -> list[str]:
        """Return the command that evaluates into `output`."""
        data, model = self.folder / "valid.csv", self.folder / "model"
        return _command(
            "evaluate", {"--checkpoint": model, "--data": data, "--output": output, "--num-cpus": 1}
        )

    def explain(self, output: Path) -> list[str]:
        """Return the command that explains into `output`."""
        data, model = self.folder / "input" / "0.csv", self.folder / "model"
        return _command(
            "explain", {"--checkpoint": model, "--data": data, "--output": output, "--num-cpus": 1}
        )


def _command(job: str, flags: Mapping[str, object]) -> list[str]:
    return ["python", "-m", f"jobs.{job}", *(str(word) for flag in flags.items() for word in flag)]


def outputs(folder: Location) -> Outputs:
    """Return a transform's predictions, by file name."""
    names = [name for name in storage.names(folder) if name.endswith(".out")]
    return {name: storage.read_bytes(folder / name) for name in names}


def leaderboard(folder: Location) -> Leaderboard:
    """Return for each trial what must be the same wherever it ran and however it was disturbed."""
    rows = list(csv.DictReader(storage.read_bytes(folder / "leaderboard.csv").decode().splitlines()))
    free = {"seconds", "failures"}
    return {row["trial"]: tuple(value for name, value in row.items() if name not in free) for row in rows}


def num_parts(folder: Location) -> int:
    """Return how many ranges a transform that hasn't ended has committed and not yet joined."""
    journal = Journal(folder)
    assert not (folder / "transform.json").exists(), "the transform had ended before it was disturbed"
    if not journal.can_go_on():
        return 0
    journal.resume({})
    return len(list(journal.parts()))


def num_trials(folder: Location) -> int:
    """Return how many trials have ended."""
    return sum(trial.has_ended for trial in TrialFolders(folder).read())


class Submitted:
    """A job of the cluster, as a user submits it."""

    def __init__(self, hosts: Hosts, command: list[str], driver_on: Host | None = None) -> None:
        """Its driver is on the head, unless it is to be elsewhere."""
        self.name = f"job-{time.monotonic_ns()}"
        self._hosts = hosts
        self._log = hosts.client.folder / f"{self.name}.log"
        where = ("--address", hosts.dashboard, "--working-dir", str(ROOT))
        there = [] if driver_on is None else ["--entrypoint-resources", json.dumps({driver_on.name: 1})]
        with self._log.open("w") as log:
            self._process = hosts.client.popen(
                *("ray", "job", "submit", *where, *there, "--submission-id", self.name, "--", *command),
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> str:
        """Return what the client was told so far."""
        return self._log.read_text()

    def wait(self, seconds: float) -> int:
        """Wait for `ray job submit`, and return its status. Raises TimeoutExpired when it takes longer."""
        return self._process.wait(timeout=seconds)

    def wait_until(self, holds: Callable[[], bool], seconds: float = 120) -> None:
        """Wait until something holds, while the job runs. Raises TimeoutError when it takes longer."""

        def is_over() -> bool:
            assert self._process.poll() is None, self.log
            return holds()

        self._hosts.wait_for(is_over, f"what is awaited of {self.name}", seconds)

    def stop(self) -> str:
        """Stop the job as a user does, and return what `ray job stop` prints."""
        return self._hosts.client.run(
            "ray", "job", "stop", "--address", self._hosts.dashboard, self.name
        ).stdout

    def nodes_of_actors(self) -> set[str]:
        """Return the addresses of the nodes that its actors were on."""
        (driver,) = self._rows(
            f"jobs?detail=1&filter_keys=submission_id&filter_predicates=%3D&filter_values={self.name}"
        )
        actors = self._rows("actors?detail=1&limit=1000")
        nodes = {row["node_id"]: row["node_ip"] for row in self._rows("nodes")}
        return {nodes[row["node_id"]] for row in actors if row["job_id"] == driver["job_id"]}

    def _rows(self, path: str) -> list[dict[str, str]]:
        status, body = self._hosts.get(f"/api/v0/{path}", self._hosts.token)
        assert status == 200, body
        rows: list[dict[str, str]] = json.loads(body)["data"]["result"]["result"]
        return rows

    def wait_for_its_end(self, seconds: float) -> str:
        """Wait for the job's end, and return its state as the cluster tells it."""
        self._hosts.wait_for(
            lambda: self.state() not in ("PENDING", "RUNNING", ""), f"the end of {self.name}", seconds
        )
        return self.state()

    def account(self) -> str:
        """Return what the cluster knows of the job and of what it wrote."""
        paths = (f"/api/jobs/{self.name}", f"/api/jobs/{self.name}/logs")
        return "\n".join(self._hosts.get(path, self._hosts.token)[1] for path in paths)

    def state(self) -> str:
        """Return the job's state as the cluster tells it; empty if it tells none."""
        status, body = self._hosts.get(f"/api/jobs/{self.name}", self._hosts.token)
        return str(json.loads(body)["status"]) if status == 200 else ""


def run_locally(hosts: Hosts, command: list[str]) -> None:
    """Run a command on the client, which belongs to no cluster."""
    ended = hosts.client.run(*command, environment={"PYTHONPATH": str(ROOT)}, seconds=300)
    assert ended.returncode == 0, ended.stdout
