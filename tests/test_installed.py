"""What an installation brings along: the command `lstmfcn` and the files beside the code."""

from __future__ import annotations

import fnmatch
import importlib
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.__main__ import COMMANDS, main
from lstmfcn import __version__
from tests.samples import make_dataset, write_csv

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def status_of(*argv: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in argv])
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def environment() -> Iterator[None]:
    """Unchanged by what `serve` sets for Ray Serve."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def test_the_command_is_the_projects_script() -> None:
    module, _, function = PROJECT["project"]["scripts"]["lstmfcn"].partition(":")

    assert getattr(importlib.import_module(module), function) is main


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("name", COMMANDS)
def test_help_explains_every_flag(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(name, "--help") == 0

    text = capsys.readouterr().out
    assert re.findall(r"^│ [* ]*--[a-z-]+", text, re.MULTILINE)
    assert re.findall(r"^│ [* ]*(--[a-z-]+)(?: [A-Z|]+(?:\.\.\.)?)? +│$", text, re.MULTILINE) == []


def test_it_trains_and_evaluates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_csv(tmp_path / "data.csv", make_dataset(8), labelled=True)
    assert status_of("train", "--training", data, "--output", tmp_path / "model", "--epochs", 1) == 0

    assert status_of("evaluate", "--checkpoint", tmp_path / "model", "--data", data, "--json") == 0

    assert '"num_cases": 8' in capsys.readouterr().out


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("--help") == 0
    text = capsys.readouterr().out
    assert status_of() == 0
    assert capsys.readouterr().out == text

    assert all(f"  lstmfcn {name} " in text for name in COMMANDS)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_in_a_commands_help_is_one_of_the_command(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(name, "--help") == 0

    text = " ".join(capsys.readouterr().out.split())
    assert f"lstmfcn {name} --" in text.partition("Usage:")[2].partition("]")[2]
    assert "python -m" not in text


def test_a_command_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("trian", "--epochs", 1) == 2

    assert capsys.readouterr().err == (
        "lstmfcn has no command 'trian'; it has train, tune, evaluate, explain, transform, serve, pipeline\n"
    )


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("--version") == 0

    assert capsys.readouterr().out == f"{__version__}\n"


def test_every_file_beside_the_code_is_packaged() -> None:
    settings = PROJECT["tool"]["setuptools"]
    for package in settings["packages"]:
        files = {path for path in (ROOT / package).rglob("*") if path.is_file() and path.suffix != ".pyc"}
        beside = {str(path.relative_to(ROOT / package)) for path in files if path.suffix != ".py"}
        patterns = settings["package-data"].get(package, [])

        assert {name for name in beside if any(fnmatch.fnmatch(name, one) for one in patterns)} == beside
        assert all(path.parent == ROOT / package for path in files if path.suffix == ".py")
