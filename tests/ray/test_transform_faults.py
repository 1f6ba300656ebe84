"""What a transform survives: the death of its processes and nodes, a full disk, thousands of files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster
from ray.data._internal.execution.operators import actor_pool_map_operator
from ray.data._internal.utils import cached_ray_internals
from ray.exceptions import ActorUnschedulableError

from jobs.transform import transform as transform_job
from lstmfcn import ownership, ranges, storage
from lstmfcn import transform as lstmfcn_transform
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.devices import Precision
from lstmfcn.errors import DataError, OutputError
from lstmfcn.identifiers import Identifiers
from lstmfcn.journal import Journal
from lstmfcn.prediction_format import PredictionFormat
from lstmfcn.predictor import Predictor
from lstmfcn.ranges import find_inputs
from lstmfcn.transform import Advance, Options, transform
from lstmfcn.versions import common_versions
from tests.commands import status_of
from tests.samples import make_dataset, write_csv

needs_ray = pytest.mark.usefixtures("cluster")


def expected_lines(checkpoint: Checkpoint, path: Path) -> bytes:
    return Predictor(checkpoint).predict_csv(path.read_bytes(), source="expected")


class Killer:
    """Kills a process of a transform after some of its ranges, and watches what was committed by then."""

    def __init__(self, victim: str, output: Path, after_ranges: int) -> None:
        self.has_killed = False
        self._victim, self._after_ranges = victim, after_ranges
        self._journal = Journal(output)
        self._committed: dict[str, int] = {}

    def __call__(self, advance: Advance) -> None:
        self._after_ranges -= 1
        if self._after_ranges <= 0 and not self.has_killed:
            self.has_killed = self._kill()
            self._committed = self._parts()
        later = self._parts()
        assert all(later.get(name, written) == written for name, written in self._committed.items())

    def _parts(self) -> dict[str, int]:
        """When each part was written."""
        self._journal.resume({})
        folder = self._journal.folder
        assert isinstance(folder, Path)
        return {part.name: (folder / part.name).stat().st_mtime_ns for part in self._journal.parts()}

    def _kill(self) -> bool:
        return kill_one(self._victim)


def kill_one(name: str) -> bool:
    """Kill a process of this test that has such a name, if there is one."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if name in process.name():
                process.kill()
                process.wait(timeout=30)
                return True
    return False


@needs_ray
def test_a_predictors_death_changes_no_byte_and_no_committed_range(
    trained: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "_SMALLEST_RANGE", 20_000)
    path = write_csv(tmp_path / "series.csv", make_dataset(20_000), labelled=False)
    files, _ = find_inputs(path, None)
    killer = Killer("MapWorker", tmp_path / "output", after_ranges=3)

    transform(trained, files, tmp_path / "output", Options(), on_advance=killer)

    assert killer.has_killed
    assert (tmp_path / "output" / "series.csv.out").read_bytes() == expected_lines(trained, path)


class NodeLoser(Killer):
    """Lets Ray Data find out, once, that its own process that knows where predictors are can't be started
    again, as when the node of the first driver that this Ray had is lost.
    """

    has_told = False

    def _kill(self) -> bool:
        return True

    def locations(self, logical_ids: tuple[str, ...]) -> dict[str, str]:
        if self.has_killed and not self.has_told:
            self.has_told = True
            raise ActorUnschedulableError("its node doesn't exist any more")
        return cached_ray_internals.get_actor_locations(logical_ids)


@needs_ray
def test_the_loss_of_ray_datas_own_process_changes_no_byte_and_no_committed_range(
    trained: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "_SMALLEST_RANGE", 20_000)
    path = write_csv(tmp_path / "series.csv", make_dataset(20_000), labelled=False)
    files, _ = find_inputs(path, None)
    loser = NodeLoser("", tmp_path / "output", after_ranges=2)
    monkeypatch.setattr(actor_pool_map_operator, "get_actor_locations", loser.locations)

    summary = transform(trained, files, tmp_path / "output", Options(num_predictors=1), on_advance=loser)

    assert loser.has_told
    assert summary.num_rows == 20_000
    assert (tmp_path / "output" / "series.csv.out").read_bytes() == expected_lines(trained, path)


