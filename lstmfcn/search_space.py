"""What a sweep tries: a range or a choice of values for each hyperparameter, checked before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias, cast, get_args

import yaml

from lstmfcn.errors import HyperparameterError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.storage import Location, read_bytes

RangeKind: TypeAlias = Literal["uniform", "log_uniform", "integer"]

DEFAULT_RANGES: dict[str, Any] = {
    "hidden_size": {"categorical": [8, 64, 128]},  # as the paper's search
    "dropout": {"uniform": [0.5, 0.9]},
    "lr": {"log_uniform": [0.0003, 0.01]},
    "batch_size": {"categorical": [16, 32, 64, 128]},
    "epochs": 300,
}


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers between two bounds; both belong to it when it is one of integers."""

    kind: RangeKind
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some values; a constant is a choice of one."""

    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """What each hyperparameter may be; those that aren't named keep their default."""

    domains: Mapping[str, Range | Choice]

    @classmethod
    def from_mapping(cls, ranges: Mapping[str, Any]) -> Self:
        """From `{"lr": {"log_uniform": [0.0001, 0.01]}, "epochs": 50}`, as the YAML file has it.

        Raises HyperparameterError for anything that could lead to an invalid hyperparameter.
        """
        return cls({name.replace("-", "_"): _domain(name.replace("-", "_"), ranges[name]) for name in ranges})

    @classmethod
    def read(cls, path: Location) -> Self:
        """From a YAML file. Raises HyperparameterError, or DataError when there is no file."""
        try:
            ranges = yaml.safe_load(read_bytes(path))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise HyperparameterError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(ranges, dict) or not all(isinstance(name, str) for name in ranges):
            raise HyperparameterError(f"{path} must map names of hyperparameters to ranges or values")
        return cls.from_mapping(ranges)

    @property
    def most_epochs(self) -> int:
        """The most epochs that a trial can have."""
        match self.domains.get("epochs"):
            case Range(high=high):
                return int(high)
            case Choice(values=values):
                return int(max(values))
        return Hyperparameters().epochs


def _domain(name: str, given: Any) -> Range | Choice:
    if not isinstance(given, dict):
        return Choice((_checked(name, given),))
    kinds = [*get_args(RangeKind), "categorical"]
    kind, bounds = next(iter(given.items()), (None, None))
    if len(given) != 1 or kind not in kinds:
        raise HyperparameterError(
            f"search space: {name} must be a value or one of {', '.join(kinds)}, got {given!r}"
        )
    if not isinstance(bounds, list) or not bounds:
        raise HyperparameterError(f"search space: {name}: {kind} needs a list of values, got {bounds!r}")
    values = tuple(_checked(name, bound) for bound in bounds)
    if kind == "categorical":
        return Choice(values)
    if len(values) != 2 or not values[0] < values[1]:
        raise HyperparameterError(f"search space: {name}: {kind} needs [low, high], got {bounds!r}")
    whole = Hyperparameters.model_fields[name].annotation is int
    if whole != (kind == "integer"):
        wanted = "integer or categorical" if whole else "uniform, log_uniform or categorical"
        raise HyperparameterError(f"search space: {name} takes {wanted}, got {kind}")
    if kind == "log_uniform" and values[0] <= 0:
        raise HyperparameterError(f"search space: {name}: log_uniform needs a low above 0, got {bounds!r}")
    return Range(cast(RangeKind, kind), *values)


def _checked(name: str, value: Any) -> float:
    try:
        checked: float = getattr(Hyperparameters.from_mapping({name: value}), name)
    except HyperparameterError as error:
        raise HyperparameterError(f"search space: {error}") from None
    return checked
