"""The README's first command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import haproxy_ports


@pytest.mark.long
def test_the_demo_tunes_evaluates_transforms_and_serves_gunpoint(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jobs.demo", "--output", str(tmp_path / "demo")]

    ended = subprocess.run(
        command, env={**os.environ, **haproxy_ports()}, stdout=subprocess.PIPE, text=True, check=True
    )

    assert "batch = online  150 predictions, the same bytes from both" in ended.stdout
    assert json.loads((tmp_path / "demo" / "evaluation" / "evaluation.json").read_text())["accuracy"] > 0.9
    for name in ("sweep/report.html", "sweep/leaderboard.csv", "evaluation/confusion-matrix.png"):
        assert (tmp_path / "demo" / name).stat().st_size > 0
    assert (
        subprocess.run(command, capture_output=True, check=False).returncode == 2
    )  # the folder holds results
