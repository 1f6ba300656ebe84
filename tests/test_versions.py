from __future__ import annotations

import platform

import pytest

import lstmfcn
from lstmfcn.versions import common_versions, difference


def test_a_machine_computes_for_drivers_with_its_own_versions() -> None:
    assert difference(common_versions()) == ""


@pytest.mark.parametrize("name", ["lstmfcn", "PyTorch"])
def test_another_version_is_named_with_the_node(name: str) -> None:
    here = common_versions()[name]

    assert difference({**common_versions(), name: "0.0.1"}) == (
        f"node {platform.node()} has {name} {here}, the driver's is 0.0.1; all nodes need the same"
    )


@pytest.mark.parametrize("build", ["2.13.0+cpu", "2.13.0+cu130", "2.13.0"])
def test_builds_for_cpus_and_for_cuda_are_of_one_version(build: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lstmfcn.versions._version", lambda _: build)

    assert common_versions() == {"lstmfcn": lstmfcn.__version__, "PyTorch": "2.13.0"}
