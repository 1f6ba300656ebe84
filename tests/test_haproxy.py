from __future__ import annotations

import re
from pathlib import Path

import pytest
from ray.serve._private.haproxy import HAProxyApi, HAProxyConfig
from ray.serve.config import HTTPOptions

from lstmfcn.errors import ResourceError
from serve_app.haproxy import guarded


@pytest.fixture(scope="module")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> str:
    """That Ray writes when there is no replica yet."""
    folder = tmp_path_factory.mktemp("haproxy")
    config = HAProxyConfig(
        http_options=HTTPOptions(port=8080),
        metrics_port=9101,
        stats_port=8404,
        socket_path=str(folder / "admin.sock"),
        server_state_base=str(folder),
        server_state_file=str(folder / "server-state"),
    )
    api = HAProxyApi(config, config_file_path=str(folder / "haproxy.cfg"))
    api._generate_config_file_internal()
    return Path(api.config_file_path).read_text()


def test_only_the_endpoint_itself_is_reached_from_elsewhere(configuration: str) -> None:
    configuration = configuration.replace("bind 127.0.0.1:8080", "bind 0.0.0.0:8080")

    changed = guarded(configuration, header_seconds=10, connections=2000)

    assert re.findall(r"^ *bind (.*)", changed, re.MULTILINE) == [
        "127.0.0.1:9101",
        "0.0.0.0:8080",
        "127.0.0.1:8404",
    ]
    assert "mode 666" not in changed


def test_headers_and_connections_have_limits(configuration: str) -> None:
    changed = guarded(configuration, header_seconds=7, connections=12)

    assert "\ndefaults\n    timeout http-request 7s\n" in changed
    assert '"more than 12 connections are open; try again"' in changed
    assert "if { fe_conn gt 12 }" in changed


@pytest.mark.parametrize(
    "line", ["defaults", "frontend prometheus", "listen stats", "frontend http_frontend", "    stats socket"]
)
def test_a_configuration_in_which_a_line_is_not_found_is_refused(configuration: str, line: str) -> None:
    other = re.sub(f"^{line}", "# another line", configuration, flags=re.MULTILINE)

    with pytest.raises(ResourceError) as refused:
        guarded(other, header_seconds=10, connections=2000)

    sentence = str(refused.value)
    assert sentence.startswith("Ray's configuration of HAProxy has no line like ^")
    assert line.strip() in sentence.partition(", so")[0]
    assert sentence.endswith(
        ", so it can't be made stricter; RAY_SERVE_ENABLE_HA_PROXY=0 does without HAProxy"
    )


def test_nothing_is_sent_to_a_log_that_nobody_chose(configuration: str) -> None:
    default = "    log 127.0.0.1:514 local0 info\n"
    assert default in configuration
    chosen = configuration.replace("127.0.0.1:514", "10.0.0.5:514")

    assert default not in guarded(configuration, header_seconds=10, connections=2000)
    assert "log 10.0.0.5:514" in guarded(chosen, header_seconds=10, connections=2000)
