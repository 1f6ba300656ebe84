"""Versions of what computes: those that are recorded, and those that driver and nodes must have in common."""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata

import lstmfcn


@cache  # a checkpoint asks with each epoch that it keeps, and looking takes a millisecond
def _version(name: str) -> str:
    return metadata.version(name)


def installed(*packages: str) -> dict[str, str]:
    """Return the versions of lstmfcn and of these packages, by name."""
    return {"lstmfcn": lstmfcn.__version__, **{name: _version(name) for name in packages}}


def common_versions() -> dict[str, str]:
    """Return the versions that driver and nodes must have in common, besides those of Ray and Python, which
    Ray compares. PyTorch's builds for CPUs and for CUDA count as one version.
    """
    return {**installed(), "PyTorch": _version("torch").partition("+")[0]}


def difference(of_driver: dict[str, str]) -> str:
    """Return a sentence on why this node can't work for a driver with these versions; empty if it can."""
    for name, here in common_versions().items():
        if here != of_driver[name]:
            return (
                f"node {platform.node()} has {name} {here}, the driver's is {of_driver[name]};"
                " all nodes need the same"
            )
    return ""
