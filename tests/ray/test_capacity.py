from __future__ import annotations

import time

import pytest

from lstmfcn import capacity
from lstmfcn.errors import ResourceError

pytestmark = pytest.mark.usefixtures("cluster")


def test_what_fits_no_node_is_refused_in_words() -> None:
    capacity.refuse_unsatisfiable("a trial", 2, 2)
    with pytest.raises(ResourceError) as refused:
        capacity.refuse_unsatisfiable("a trial", 1, 3)

    assert str(refused.value) == "a trial asks for 1 CPU and 3 GPUs; the nodes have 2 CPUs and 2 GPUs"
    capacity.refuse_unsatisfiable("a replica", 1, 0, count=2)
    with pytest.raises(
        ResourceError, match="1 CPU and 0 GPUs, and 3 must fit at once; the nodes have 2 CPUs"
    ):
        capacity.refuse_unsatisfiable("a replica", 1, 0, count=3)


@pytest.mark.parametrize(
    ("cpus", "gpus", "expected"),
    [(1, 0, 16), (0.1, 0, 160), (1, 0.25, 8), (1, 0.2, 10), (1, 0.6, 2), (1, 1, 2), (1, 2, 1), (3, 0.2, 5)],
)
def test_how_many_predictors_fit(
    cpus: float, gpus: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "_nodes", lambda: [(16.0, 2.0)])

    assert capacity.num_fitting(cpus, gpus) == expected


def test_a_cluster_that_grows_holds_what_it_may_have_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSTMFCN_NODES", '[{"CPU": 8, "nodes": 3}, {"CPU": 4, "GPU": 1, "nodes": 2}]')

    assert capacity.num_fitting(1, 0) == 32
    assert capacity.num_fitting(1, 0.5) == 4
    assert capacity.num_per_gpu(2) == 2
    with pytest.raises(ResourceError, match="1 CPU and 2 GPUs; the nodes have 3 times 8 CPUs and 0 GPUs"):
        capacity.refuse_unsatisfiable("a trial", 1, 2)


@pytest.mark.parametrize("text", ["8", '[{"CPU": 8}]', '[{"CPU": 8, "TPU": 1, "nodes": 1}]'])
def test_what_is_no_list_of_nodes_is_refused_in_words(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSTMFCN_NODES", text)

    with pytest.raises(ResourceError) as refused:
        capacity.num_fitting(1, 0)

    assert str(refused.value) == (
        f'LSTMFCN_NODES is {text!r}; [{{"CPU": 8, "GPU": 1, "nodes": 4}}] would be right'
    )


@pytest.mark.parametrize("has_begun", [True, False])
def test_who_waits_for_others_is_told_so(
    has_begun: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(capacity, "_SECONDS_OF_PATIENCE", 0.01)

    asked: list[bool] = []

    def begun() -> bool:
        asked.append(has_begun)
        return has_begun

    with capacity.telling_of_a_wait("a replica", 3, 0.5, begun):
        while not asked:
            time.sleep(0.01)

    told = [message.partition(" others hold them")[0] for message in caplog.messages]
    assert told == ([] if has_begun else ["a replica waits for 3 CPUs and 0.5 GPUs on one node;"])
