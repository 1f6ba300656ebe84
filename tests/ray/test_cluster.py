from __future__ import annotations

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
        lstmfcn_cluster.refuse_unreachable()

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
        lstmfcn_cluster.refuse_unreachable()


@pytest.mark.parametrize("address", ["", "local", "auto"])
def test_without_an_address_ray_looks_for_itself(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setenv("RAY_ADDRESS", address)

    lstmfcn_cluster.refuse_unreachable()


def test_a_connection_joins_the_ray_of_this_process_and_leaves_it_running() -> None:
    with lstmfcn_cluster.connection():
        pass

    assert ray.is_initialized()
