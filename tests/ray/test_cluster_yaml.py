from pathlib import Path

import yaml
from ray.autoscaler._private.util import prepare_config, validate_config


def test_cluster_yaml_passes_rays_own_preparation_and_schema() -> None:
    config = yaml.safe_load((Path(__file__).parent.parent.parent / "cluster.yaml").read_text())

    validate_config(prepare_config(config))

    assert "nightly" not in str(config)
    assert "--dashboard-host=127.0.0.1" in str(config["head_start_ray_commands"])
