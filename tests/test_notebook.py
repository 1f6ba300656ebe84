"""The notebook as it is kept, and as it runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "examples" / "notebook.ipynb"


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def shown(cells: list[dict[str, Any]], kind: str) -> list[str]:
    """All that was shown of a kind: `text` of commands, or a MIME type."""
    outputs = [output for cell in cells for output in cell["outputs"]]
    found = [output.get(kind, output.get("data", {}).get(kind)) for output in outputs]
    return ["".join(text) for text in found if text is not None]


def test_it_is_kept_as_one_run_left_it_and_small() -> None:
    cells = code_cells(NOTEBOOK)

    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert len(shown(cells, "image/png")) == 3
    assert NOTEBOOK.stat().st_size < 200_000
    assert not any(name in NOTEBOOK.read_text() for name in (str(Path.home()), str(ROOT), "/tmp/"))  # noqa: S108


@pytest.mark.long
def test_it_runs_and_leaves_nothing_behind(tmp_path: Path) -> None:
    output, work = tmp_path / "notebook.ipynb", tmp_path / "work"
    work.mkdir()
    with TemporaryDirectory() as short:  # paths of sockets have at most 107 bytes
        folders = dict.fromkeys(("RAY_TMPDIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"), short)
        environment = {**os.environ, **folders, "TMPDIR": str(work)}
        command = [sys.executable, "-m", "examples.execute", str(output)]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
        started = [
            process
            for process in psutil.process_iter(["environ"])
            if (process.info["environ"] or {}).get("TMPDIR") == str(work)
        ]
        _, left = psutil.wait_procs(started, timeout=20)

    assert left == []
    assert list(work.iterdir()) == []
    *_, accuracies = shown(code_cells(output), "text/plain")
    found = re.fullmatch(r" +test accuracy\ntrained +([0-9.]+)\ntuned +([0-9.]+)", accuracies)
    assert found is not None
    assert float(found[1]) > 0.85
    assert float(found[2]) > 0.95
