"""Running a function as a command: its arguments become flags, its errors an exit status."""

from __future__ import annotations

import errno
import io
import os
import platform
import re
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, NoReturn, TypeAlias

from cyclopts import App, CycloptsError, Group, Parameter, Token, validators
from pydantic import ValidationError

from lstmfcn.environment import NODE, cluster_is_given
from lstmfcn.errors import LSTMFCNError, MissingError, TrainingError, is_of_full_memory
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.signals import end_on_signals, has_hung_up
from lstmfcn.storage import Location, location, reason

_OUT_OF_MEMORY = "there is not enough memory; use more or, to train, a smaller batch_size or network"

HyperparameterFlags: TypeAlias = Annotated[
    Hyperparameters, Parameter(name="*", group=Group("Hyperparameters", sort_key=1))
]
"""One flag for each hyperparameter."""


def _location(_type: object, tokens: Sequence[Token]) -> Location:
    return location(tokens[0].value)


LocationFlag: TypeAlias = Annotated[
    Location, Parameter(converter=_location, n_tokens=1, accepts_keys=False, metavar="PATH|URI")
]
"""A path, or the URI of a place in object storage."""


def _whole(_type: object, tokens: Sequence[Token]) -> int:
    if not re.fullmatch("[+-]?[0-9]{1,18}", text := tokens[0].value):  # cyclopts would take 0.6 for 1
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


WholeNumber: TypeAlias = Annotated[int, Parameter(converter=_whole, n_tokens=1, accepts_keys=False)]
"""A whole number, written as one."""
Count: TypeAlias = Annotated[WholeNumber, Parameter(validator=validators.Number(gte=1))]
"""A whole number from 1."""
NotNegativeCount: TypeAlias = Annotated[WholeNumber, Parameter(validator=validators.Number(gte=0))]
"""A whole number from 0."""
OneOrNone: TypeAlias = Annotated[WholeNumber, Parameter(validator=validators.Number(gte=0, lte=1))]
"""0 or 1."""
Port: TypeAlias = Annotated[WholeNumber, Parameter(validator=validators.Number(gte=1, lte=65535))]
"""A port to listen on."""
GpuShare: TypeAlias = Annotated[float, Parameter(validator=validators.Number(gte=0, lte=1))]
"""GPUs for what computes on one at most: 0, 1 or a share of one."""


def run(function: Callable[..., None], name: str, argv: Sequence[str] | None = None) -> NoReturn:
    """Call the function with what the command line says, then exit.

    The status is 0 for success, 2 with a sentence on stderr for what the user can mend,
    130 when interrupted, and 1 for everything else.
    """
    status, sentence = outcome(function, name, sys.argv[1:] if argv is None else argv)
    if sentence:
        print(sentence, file=sys.stderr)
    sys.exit(status)


def outcome(function: Callable[..., None], name: str, argv: Sequence[str]) -> tuple[int, str]:
    """Call the function with what the command line says; return the exit status and, if not 0, a sentence."""
    end_on_signals()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a label may have letters that the terminal hasn't
        sys.stdout.reconfigure(errors="backslashreplace")
    app = App(
        name=name,
        version_flags=[],
        help_format="markdown",
        group_commands=Group("Help"),
        default_parameter=Parameter(negative=(), show_default=_default_in_help),
        suppress_keyboard_interrupt=False,
    )
    app.default(function)
    try:
        app(argv, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return 2, f"{_usage_sentence(error)} ({name} --help lists the flags)"
    except MissingError as error:
        return 2, f"{error}{_on_which_node()}"
    except LSTMFCNError as error:
        return 2, str(error)
    except (RuntimeError, OSError, MemoryError) as error:
        return _failure(error)
    except KeyboardInterrupt:
        return 130, "interrupted"
    return 0, ""


def _default_in_help(value: object) -> str | None:
    """Return a default as help shows it; None for one that says nothing, such as that of a switch."""
    return None if value is False or value in (None, "", ()) else str(value)


def _failure(error: Exception) -> tuple[int, str]:
    """Return exit status and sentence for an error; raise it again if it is a bug."""
    match error:
        case OSError(errno=errno.EIO, filename=None) if has_hung_up():
            return 130, "interrupted"  # a print to the terminal that was closed has failed
        case OSError(filename=str(path)):
            return 2, f"{path}: {reason(error)}"
        case OSError() | TrainingError():
            return 1, str(error)
        case _ if is_of_full_memory(repr(error)):
            return 1, _OUT_OF_MEMORY
    raise error


def _on_which_node() -> str:
    """Return a phrase on the node where something is missing; empty if that is the user's own machine."""
    node = os.environ.get(NODE, platform.node() if cluster_is_given() else "")
    return f" on node {node}; on a cluster it must lie where all nodes see it" if node else ""


def _usage_sentence(error: CycloptsError) -> str:
    if isinstance(error.__cause__, ValidationError):
        return _setting_sentence(error.__cause__)
    return " ".join(str(error).split())


def _setting_sentence(error: ValidationError) -> str:
    """Return a sentence on the first of a model's fields that is wrong."""
    first = error.errors()[0]
    if "error" in (context := first.get("ctx", {})):
        return str(context["error"])
    field = first["loc"][0]
    flag = f"--{field}".replace("_", "-")
    if first["type"] == "missing":  # its input would be the other fields
        return f"{flag} is needed"
    allowed = [one["msg"] for one in error.errors() if one["loc"][0] == field]  # of each possible type
    return f"{flag} is {first['input']!r}: {', or '.join(allowed)}"
