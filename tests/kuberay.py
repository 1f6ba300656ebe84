"""What KubeRay reads in its resources, after its Go types (ray-operator/apis/ray/v1): its own schemas are in
no package registry. The pods in the resources are Kubernetes' own.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

METRICS_PORT = 8080
"""Port on which KubeRay lets each of Ray's nodes show its metrics, unless it is told another."""
HEAD_PORTS = {"gcs-server": 6379, "dashboard": 8265, "client": 10001}
"""Ports of a head, beside the endpoint's, that KubeRay assumes if the head's container names no port. If it
names any, KubeRay looks for these: without the dashboard's it never sends Serve's configuration."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Group(_Strict):
    """The head, or workers of one kind."""

    rayStartParams: dict[str, str]  # noqa: N815 (KubeRay's)
    template: dict[str, Any]


class WorkerGroup(Group):
    """Workers of one kind."""

    groupName: str  # noqa: N815
    replicas: int = Field(ge=0)
    minReplicas: int = Field(ge=0)  # noqa: N815
    maxReplicas: int = Field(ge=1)  # noqa: N815


class AuthOptions(_Strict):
    """From KubeRay 1.6 on: the operator makes a token, and gives it to every container."""

    mode: Literal["token", "disabled"]


class RayCluster(_Strict):
    """RayClusterSpec."""

    rayVersion: str  # noqa: N815
    authOptions: AuthOptions  # noqa: N815
    enableInTreeAutoscaling: bool  # noqa: N815
    headGroupSpec: Group  # noqa: N815
    workerGroupSpecs: list[WorkerGroup]  # noqa: N815

    @property
    def groups(self) -> list[Group]:
        return [self.headGroupSpec, *self.workerGroupSpecs]


class RayJob(_Strict):
    """RayJobSpec."""

    entrypoint: str
    shutdownAfterJobFinishes: bool  # noqa: N815
    ttlSecondsAfterFinished: int  # noqa: N815
    rayClusterSpec: RayCluster  # noqa: N815


class RayService(_Strict):
    """RayServiceSpec."""

    serveConfigV2: str  # noqa: N815
    rayClusterConfig: RayCluster  # noqa: N815
