"""The image and what KubeRay is given, as far as can be told without Kubernetes."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cyclopts import App, Parameter
from ray.serve.schema import ServeDeploySchema

from jobs.transform import transform
from jobs.tune import tune
from lstmfcn.environment import NODES
from serve_app import ingress
from serve_app.access import VARIABLE as API_KEYS
from serve_app.settings import Serving, Settings
from tests.kuberay import HEAD_PORTS, METRICS_PORT, Group, RayCluster, RayJob, RayService

ROOT = Path(__file__).parent.parent.parent
JOBS = ("sweep", "transform")
ALL = (*JOBS, "endpoint")


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((ROOT / "kubernetes" / f"{name}.yaml").read_text()))


def ray_job(name: str) -> RayJob:
    [document] = documents(name)
    assert (document["apiVersion"], document["kind"]) == ("ray.io/v1", "RayJob")
    return RayJob.model_validate(document["spec"])


def ray_service() -> RayService:
    [document] = documents("endpoint")
    assert (document["apiVersion"], document["kind"]) == ("ray.io/v1", "RayService")
    return RayService.model_validate(document["spec"])


def ray_cluster(name: str) -> RayCluster:
    return ray_service().rayClusterConfig if name == "endpoint" else ray_job(name).rayClusterSpec


def container(group: Group) -> dict[str, Any]:
    [only] = group.template["spec"]["containers"]
    found: dict[str, Any] = only
    return found


def check(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, "1.33", strict=True)


@pytest.mark.parametrize("name", ALL)
def test_every_pod_is_one_by_kubernetes_own_schema(name: str) -> None:
    for group in ray_cluster(name).groups:
        check({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, **group.template})


@pytest.mark.parametrize("name", ["shared", "files"])
def test_what_is_not_rays_passes_kubernetes_own_schema(name: str) -> None:
    for document in documents(name):
        check(document)


@pytest.mark.parametrize("name", ALL)
def test_ray_is_the_tested_one_and_asks_for_its_token_and_its_head_computes_nothing(name: str) -> None:
    cluster = ray_cluster(name)

    assert f"ray=={cluster.rayVersion}\n" in (ROOT / "constraints.txt").read_text()
    assert cluster.authOptions.mode == "token"
    assert cluster.headGroupSpec.rayStartParams.items() >= {"num-cpus": "0", "num-gpus": "0"}.items()


@pytest.mark.parametrize("name", ALL)
def test_pods_run_without_privileges_and_share_one_folder(name: str) -> None:
    claim = documents("shared")[0]["metadata"]["name"]
    for group in ray_cluster(name).groups:
        pod = group.template["spec"]

        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["volumes"] == [{"name": "shared", "persistentVolumeClaim": {"claimName": claim}}]
        assert container(group)["securityContext"]["allowPrivilegeEscalation"] is False
        assert container(group)["volumeMounts"] == [{"name": "shared", "mountPath": "/shared"}]


@pytest.mark.parametrize("name", ALL)
def test_the_jobs_are_told_how_far_the_workers_grow(name: str) -> None:
    cluster = ray_cluster(name)
    largest = []
    for workers in cluster.workerGroupSpecs:
        limits = container(workers)["resources"]["limits"]
        gpus = {"GPU": int(limits["nvidia.com/gpu"])} if "nvidia.com/gpu" in limits else {}
        largest.append({"CPU": int(limits["cpu"]), **gpus, "nodes": workers.maxReplicas})

    for group in cluster.groups:
        told = {entry["name"]: entry.get("value") for entry in container(group)["env"]}
        assert json.loads(told[NODES]) == largest


@pytest.mark.parametrize(("name", "job"), [("sweep", tune), ("transform", transform)])
def test_the_command_is_one_of_the_job(name: str, job: Callable[..., None]) -> None:
    python, _, module, *flags = shlex.split(ray_job(name).entrypoint)
    app = App(default_parameter=Parameter(negative=()))
    app.default(job)

    _, bound, _ = app.parse_args(flags, exit_on_error=False, print_error=False)

    assert (python, module) == ("python", f"jobs.{job.__name__}")
    assert str(bound.arguments["output"]).startswith("/shared/")


def test_the_endpoint_is_configured_by_serves_own_schema_and_ours() -> None:
    service = ray_service()
    config = ServeDeploySchema.model_validate(yaml.safe_load(service.serveConfigV2))
    [application] = config.applications
    [deployment] = application.deployments

    assert application.import_path == "serve_app.app:build_app"
    assert deployment.user_config is not None
    assert Serving.model_validate(deployment.user_config).checkpoint == application.args["checkpoint"]
    Settings.model_validate(application.args)
    for group in service.rayClusterConfig.groups:
        ports = {port["name"]: port["containerPort"] for port in container(group)["ports"]}
        of_head = HEAD_PORTS if group is service.rayClusterConfig.headGroupSpec else {}
        assert ports == {**of_head, "serve": config.http_options.port}  # where KubeRay looks
        [keys] = [entry for entry in container(group)["env"] if entry["name"] == API_KEYS]
        assert "value" not in keys
    assert config.http_options.port != METRICS_PORT


def test_only_the_endpoint_is_open_to_those_without_a_token() -> None:
    policy = documents("shared")[1]["spec"]
    anyone = [rule for rule in policy["ingress"] if "from" not in rule]

    config = yaml.safe_load(ray_service().serveConfigV2)
    assert anyone == [{"ports": [{"port": config["http_options"]["port"]}]}]


def test_the_image_has_the_tested_versions_no_privileges_and_the_launchers_variables() -> None:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
    [variables] = re.findall(r"^ENV (.*)$", text, re.MULTILINE)
    [install] = re.findall(r"pip install .*", text)
    environment = dict(entry.split("=", 1) for entry in shlex.split(variables))
    expected = {
        **ingress.variables(),
        ingress.BINARY: f"/usr/local/bin/{ingress.COMMAND}",
        "RAY_JOB_STOP_SIGNAL": "SIGINT",
        "RAY_JOB_STOP_WAIT_TIME_S": "60",
        "RAY_grpc_keepalive_timeout_ms": "60000",
        "RAY_USAGE_STATS_ENABLED": "0",
    }

    assert environment == expected
    assert "-c /source/constraints.txt" in install
    assert re.findall(r"^USER (\d+)$", text, re.MULTILINE) == ["1000"]
