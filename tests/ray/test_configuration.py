from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config, with_envs
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.serve.schema import ServeDeploySchema

from lstmfcn.environment import NODES
from serve_app import ingress
from serve_app.settings import Serving, Settings

ROOT = Path(__file__).parent.parent.parent
CLUSTERS = ("cluster.yaml", "cluster-own.yaml")


def read(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return config


def prepared(name: str) -> dict[str, Any]:
    """As `ray up` does before it reaches any machine."""
    config: dict[str, Any] = prepare_config(read(name))
    validate_config(config)
    return config


def started(command: str, folder: Path) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment with which a command starts Ray, of which nothing else is there."""
    ray = folder / "ray"
    ray.write_text('#!/bin/bash\nprintf "%s\\n" "$@" "--" && env\n')
    ray.chmod(0o755)
    environment = {
        "HOME": str(folder),
        "PATH": f"{folder}:{Path(sys.executable).parent}:/usr/bin:/bin",
        "RAY_HEAD_IP": "192.0.2.1",
    }
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment, check=True)
    arguments, _, shown = run.stdout.partition("--\n")
    return arguments.splitlines(), dict(line.split("=", 1) for line in shown.splitlines())


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_cluster_passes_rays_own_preparation_and_schema_and_takes_none_of_its_defaults(name: str) -> None:
    config = prepared(name)

    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert config[commands] == read(name)[commands]
    for commands in ("head_setup_commands", "worker_setup_commands"):  # to which it adds those of all nodes
        assert config[commands] == read(name)["setup_commands"]
    assert "nightly" not in str(config)


@pytest.mark.parametrize("name", CLUSTERS)
def test_every_node_has_the_tested_versions_and_the_token(name: str) -> None:
    config = prepared(name)
    [install] = [command for command in config["setup_commands"] if "pip install" in command]

    assert "-c ~/lstmfcn/constraints.txt ~/lstmfcn" in install
    assert config["file_mounts"] == {
        "/home/ubuntu/lstmfcn": ".",
        "/home/ubuntu/.ray/auth_token": "~/.ray/auth_token",
    }
    for command in config["setup_commands"]:
        subprocess.run(["bash", "-n", "-c", command], check=True)


@pytest.mark.parametrize("name", CLUSTERS)
def test_the_head_computes_nothing_and_shows_its_dashboard_to_itself_only(name: str, tmp_path: Path) -> None:
    _, command = prepared(name)["head_start_ray_commands"]

    arguments, _ = started(command, tmp_path)

    assert arguments == [
        "start",
        "--head",
        "--port=6379",
        "--num-cpus=0",
        "--num-gpus=0",
        "--dashboard-host=127.0.0.1",
        "--autoscaling-config=~/ray_bootstrap_config.yaml",
    ]


@pytest.mark.parametrize("name", CLUSTERS)
@pytest.mark.parametrize("which", ["head", "worker"])
def test_ray_starts_with_the_endpoints_variables_the_token_and_clean_stops(
    name: str, which: str, tmp_path: Path
) -> None:
    _, command = prepared(name)[f"{which}_start_ray_commands"]

    _, environment = started(command, tmp_path)

    expected = {
        **ingress.variables(),
        "RAY_AUTH_MODE": "token",
        "RAY_JOB_STOP_SIGNAL": "SIGINT",
        "RAY_JOB_STOP_WAIT_TIME_S": "60",
        "RAY_grpc_keepalive_timeout_ms": "60000",
    }
    assert environment.items() >= expected.items()


@pytest.mark.parametrize("name", CLUSTERS)
def test_what_the_head_knows_outlives_its_process(name: str, tmp_path: Path) -> None:
    _, of_head = started(read(name)["head_start_ray_commands"][1], tmp_path)
    _, of_worker = started(read(name)["worker_start_ray_commands"][1], tmp_path)

    assert of_head["RAY_gcs_storage"] == "rocksdb"
    assert of_head["RAY_gcs_storage_path"] == str(tmp_path / "ray-gcs")
    assert "RAY_gcs_storage" not in of_worker


def test_on_aws_workers_scale_from_zero_and_spot_instances_are_tried_first() -> None:
    types = AutoscalingConfig(prepared("cluster.yaml"), skip_content_hash=True).get_node_type_configs()

    assert types["head"].resources == {"CPU": 0}
    assert all(types[name].min_worker_nodes == 0 for name in types)
    for name in ("cpu", "gpu"):
        assert types[name].resources == types[f"{name}_spot"].resources
        assert types[f"{name}_spot"].priority > types[name].priority
    configs = {
        name: entry["node_config"] for name, entry in read("cluster.yaml")["available_node_types"].items()
    }
    spot = [name for name, config in configs.items() if "InstanceMarketOptions" in config]
    assert spot == ["cpu_spot", "gpu_spot"]


def test_on_aws_the_jobs_are_told_how_far_the_cluster_grows(tmp_path: Path) -> None:
    types = read("cluster.yaml")["available_node_types"]
    for which in ("head", "worker"):
        _, environment = started(read("cluster.yaml")[f"{which}_start_ray_commands"][1], tmp_path)

        assert json.loads(environment[NODES]) == [
            {**types[kind]["resources"], "nodes": types[kind]["max_workers"]} for kind in ("cpu", "gpu")
        ]


def test_all_of_ones_own_machines_are_in_the_cluster() -> None:
    config = prepared("cluster-own.yaml")

    [machine] = config["available_node_types"].values()

    assert machine["min_workers"] == len(config["provider"]["worker_ips"])


def test_on_ones_own_machines_the_autoscaler_is_the_one_that_does_not_count_the_head(tmp_path: Path) -> None:
    start = read("cluster-own.yaml")["head_start_ray_commands"][1]
    [by_the_launcher] = list(with_envs([start], {"RAY_enable_autoscaler_v2": "1"}))

    _, environment = started(by_the_launcher, tmp_path)

    assert environment["RAY_enable_autoscaler_v2"] == "0"


def test_on_ones_own_machines_the_launcher_finds_ray_to_stop_it(tmp_path: Path) -> None:
    """By `ray stop` in a login shell, which has ~/.local/bin on its path; else it would stop nothing."""
    (tmp_path / ".local" / "bin").mkdir(parents=True)
    link = read("cluster-own.yaml")["setup_commands"][-1]

    subprocess.run(["bash", "-c", link], env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}, check=True)

    assert (tmp_path / ".local" / "bin" / "ray").readlink() == tmp_path / "venv" / "bin" / "ray"


def test_the_serve_configuration_passes_serves_own_schema_and_ours() -> None:
    config = read("serve_app/config.yaml")

    (application,) = ServeDeploySchema.model_validate(config).applications

    assert application.import_path == "serve_app.app:build_app"
    assert config["http_options"]["host"] == "127.0.0.1"
    Settings.model_validate(application.args)
    (deployment,) = application.deployments
    Serving.model_validate(deployment.user_config)
