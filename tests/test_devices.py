from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import torch

from lstmfcn import devices
from lstmfcn.devices import CPU, each_on_one_thread, supported_precision
from lstmfcn.errors import ResourceError


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True}, "fp32"),
        ({"avx512_bf16": False, "amx_bf16": False}, "fp32"),
        ({"avx512_bf16": True, "amx_bf16": False}, "bf16"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bf16"),
    ],
)
def test_auto_is_bfloat16_only_where_the_cpu_has_instructions_for_it(
    capabilities: dict[str, bool], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)

    assert supported_precision("auto", CPU) == expected


@pytest.mark.parametrize(("generation", "expected"), [((7, 5), "fp32"), ((8, 0), "bf16")])
def test_auto_is_bfloat16_only_on_gpus_that_compute_in_it(
    generation: tuple[int, int], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: generation)

    assert supported_precision("auto", torch.device("cuda", 0)) == expected


def test_fp16_is_for_gpus() -> None:
    assert supported_precision("fp16", torch.device("cuda", 0)) == "fp16"
    with pytest.raises(ResourceError, match=r"^precision fp16 needs a GPU; a CPU computes in fp32 or bf16$"):
        supported_precision("fp16", CPU)


@pytest.mark.parametrize("num_gpus", [-1, 3])
def test_more_gpus_than_there_are_are_refused(num_gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    with pytest.raises(
        ResourceError, match=rf"^--num-gpus is {num_gpus}; this machine has 2 that can be seen$"
    ):
        devices.visible_devices(num_gpus)
    assert devices.visible_devices(1) == [torch.device("cuda", 0)]
    assert len(devices.visible_devices()) == 2
    assert devices.visible_devices(0) == [CPU]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("150000 100000", 1), ("50000 100000", 1), ("400000 100000", 3), ("max 100000", 3)],
)
def test_threads_are_no_more_than_the_container_may_use(
    limit: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    monkeypatch.setattr(devices, "_CPU_LIMIT", tmp_path / "cpu.max")
    devices.use_threads(3)

    try:
        devices.use_threads(None)
        assert torch.get_num_threads() == expected
    finally:
        devices.use_threads(1)


def test_each_item_is_computed_on_one_thread_and_as_many_at_once_as_there_are_threads() -> None:
    devices.use_threads(2)
    together = threading.Barrier(2, timeout=10)

    def square(number: int) -> tuple[int, int]:
        together.wait()
        return number**2, torch.get_num_threads()

    try:
        assert each_on_one_thread(square, [1, 2, 3, 4]) == [(1, 1), (4, 1), (9, 1), (16, 1)]
        assert torch.get_num_threads() == 2
    finally:
        devices.use_threads(1)


def test_one_item_stays_on_the_thread_that_asks() -> None:
    assert each_on_one_thread(lambda _: threading.current_thread(), [0]) == [threading.current_thread()]


def test_a_thread_that_begins_while_another_computes_has_as_many_threads() -> None:
    devices.use_threads(2)
    first_computes, second_begins = threading.Event(), threading.Event()
    found = []

    def compute(_: int) -> None:
        first_computes.set()
        second_begins.wait(10)
        time.sleep(0.05)

    def begin() -> None:
        first_computes.wait(10)
        second_begins.set()
        each_on_one_thread(abs, [1])
        found.append(torch.get_num_threads())

    second = threading.Thread(target=begin)
    try:
        second.start()
        each_on_one_thread(compute, [0])
        second.join()
    finally:
        devices.use_threads(1)
    assert found == [2]
