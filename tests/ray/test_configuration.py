import shlex
import subprocess
import sys
from pathlib import Path

import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.serve.schema import ServeDeploySchema

from serve_app import ingress
from serve_app.settings import Serving, Settings

ROOT = Path(__file__).parent.parent.parent


def test_cluster_yaml_passes_rays_own_preparation_and_schema() -> None:
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())

    validate_config(prepare_config(config))

    assert "nightly" not in str(config)
    assert "--dashboard-host=127.0.0.1" in str(config["head_start_ray_commands"])


def test_cluster_yaml_starts_ray_with_the_launchers_variables() -> None:
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    (head,) = config["head_start_ray_commands"][1:]
    (worker,) = config["worker_start_ray_commands"][1:]
    setting = 'eval "$(python -m serve_app.ingress)"'
    python = f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"

    shown = subprocess.run(
        ["bash", "-c", f"{python}; {setting}; env"], capture_output=True, text=True, check=True, env={}
    ).stdout

    assert setting in head
    assert setting in worker
    assert dict(line.split("=", 1) for line in shown.splitlines()).items() >= ingress.variables().items()


def test_the_serve_configuration_passes_serves_own_schema_and_ours() -> None:
    config = yaml.safe_load((ROOT / "serve_app" / "config.yaml").read_text())

    (application,) = ServeDeploySchema.model_validate(config).applications

    assert application.import_path == "serve_app.app:build_app"
    assert config["http_options"]["host"] == "127.0.0.1"
    Settings.model_validate(application.args)
    (deployment,) = application.deployments
    Serving.model_validate(deployment.user_config)
