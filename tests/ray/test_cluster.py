from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import ray
import torch

from lstmfcn import cluster as lstmfcn_cluster
from lstmfcn.errors import ResourceError

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote
def devices() -> list[str]:
    return [str(device) for device in lstmfcn_cluster.allotted_devices()]


@ray.remote
def num_threads() -> int:
    lstmfcn_cluster.set_up_worker()
    return torch.get_num_threads()


@pytest.mark.parametrize(
    ("num_gpus", "expected"), [(0, ["cpu"]), (0.25, ["cuda:0"]), (1, ["cuda:0"]), (2, ["cuda:0", "cuda:1"])]
)
def test_devices_are_those_that_ray_allots_and_no_others(num_gpus: float, expected: list[str]) -> None:
    assert ray.get(devices.options(num_gpus=num_gpus).remote()) == expected


@pytest.mark.parametrize(("num_cpus", "expected"), [(0, 1), (1, 1), (2, 2)])
def test_threads_are_the_allotted_cpus(num_cpus: int, expected: int) -> None:
    assert ray.get(num_threads.options(num_cpus=num_cpus).remote()) == expected


def test_what_fits_no_node_is_refused_in_words() -> None:
    lstmfcn_cluster.refuse_unsatisfiable("a trial", 2, 2)
    with pytest.raises(ResourceError) as refused:
        lstmfcn_cluster.refuse_unsatisfiable("a trial", 1, 3)

    assert str(refused.value) == "a trial asks for 1 CPUs and 3 GPUs; the nodes have 2 CPUs and 2 GPUs"
    lstmfcn_cluster.refuse_unsatisfiable("a replica", 1, 0, count=2)
    with pytest.raises(
        ResourceError, match="1 CPUs and 0 GPUs, and there are to be 3; the nodes have 2 CPUs"
    ):
        lstmfcn_cluster.refuse_unsatisfiable("a replica", 1, 0, count=3)


@pytest.mark.parametrize(
    ("cpus", "gpus", "expected"),
    [(1, 0, 16), (0.1, 0, 160), (1, 0.25, 8), (1, 0.2, 10), (1, 0.6, 2), (1, 1, 2), (1, 2, 1), (3, 0.2, 5)],
)
def test_how_many_predictors_fit(
    cpus: float, gpus: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lstmfcn_cluster, "_nodes", lambda: [(16.0, 2.0)])

    assert lstmfcn_cluster.num_fitting(cpus, gpus) == expected


def test_a_cluster_that_grows_holds_what_it_may_have_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSTMFCN_NODES", '[{"CPU": 8, "nodes": 3}, {"CPU": 4, "GPU": 1, "nodes": 2}]')

    assert lstmfcn_cluster.num_fitting(1, 0) == 32
    assert lstmfcn_cluster.num_fitting(1, 0.5) == 4
    assert lstmfcn_cluster.num_per_gpu(2) == 2
    with pytest.raises(ResourceError, match="a trial asks for 1 CPUs and 2 GPUs; the nodes have 8 CPUs"):
        lstmfcn_cluster.refuse_unsatisfiable("a trial", 1, 2)


@pytest.mark.parametrize("text", ["8", '[{"CPU": 8}]', '[{"CPU": 8, "TPU": 1, "nodes": 1}]'])
def test_what_is_no_list_of_nodes_is_refused_in_words(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSTMFCN_NODES", text)

    with pytest.raises(ResourceError) as refused:
        lstmfcn_cluster.num_fitting(1, 0)

    assert str(refused.value) == (
        f'LSTMFCN_NODES is {text!r}; [{{"CPU": 8, "GPU": 1, "nodes": 4}}] would be right'
    )


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        (
            "127.0.0.1:1",
            "no Ray answers at 127.0.0.1:1 (Connection refused), where RAY_ADDRESS says there is one;"
            " start it, or unset RAY_ADDRESS to do without",
        ),
        (
            "http://127.0.0.1:8265",
            "RAY_ADDRESS is http://127.0.0.1:8265; the address of Ray's head, such as 192.0.2.10:6379, would"
            " be right (where jobs are submitted to is RAY_API_SERVER_ADDRESS)",
        ),
        ("head", "RAY_ADDRESS is head; host and port, such as 192.0.2.10:6379, would be right"),
    ],
)
def test_an_address_without_a_ray_is_refused_in_words(
    address: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lstmfcn_cluster, "_SECONDS_TO_ANSWER", 0.1)
    monkeypatch.setenv("RAY_ADDRESS", address)

    with pytest.raises(ResourceError) as refused:
        lstmfcn_cluster.refuse_silence()

    assert str(refused.value) == sentence


def test_a_ray_that_ended_without_ray_stop_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lstmfcn_cluster, "_SECONDS_TO_ANSWER", 0.1)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")

    with pytest.raises(
        ResourceError, match=r"127.0.0.1:1 .*, where one was started with `ray start`; `ray stop` lets"
    ):
        lstmfcn_cluster.refuse_silence()


@pytest.mark.parametrize("address", ["", "local", "auto"])
def test_without_an_address_ray_looks_for_itself(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setenv("RAY_ADDRESS", address)

    lstmfcn_cluster.refuse_silence()


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
    monkeypatch.setattr(lstmfcn_cluster, "_SECONDS_BETWEEN_LOOKS", 0.05)
    monkeypatch.setattr(lstmfcn_cluster, "_MANY_LOSSES", 2)

    with lstmfcn_cluster.telling_losses("predictors", "Weary"):
        ray.get(Weary.remote().work.remote(tmp_path))  # type: ignore[attr-defined]
        time.sleep(0.2)

    assert caplog.messages[0] == (
        "predictors lost their processes 2 times and were started again; fewer at once, or more memory for"
        " them, would help"
    )


def test_a_connection_joins_the_ray_of_this_process_and_leaves_it_running() -> None:
    with lstmfcn_cluster.connection():
        pass

    assert ray.is_initialized()
