"""Run the notebook and keep what it shows: `make notebook`, or `python -m examples.execute [output]`."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent / "notebook.ipynb"


def execute(output: Path) -> None:
    """Run the notebook with a kernel of this Python, and write it to `output`.

    Raises CellExecutionError, and writes nothing, if a cell fails.
    """
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    # Without times, and with the lines of a command as one text, so that it changes little from run to run.
    client = NotebookClient(notebook, record_timing=False, coalesce_streams=True)
    client.create_kernel_manager().transport = "ipc"  # no ports that others on this machine could reach
    client.execute()
    nbformat.write(notebook, output)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    execute(Path(sys.argv[1]) if len(sys.argv) > 1 else NOTEBOOK)
