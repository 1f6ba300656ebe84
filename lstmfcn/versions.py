"""Versions that driver and nodes must have in common, beside Ray's and Python's, which Ray compares."""

from __future__ import annotations

import platform
from importlib.metadata import version

import lstmfcn


def versions() -> dict[str, str]:
    """Of what computes, by name. A build of PyTorch for CPUs and one for CUDA are of one version."""
    return {"lstmfcn": lstmfcn.__version__, "PyTorch": version("torch").partition("+")[0]}


def difference(of_driver: dict[str, str]) -> str:
    """Why this machine can't compute for a driver with such versions, in a sentence; empty if it can."""
    for name, here in versions().items():
        if here != of_driver[name]:
            return (
                f"node {platform.node()} has {name} {here}, the driver's is {of_driver[name]};"
                " all nodes need the same"
            )
    return ""
