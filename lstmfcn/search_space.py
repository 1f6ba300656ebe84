"""What a sweep tries: a range or a choice of values for each hyperparameter, checked before it starts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias, cast, get_args

import numpy as np
import yaml

from lstmfcn.errors import HyperparameterError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.storage import Location, read_bytes

RangeKind: TypeAlias = Literal["uniform", "log_uniform", "integer"]

DEFAULT_RANGES: dict[str, Any] = {
    "hidden_size": {"categorical": [8, 64, 128]},  # as the paper's search
    "dropout": {"uniform": [0.7, 0.9]},
    "kernel_size_1": {"categorical": [8, 16, 32]},  # what data sets differ in most
    "lr": {"log_uniform": [0.0005, 0.004]},
}
"""Ranges for the fast recipe, which chooses batch size and epochs; benchmarks/RESULTS.md says why these."""


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers between two bounds; a range of integers includes both."""

    kind: RangeKind
    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    @property
    def is_varied(self) -> bool:
        """Whether there is more than one value."""
        return True

    @property
    def greatest(self) -> float:
        """The greatest value."""
        return int(self.high) if self.kind == "integer" else self.high

    def nearest(self, value: float) -> float:
        """Return the value of the range that is nearest to another value."""
        return min(max(value, self.low), self.high)

    def sample(self, random: np.random.Generator) -> float:
        """Return a random number of the range."""
        match self.kind:
            case "integer":
                return int(random.integers(int(self.low), int(self.high), endpoint=True))
            case "log_uniform":
                return self.nearest(math.exp(random.uniform(math.log(self.low), math.log(self.high))))
            case "uniform":
                return float(random.uniform(self.low, self.high))

    def described(self) -> dict[str, list[float]]:
        """Return the range as a YAML file has it."""
        return {self.kind: [self.low, self.high]}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some values; a constant is a choice of one."""

    values: tuple[float, ...]

    def __contains__(self, value: float) -> bool:
        return value in self.values

    @property
    def is_varied(self) -> bool:
        """Whether there is more than one value."""
        return len(self.values) > 1

    @property
    def greatest(self) -> float:
        """The greatest value."""
        return max(self.values)

    def nearest(self, value: float) -> float:
        """Return the choice that is nearest to another value."""
        return min(self.values, key=lambda own: abs(own - value))

    def sample(self, random: np.random.Generator) -> float:
        """Return one of the values at random."""
        return self.values[random.integers(len(self.values))]

    def described(self) -> dict[str, list[float]] | float:
        """Return the choice as a YAML file has it."""
        return {"categorical": list(self.values)} if self.is_varied else self.values[0]


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """The values that each hyperparameter may have; one that isn't named keeps its default."""

    domains: Mapping[str, Range | Choice]

    @classmethod
    def from_mapping(cls, ranges: Mapping[str, Any]) -> Self:
        """Read a space from `{"lr": {"log_uniform": [0.0001, 0.01]}, "epochs": 50}`, as the YAML file has it.

        Raises HyperparameterError for anything that could lead to an invalid hyperparameter.
        """
        domains = {name: _domain(name, given) for name, given in _with_underscores(ranges).items()}
        return cls({name: domains[name] for name in Hyperparameters.model_fields if name in domains})

    @classmethod
    def read(cls, path: Location) -> Self:
        """Read a space from a YAML file. Raises HyperparameterError, or DataError when there is no file."""
        ranges = _read_yaml(path)
        if not isinstance(ranges, dict):
            raise HyperparameterError(f"{path} must map names of hyperparameters to ranges or values")
        return cls.from_mapping(ranges)

    def completed(self, constants: Mapping[str, float]) -> Self:
        """Return the space with these constants for hyperparameters that it doesn't name."""
        return type(self)({**{name: Choice((value,)) for name, value in constants.items()}, **self.domains})

    def described(self) -> dict[str, Any]:
        """Return the space as `from_mapping` takes it."""
        return {name: domain.described() for name, domain in self.domains.items()}

    def as_yaml(self) -> str:
        """Return the space as YAML that `read` could read."""
        return str(yaml.safe_dump(self.described(), sort_keys=False, default_flow_style=None))

    def sample(self, random: np.random.Generator) -> Hyperparameters:
        """Return hyperparameters that are drawn at random from the space."""
        return Hyperparameters(**{name: domain.sample(random) for name, domain in self.domains.items()})

    @property
    def varied(self) -> dict[str, Range | Choice]:
        """Domains of the hyperparameters that have more than one value."""
        return {name: domain for name, domain in self.domains.items() if domain.is_varied}

    @property
    def constants(self) -> dict[str, float]:
        """Values of the hyperparameters that have only one."""
        return {name: domain.greatest for name, domain in self.domains.items() if not domain.is_varied}

    @property
    def num_networks(self) -> float:
        """Number of different networks in it."""
        choices = [len(set(domain.values)) for domain in self.domains.values() if isinstance(domain, Choice)]
        return math.prod(choices) if len(choices) == len(self.domains) else math.inf

    def largest(self, points: Sequence[Hyperparameters] = ()) -> Hyperparameters:
        """Return the greatest value of each hyperparameter in the space and in points tried beside it."""
        corners = [
            Hyperparameters(**{name: domain.greatest for name, domain in self.domains.items()}),
            *points,
        ]
        greatest = {name: max(getattr(one, name) for one in corners) for name in Hyperparameters.model_fields}
        return Hyperparameters(**greatest)


def _with_underscores(named: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("-", "_"): value for name, value in named.items()}


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
        checked: float = getattr(Hyperparameters(**{name: value}), name)
    except HyperparameterError as error:
        raise HyperparameterError(f"search space: {error}") from None
    return checked


def read_points(path: Location, space: SearchSpace) -> list[Hyperparameters]:
    """Read hyperparameters from a YAML file with a list of mappings; one that isn't named has the space's
    constant, else its default.

    Raises HyperparameterError, or DataError when there is no file.
    """
    points = _read_yaml(path)
    if not isinstance(points, list) or not all(isinstance(point, dict) for point in points):
        raise HyperparameterError(f"{path} must be a list of mappings from hyperparameters to values")
    try:
        return [Hyperparameters(**{**space.constants, **_with_underscores(point)}) for point in points]
    except HyperparameterError as error:
        raise HyperparameterError(f"{path}: {error}") from None


class _Loader(yaml.BaseLoader):
    """Leaves all values as the text that they are, since YAML would take 010 for 8 and 1:30 for 90; refuses a
    name that is there twice, whose first value YAML would forget.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value.replace("-", "_") for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for name in names:
            if names.count(name) > 1:
                raise HyperparameterError(f"{name} is there twice")
        return super().construct_mapping(node, deep)


def _read_yaml(path: Location) -> Any:
    content = read_bytes(path)
    try:
        return yaml.load(content, _Loader)  # noqa: S506 (it makes text, lists and mappings only)
    except HyperparameterError as error:
        raise HyperparameterError(f"{path}: {error}") from None
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:  # a letter that there isn't
        raise HyperparameterError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
