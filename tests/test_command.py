from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest
import torch
from cyclopts import Parameter
from pydantic import BaseModel, Field

from lstmfcn import command
from lstmfcn.command import Count, HyperparameterFlags, LocationFlag
from lstmfcn.errors import DataError, TrainingError
from lstmfcn.hyperparameters import Hyperparameters
from tests.commands import close, in_terminal


def job(
    *,
    fail: str = "",
    number: Count = 1,
    place: LocationFlag | None = None,
    force: bool = False,
    hyperparameters: HyperparameterFlags = Hyperparameters(),
) -> None:
    """Do something.

    Args:
        fail: How to end.
        force: Whatever is there.
        number: Of things.
        place: Of something.
        hyperparameters: Of the network.
    """
    match fail:
        case "data":
            raise DataError("x.csv is empty")
        case "training":
            raise TrainingError("the loss is no number")
        case "disk":
            raise OSError(28, "No space left on device", "x.csv")
        case "device":
            raise OSError(5, "Input/output error")
        case "memory":
            raise MemoryError("Unable to allocate 1.00 TiB")
        case "memory of a network":
            torch.empty(1 << 50)
        case "interrupt":
            raise KeyboardInterrupt
        case "terminate":
            os.kill(os.getpid(), signal.SIGTERM)
        case "hang up":
            os.kill(os.getpid(), signal.SIGHUP)
        case "bug":
            raise ZeroDivisionError
        case "other bug":
            raise NotImplementedError  # a RuntimeError
    print(number, hyperparameters.kernel_size_1, place)


class Settings(BaseModel):
    name: str
    most_things: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"


def set_up(*, settings: Annotated[Settings, Parameter(name="*")]) -> None:
    """Set something."""


def run(*flags: str) -> int:
    with pytest.raises(SystemExit) as ended:
        command.run(job, "python -m jobs.job", flags)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_flags_are_the_arguments_in_kebab_case(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--number", "3", "--kernel-size-1", "5", "--place", "s3://b/x y") == 0
    assert capsys.readouterr().out == "3 5 s3://b/x y\n"


def test_sigterm_ends_a_job_even_where_sigint_is_ignored(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run("--fail", "terminate") == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "interrupted\n"


LONG_JOB = """
import time
from lstmfcn import command

def job():
    try:
        print("begun", flush=True)
        while True:
            time.sleep({pause})
            print("at work", flush=True)
    finally:
        time.sleep(0.3)
        print("ending", flush=True)
        open("kept", "w").close()

command.run(job, "job", [])
"""


@pytest.mark.parametrize("pause", [0.001, 60])
def test_a_closed_terminal_ends_a_job_as_ctrl_c_does(pause: float, tmp_path: Path) -> None:
    job = [sys.executable, "-c", LONG_JOB.format(pause=pause)]
    with in_terminal(job, cwd=tmp_path) as (process, terminal):
        assert terminal.readline() == "begun\n"
        close(terminal, process)

        assert process.wait(30) == 130
    assert (tmp_path / "kept").exists()


def test_a_terminal_that_is_closed_after_ctrl_c_cuts_no_end_short(tmp_path: Path) -> None:
    job = [sys.executable, "-c", LONG_JOB.format(pause=60)]
    with in_terminal(job, cwd=tmp_path) as (process, terminal):
        assert terminal.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        close(terminal, process)

        assert process.wait(30) == 130
    assert (tmp_path / "kept").exists()


def test_nohup_lets_it_go_on_and_say_what_fails(capsys: pytest.CaptureFixture[str]) -> None:
    of_pytest = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run("--fail", "hang up") == 0
        assert run("--fail", "device") == 1
    finally:
        signal.signal(signal.SIGHUP, of_pytest)
    assert capsys.readouterr().err == "[Errno 5] Input/output error\n"


@pytest.mark.parametrize(
    ("flags", "status", "sentence"),
    [
        (["--fail", "data"], 2, "x.csv is empty"),
        (["--fail", "training"], 1, "the loss is no number"),
        (["--fail", "disk"], 2, "x.csv: No space left on device"),
        *(
            (
                ["--fail", what],
                1,
                "there is not enough memory; use more or, to train, a smaller batch_size or network",
            )
            for what in ("memory", "memory of a network")
        ),
        (["--fail", "interrupt"], 130, "interrupted"),
        (["--fail", "terminate"], 130, "interrupted"),
        (
            ["--epochs", "0"],
            2,
            "hyperparameter epochs must be a whole number, at least 1 and at most 1000000, got '0'"
            " (python -m jobs.job --help lists the flags)",
        ),
        (
            ["--numbr", "2"],
            2,
            "Unknown option: --numbr. Did you mean --number? (python -m jobs.job --help lists the flags)",
        ),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_a_status(
    flags: list[str], status: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*flags) == status
    assert capsys.readouterr().err == sentence + "\n"


def test_a_count_is_at_least_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--number", "0") == 2
    assert "--number" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["2.5", "0.6", "1e3", "1_0", "0x10", "two"])
def test_a_count_is_a_whole_number(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--number", text) == 2
    assert f"'{text}' is not a whole number" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--most-things", "1"], "--name is needed"),
        (
            ["--name", "a", "--most-things", "0"],
            "--most-things is '0': Input should be 'auto', or Input should be greater than or equal to 1",
        ),
    ],
)
def test_a_setting_that_is_refused_is_named(
    flags: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.run(set_up, "python -m jobs.job", flags)

    assert ended.value.code == 2
    assert capsys.readouterr().err == f"{sentence} (python -m jobs.job --help lists the flags)\n"


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("s4://bucket/x", "a path begins with s4://; object storage is s3:// and gs://"),
        ("s3://me:hidden@bucket/x", "credentials are set in the environment"),
        ("S3://me:hid/hidden@bucket/x", "credentials are set in the environment"),
        ("s3:///x", "what follows s3:// is no bucket's name; s3://bucket/path would be right"),
    ],
)
def test_a_uri_that_can_not_be_used_is_refused(
    uri: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--place", uri) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert "hidden" not in told


@pytest.mark.parametrize(("bug", "error"), [("bug", ZeroDivisionError), ("other bug", NotImplementedError)])
def test_a_bug_keeps_its_traceback(bug: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        command.run(job, "python -m jobs.job", ["--fail", bug])


def test_help_names_every_hyperparameter_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    text = capsys.readouterr().out
    for name, field in Hyperparameters.model_fields.items():
        assert f"--{name.replace('_', '-')}" in text
        assert f"[default: {field.default}]" in " ".join(text.replace("│", "").split())
    assert not any(f"[default: {nothing}]" in text for nothing in ("False", "None", '""', ""))


def test_letters_that_the_output_lacks_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1"))

    assert command.outcome(lambda: print("\u65e5"), "job", []) == (0, "")

    sys.stdout.flush()
    assert written.getvalue() == b"\\u65e5\n"
