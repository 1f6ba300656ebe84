from pathlib import Path

import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.serve.schema import ServeDeploySchema

from serve_app.settings import Serving, Settings

ROOT = Path(__file__).parent.parent.parent


def test_cluster_yaml_passes_rays_own_preparation_and_schema() -> None:
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())

    validate_config(prepare_config(config))

    assert "nightly" not in str(config)
    assert "--dashboard-host=127.0.0.1" in str(config["head_start_ray_commands"])


def test_the_serve_configuration_passes_serves_own_schema_and_ours() -> None:
    config = yaml.safe_load((ROOT / "serve_app" / "config.yaml").read_text())

    (application,) = ServeDeploySchema.model_validate(config).applications

    assert application.import_path == "serve_app.app:build_app"
    assert config["http_options"]["host"] == "127.0.0.1"
    Settings.model_validate(application.args)
    (deployment,) = application.deployments
    Serving.model_validate(deployment.user_config)
