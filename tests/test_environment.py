from __future__ import annotations

import pytest

from lstmfcn.environment import cluster_is_given


@pytest.mark.parametrize(
    ("address", "given"), [("", False), ("local", False), ("192.0.2.1:6379", True), ("auto", True)]
)
def test_a_cluster_is_given_by_its_address(
    address: str, given: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)

    assert cluster_is_given() == given
