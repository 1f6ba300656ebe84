"""The command `lstmfcn`, which an installation brings along: all jobs and the endpoint by one name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from jobs.place import run_in_place
from lstmfcn import __version__
from lstmfcn.command import run

COMMANDS = {
    "train": ("jobs.train", "train"),
    "tune": ("jobs.tune", "tune"),
    "evaluate": ("jobs.evaluate", "evaluate"),
    "explain": ("jobs.explain", "explain"),
    "transform": ("jobs.transform", "transform"),
    "serve": ("serve_app.__main__", "serve_checkpoint"),
    "pipeline": ("jobs.pipeline", "pipeline"),
}
"""Module and function of each command, imported when it is called, since some imports take seconds."""

ALONE = {"train", "evaluate", "explain"}
"""Commands that compute without Ray's libraries."""

HELP = """\
Classify time series at scale with LSTM-FCN networks, on Ray.

  lstmfcn tune       train networks in parallel and keep the best
  lstmfcn train      train one network, or go on with one
  lstmfcn evaluate   score a checkpoint on labelled data
  lstmfcn explain    show which parts of a series support its class
  lstmfcn transform  predict CSV files of any size
  lstmfcn serve      answer over HTTP
  lstmfcn pipeline   tune, evaluate and transform in one job; --deploy also serves

From data to predictions, where each row of train.csv is a label and then a series:

  lstmfcn tune --training train.csv --output sweep --num-trials 8 --refit
  lstmfcn evaluate --checkpoint sweep/refit --data test.csv
  lstmfcn transform --checkpoint sweep/refit --input data.csv --output predictions
  lstmfcn serve --checkpoint sweep/refit

`lstmfcn COMMAND --help` explains the flags of a command; `lstmfcn --version` prints the version.
"""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command that the first argument names, then exit with its status."""
    name, *flags = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in COMMANDS:
        start = run_in_place if name in ALONE else run
        start(_function(name), f"lstmfcn {name}", flags)
    if name in ("--help", "-h", "help"):
        print(HELP, end="")
        sys.exit(0)
    if name == "--version":
        print(__version__)
        sys.exit(0)
    print(f"lstmfcn has no command {name!r}; it has {', '.join(COMMANDS)}", file=sys.stderr)
    sys.exit(2)


def _function(name: str) -> Callable[..., None]:
    module, attribute = COMMANDS[name]
    function: Callable[..., None] = getattr(importlib.import_module(module), attribute)
    # The example in the help is to name the command as it was typed.
    as_module = f"python -m {module.removesuffix('.__main__')}"
    function.__doc__ = (
        (function.__doc__ or "").replace(as_module, f"lstmfcn {name}").replace("jobs.", "lstmfcn ")
    )
    return function


if __name__ == "__main__":
    main()