class OnAnotherNode(lstmfcn_transform._RangePredictor):
    """It doesn't see the output folder."""

    def __init__(self, shared: Any, precision: Precision, again: bool) -> None:
        ownership._SECONDS_TO_APPEAR = 0
        ownership.OWNER = "another"
        super().__init__(shared, precision, again)


@needs_ray
def test_an_output_that_not_all_nodes_share_ends_the_transform_before_it_predicts(
    trained: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_csv(tmp_path / "series.csv", make_dataset(30), labelled=False)
    files, _ = find_inputs(path, None)
    output = tmp_path / "output"
    monkeypatch.setattr(lstmfcn_transform, "_RangePredictor", OnAnotherNode)
    address = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]

    with pytest.raises(OutputError) as refused:
        transform(trained, files, output, Options(), on_advance=lambda _: pytest.fail("it predicts"))

    assert str(refused.value) == (
        f"--output {output} isn't there on node {address}; on a cluster it must be a folder that all nodes"
        " share; --resume goes on when that is mended"
    )


@contextmanager
def again_and_again(do: Callable[[], object]) -> Iterator[None]:
    """While the block runs."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.01):
            do()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        ended.set()
        worker.join()


@needs_ray
def test_a_ray_data_that_always_fails_is_one_sentence(trained: Checkpoint, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "series.csv", make_dataset(10), labelled=False)
    files, _ = find_inputs(path, None)

    def kill_tracker() -> None:
        with suppress(ValueError):  # there is none at the moment
            ray.kill(ray.get_actor("ActorLocationTracker", namespace="ActorLocationTracker"))

    with again_and_again(kill_tracker), pytest.raises(OutputError) as error:
        transform(trained, files, tmp_path / "output", Options())

    assert str(error.value).startswith("Ray Data ends: The actor ")
    assert str(error.value).endswith("; --resume goes on when that is mended")


@needs_ray
@pytest.mark.long
def test_a_predictor_that_always_dies_is_one_sentence(trained: Checkpoint, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "series.csv", make_dataset(200_000), labelled=False)
    files, _ = find_inputs(path, None)
    deaths: list[bool] = []

    def kill_predictor() -> None:
        if len(deaths) < 21 and kill_one("MapWorker"):
            deaths.append(True)

    with again_and_again(kill_predictor), pytest.raises(OutputError) as error:
        transform(trained, files, tmp_path / "output", Options(num_predictors=1))

    assert str(error.value) == (
        "a predictor lost its process 21 times; use fewer (--predictors of jobs.transform), or give them more"
        " memory; --resume goes on when that is mended"
    )


@needs_ray
@pytest.mark.long
@pytest.mark.parametrize("after_ranges", [1, 5, 9])
def test_the_death_of_a_predictor_at_any_moment_changes_no_byte(
    after_ranges: int, trained: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "_LARGEST_RANGE", 1 << 20)
    path = write_csv(tmp_path / "series.csv", make_dataset(200_000), labelled=False)
    files, _ = find_inputs(path, None)
    killer = Killer("MapWorker", tmp_path / "output", after_ranges)
    monkeypatch.setattr(Options, "reads_apart", True)
    options = Options(num_predictors=1)

    transform(trained, files, tmp_path / "output", options, on_advance=killer)

    assert killer.has_killed
    assert (tmp_path / "output" / "series.csv.out").read_bytes() == expected_lines(trained, path)


@needs_ray
@pytest.mark.long
@pytest.mark.parametrize("kills", [1, 2, 3])
def test_the_deaths_of_readers_change_no_byte(
    kills: int, trained: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "_LARGEST_RANGE", 1 << 20)
    path = write_csv(tmp_path / "series.csv", make_dataset(200_000), labelled=False)
    files, _ = find_inputs(path, None)
    monkeypatch.setattr(Options, "reads_apart", True)
    options = Options(num_predictors=1)
    transformed = threading.Event()

    def hunt() -> int:
        """They live for some milliseconds, and read ahead of the predictor."""
        killed = 0
        while killed < kills and not transformed.is_set():
            killed += kill_one("_Reader")
        return killed

    with ThreadPoolExecutor(1) as hunter:
        killed = hunter.submit(hunt)
        transform(trained, files, tmp_path / "output", options)
        transformed.set()

    assert killed.result() == kills
    assert (tmp_path / "output" / "series.csv.out").read_bytes() == expected_lines(trained, path)


@pytest.fixture
def large_input(trained: Checkpoint, tmp_path: Path) -> tuple[list[str], Path, dict[str, bytes]]:
    """The command that transforms it, the output folder and the outputs that are right."""
    folder, output = tmp_path / "input", tmp_path / "output"
    trained.save(tmp_path / "model")
    for number in range(3):
        write_csv(folder / f"{number}.csv", make_dataset(60_000, seed=number), labelled=False)
    expected = {path.name + ".out": expected_lines(trained, path) for path in folder.iterdir()}
    flags = ["--checkpoint", tmp_path / "model", "--input", folder, "--output", output]
    return [sys.executable, "-m", "jobs.transform", *map(str, flags)], output, expected


@pytest.mark.long
@pytest.mark.parametrize("rows", [1, 40_000, 90_000, 150_000])
def test_after_the_drivers_death_at_any_moment_resume_completes_the_same_output(
    rows: int, large_input: tuple[list[str], Path, dict[str, bytes]]
) -> None:
    command, output, expected = large_input
    with subprocess.Popen(command) as driver:
        while rows_done(output) < rows:
            assert driver.poll() is None
            time.sleep(0.01)
        children = psutil.Process(driver.pid).children(recursive=True)
        driver.kill()
    psutil.wait_procs(children, timeout=30)  # Ray's processes end after their driver
    for path in output.glob("*.out"):
        assert path.read_bytes() == expected[path.name]
    committed = rows_done(output)

    again = subprocess.run([*command, "--resume"], check=False)

    assert again.returncode == 0
    assert {path.name: path.read_bytes() for path in output.glob("*.out")} == expected
    assert json.loads((output / "transform.json").read_bytes())["num_predicted"] == 180_000 - committed


def rows_done(output: Path) -> int:
    """Of a transform in another process."""
    journal = Journal(output)
    if not journal.is_unfinished():
        return 0
    journal.resume({})
    concluded = dict(journal.concluded())
    parts = [part for part in journal.parts() if part.file not in concluded]
    return sum([part.num_rows for part in parts] + [result["num_rows"] for result in concluded.values()])


@pytest.mark.long
@pytest.mark.parametrize("rows", [1, 60_000])
def test_the_loss_of_a_node_changes_no_byte(
    rows: int, large_input: tuple[list[str], Path, dict[str, bytes]]
) -> None:
    command, output, expected = large_input
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        lost = nodes.add_node(num_cpus=1)
        nodes.add_node(num_cpus=1)
        with subprocess.Popen(command, env={**os.environ, "RAY_ADDRESS": nodes.address}) as driver:
            while rows_done(output) < rows:
                assert driver.poll() is None
                time.sleep(0.01)
            nodes.remove_node(lost, allow_graceful=False)
            assert driver.wait(timeout=120) == 0
    finally:
        nodes.shutdown()  # type: ignore[no-untyped-call]

    assert {path.name: path.read_bytes() for path in output.glob("*.out")} == expected


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a file system")
    yield folder
    # Lazily: a predictor that is being ended may still have a file there.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@needs_ray
def test_a_node_with_another_version_than_the_driver_is_one_sentence(
    trained: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, _ = find_inputs(write_csv(tmp_path / "data.csv", make_dataset(10), labelled=False), None)
    monkeypatch.setattr("lstmfcn.transform.common_versions", lambda: {**common_versions(), "PyTorch": "1.0"})

    with pytest.raises(OutputError, match=r"has PyTorch .*, the driver's is 1\.0; all nodes need the same;"):
        transform(trained, files, tmp_path / "predictions", Options())


@needs_ray
def test_a_full_disk_is_one_sentence_and_leaves_no_half_of_an_output(
    trained: Checkpoint, small_disk: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_csv(tmp_path / "series.csv", make_dataset(20_000), labelled=False)
    trained.save(tmp_path / "model")
    output = small_disk / "output"
    flags = ("--checkpoint", tmp_path / "model", "--input", path, "--output", output, "--join", "input")

    assert status_of(transform_job, *flags) == 2

    told = [line for line in capfd.readouterr().err.splitlines() if "core_worker" not in line]
    assert told == [
        f"--output {output} can't be written: No space left on device; --resume goes on when that is mended"
    ]
    assert [file.name for file in output.iterdir()] == [".transform"]


@needs_ray
@pytest.mark.long
def test_10_000_tiny_files_have_their_outputs(trained: Checkpoint, tmp_path: Path) -> None:
    dataset = make_dataset(10_000)
    for number, values in enumerate(dataset.series):
        storage.write_bytes(
            tmp_path / "input" / f"{number}.csv", (",".join(map(str, values)) + "\n").encode()
        )
    files, _ = find_inputs(tmp_path / "input", None)

    transform(trained, files, tmp_path / "output", Options())

    labels = Predictor(trained).labels(dataset.series)
    outputs = [(tmp_path / "output" / f"{number}.csv.out").read_text() for number in range(10_000)]
    assert outputs == [f"{label}\n" for label in labels]


@needs_ray
def test_a_file_that_only_the_driver_sees_stops_a_transform_that_can_go_on(
    trained: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(tmp_path / "data.csv", make_dataset(10), labelled=False)
    monkeypatch.chdir(tmp_path)
    (file,), _ = find_inputs(Path("data.csv"), None)
    of_this_process = Path(f"/proc/self/task/{os.getpid()}/cwd/data.csv")  # by a thread that no other has
    files = [replace(file, path=of_this_process)]

    with pytest.raises(OutputError, match=r"data.csv does not exist on .*; --resume goes on when"):
        transform(trained, files, tmp_path / "predictions", Options())

    assert Journal(tmp_path / "predictions").is_unfinished()


@needs_ray
def test_an_input_that_goes_away_stops_a_transform_that_can_go_on(
    trained: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_csv(tmp_path / "data.csv", make_dataset(10), labelled=False)
    files, _ = find_inputs(data, None)
    begin = Journal.begin

    def begin_without_the_disk(journal: Journal, plan: dict[str, Any]) -> None:
        begin(journal, plan)
        data.rename(tmp_path / "away.csv")

    monkeypatch.setattr(Journal, "begin", begin_without_the_disk)
    with pytest.raises(OutputError, match=r"data.csv does not exist on .*; --resume goes on when"):
        transform(trained, files, tmp_path / "predictions", Options())
    (tmp_path / "away.csv").rename(data)

    summary = transform(trained, files, tmp_path / "predictions", Options(), resume=True)

    assert summary.num_rows == 10


@needs_ray
def test_what_no_file_can_be_read_with_is_refused_before_what_is_there_is_removed(
    trained: Checkpoint, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("x_1,patient\n1,2\n")
    files, _ = find_inputs(tmp_path, None)
    output = tmp_path / "predictions"
    storage.write_bytes(output / "a.csv.out", b"kept")
    options = Options(format=PredictionFormat(identifiers=Identifiers(names=("patint",))))

    with pytest.raises(DataError, match=r"a.csv: row 1 is a header with no column 'patint'"):
        transform(trained, files, output, options)

    assert storage.read_bytes(output / "a.csv.out") == b"kept"
