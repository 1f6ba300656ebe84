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
    """The versions of lstmfcn and of these packages, by name."""
    return {"lstmfcn": lstmfcn.__version__, **{name: _version(name) for name in packages}}


def versions() -> dict[str, str]:
    """Of what driver and nodes must have in common beside Ray and Python, which Ray compares. A build of
    PyTorch for CPUs and one for CUDA are of one version.
    """
    return {**installed(), "PyTorch": _version("torch").partition("+")[0]}


def difference(of_driver: dict[str, str]) -> str:
    """Why this machine can't compute for a driver with such versions, in a sentence; empty if it can."""
    for name, here in versions().items():
        if here != of_driver[name]:
            return (
                f"node {platform.node()} has {name} {here}, the driver's is {of_driver[name]};"
                " all nodes need the same"
            )
    return ""
