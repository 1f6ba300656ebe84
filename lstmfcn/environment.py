"""Environment variables that tell a job of the cluster that it is to use."""

from __future__ import annotations

import os

CLUSTER = "RAY_ADDRESS"
"""Names a cluster; a job that was submitted to one has it as well."""
NODE = "LSTMFCN_NODE"
"""Names a cluster's node to a job that was sent there."""
NODES = "LSTMFCN_NODES"
"""The most nodes that a growing cluster may have, as JSON, since Ray's autoscaler doesn't tell what it may
start. [{"CPU": 8, "GPU": 1, "nodes": 4}] is four of one kind."""


def cluster_is_given() -> bool:
    """Return whether jobs are to use a cluster; `local` is Ray's word for a Ray of the job's own."""
    return os.environ.get(CLUSTER, "") not in ("", "local")
