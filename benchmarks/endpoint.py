"""The endpoint beside plain servers, under wrk (which must be installed): `python -m benchmarks.endpoint`.

Starlette on uvicorn and Ray Serve with its defaults run the same handler: numpy.loadtxt and the plain module.
All three serve at once and are measured in turn, several times; figures are medians. Takes some 10 minutes.
"""

from __future__ import annotations

import json
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import cyclopts
import httpx

from benchmarks.networks import LENGTH, make_checkpoint, make_csv
from serve_app.ingress import free_port

SERVERS = ("bare", "serve", "ours")
_ALL_CELLS = list(product((1, 16, 128), (1, 150, 2000)))
_MOST_OF_DEFAULT = 2400
"""Most rows at once for the default network; a CPU computes these in two or three seconds."""
CELLS = {
    "small": _ALL_CELLS,
    "default": [cell for cell in _ALL_CELLS if cell[0] * cell[1] <= _MOST_OF_DEFAULT],
}
"""Numbers of connections and of rows of a request that each network is measured with."""
_PATIENCE = "60"
"""Seconds that a request may wait: by default the endpoint would refuse some of 128 large ones at once."""

_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "text/csv"
local file = io.open("{body}", "rb")
wrk.body = file:read("*a")
file:close()
done = function(summary, latency, requests)
  local e = summary.errors
  local errors = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format("RESULT %d %d %d %d %d", latency:percentile(50), latency:percentile(99),
    summary.requests, summary.duration, errors))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk measured."""

    p50_ms: float
    p99_ms: float
    requests_per_second: float
    errors: int


def main(*, seconds: int = 3, repeats: int = 3) -> None:
    """Print latencies and rates of each server, then a line of JSON.

    Args:
        seconds: Seconds of load on each server for each cell of the table.
        repeats: Times that each cell is measured.
    """
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed; on Debian: apt-get install wrk")
    medians: dict[tuple[str, int, int, str], Load] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for network, cells in CELLS.items():
            make_checkpoint(network).save(folder / network)
            with ExitStack() as stack:
                urls = {server: stack.enter_context(_serving(server, folder / network)) for server in SERVERS}
                for connections, rows in cells:
                    script = _script(folder, rows)
                    loads: dict[str, list[Load]] = defaultdict(list)
                    for _ in range(repeats):
                        for server, url in urls.items():
                            loads[server].append(_load(url, script, connections, seconds))
                    for server, of_server in loads.items():
                        medians[network, connections, rows, server] = _median(of_server)
                    _print(network, connections, rows, medians)
    print(json.dumps(_ratios(medians)))


@contextmanager
def _serving(server: str, checkpoint: Path) -> Iterator[str]:
    """Run a server as a process, and yield its address once it answers."""
    port = str(free_port(8080))
    command = [sys.executable, "-m"]
    if server == "ours":
        command += ["serve_app", "--checkpoint", str(checkpoint), "--port", port]
        command += ["--max-wait-seconds", _PATIENCE]
    else:
        command += ["benchmarks.plain_servers", server, str(checkpoint), port]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}/invocations"
        try:
            _wait(process, url)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    body = ",".join(["1.5"] * LENGTH) + "\n"
    while process.poll() is None:
        try:
            if httpx.post(url, content=body, headers={"Content-Type": "text/csv"}).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    sys.exit(f"{process.args!r} ended with status {process.returncode}")


def _script(folder: Path, rows: int) -> Path:
    """Write a script by which wrk sends this many rows, with values of 15 significant digits."""
    body, script = folder / f"{rows}.csv", folder / f"{rows}.lua"
    body.write_bytes(make_csv(rows))
    script.write_text(_SCRIPT.replace("{body}", str(body)))
    return script


def _load(url: str, script: Path, connections: int, seconds: int) -> Load:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "-s", str(script), url]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    p50, p99, requests, microseconds, errors = map(int, printed.partition("RESULT ")[2].split())
    return Load(p50 / 1000, p99 / 1000, requests / microseconds * 1e6, errors)


def _median(loads: list[Load]) -> Load:
    """Return the median of each figure; of errors, the sum."""
    return Load(
        statistics.median(load.p50_ms for load in loads),
        statistics.median(load.p99_ms for load in loads),
        statistics.median(load.requests_per_second for load in loads),
        sum(load.errors for load in loads),
    )


def _print(network: str, connections: int, rows: int, medians: dict[tuple[str, int, int, str], Load]) -> None:
    for server in SERVERS:
        load = medians[network, connections, rows, server]
        print(
            f"{network:<8} {connections:>4} connections {rows:>5} rows {server:<6}"
            f" p50 {load.p50_ms:>9.2f} ms  p99 {load.p99_ms:>9.2f} ms"
            f" {load.requests_per_second:>9.1f} requests/s  {load.errors} errors",
            flush=True,
        )


def _ratios(medians: dict[tuple[str, int, int, str], Load]) -> dict[str, float]:
    def cell(connections: int, rows: int, server: str) -> Load:
        return medians["small", connections, rows, server]

    rate = cell(16, 1, "ours").requests_per_second
    return {
        "p50_1row_vs_bare": round(cell(1, 1, "ours").p50_ms / cell(1, 1, "bare").p50_ms, 2),
        "rps_16conn_vs_bare": round(rate / cell(16, 1, "bare").requests_per_second, 2),
        "rps_16conn_vs_default_serve": round(rate / cell(16, 1, "serve").requests_per_second, 2),
        "p50_150rows_vs_bare": round(cell(1, 150, "ours").p50_ms / cell(1, 150, "bare").p50_ms, 2),
        "errors": sum(load.errors for (*_, server), load in medians.items() if server == "ours"),
    }


if __name__ == "__main__":
    cyclopts.run(main)
