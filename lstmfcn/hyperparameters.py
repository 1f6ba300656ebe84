"""Names, defaults, limits and help of every hyperparameter: the only place where they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo

from lstmfcn.errors import HyperparameterError


def _limited(default: int, help: str, *, at_most: int) -> Any:
    return Field(default, ge=1, le=at_most, description=help)


class Hyperparameters(BaseModel):
    """The twelve hyperparameters of the reference algorithm, with its names and defaults, and what the papers
    add in their variants.

    Numbers may be given as text (`"128"`, `"0.8"`), as SageMaker's hyperparameters.json does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_layers: int = _limited(1, "LSTM layers, each followed by dropout", at_most=64)
    hidden_size: int = _limited(8, "Units of each LSTM layer", at_most=8192)
    dropout: float = Field(0.8, ge=0, lt=1, description="Share of LSTM outputs dropped in training")
    filters_1: int = _limited(128, "Filters of the first convolution", at_most=8192)
    filters_2: int = _limited(256, "Filters of the second convolution", at_most=8192)
    filters_3: int = _limited(128, "Filters of the third convolution", at_most=8192)
    kernel_size_1: int = _limited(8, "Time steps under the first kernel", at_most=1024)
    kernel_size_2: int = _limited(5, "Time steps under the second kernel", at_most=1024)
    kernel_size_3: int = _limited(3, "Time steps under the third kernel", at_most=1024)
    lr: float = Field(
        0.001,
        gt=0,
        le=10,
        description="Learning rate; where the recipe fast uses Muon, kernels move at ten times it",
    )
    batch_size: int = _limited(128, "Series per optimiser step", at_most=1_000_000)
    epochs: int = _limited(2000, "Passes over the training set", at_most=1_000_000)
    attention: int = Field(
        0,
        ge=0,
        le=1,
        description="1 for attention LSTM layers (ALSTM-FCN); with a single channel there is nothing for them"
        " to choose from",
    )
    squeeze_excite: int = Field(
        0,
        ge=0,
        le=1,
        description="1 for squeeze-and-excite blocks after the first two convolutions (MLSTM-FCN)",
    )

    if not TYPE_CHECKING:  # type checkers see the constructor that pydantic makes from the fields

        def __init__(self, **values: object) -> None:
            """Raises HyperparameterError for an unknown name or a value out of its limits."""
            try:
                super().__init__(**values)
            except ValidationError as error:
                raise HyperparameterError(_explain(error)) from None

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_other_than_numbers(cls, value: object) -> object:
        # pydantic would take True for 1, and 1_0 for 10
        if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
            raise ValueError("not a number")
        return value


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    name = str(first["loc"][0])
    if name not in Hyperparameters.model_fields:
        known = ", ".join(Hyperparameters.model_fields)
        return f"unknown hyperparameter {name!r}; the hyperparameters are {known}"
    return f"hyperparameter {name} must be {limits(name)}, got {first['input']!r}"


def limits(name: str) -> str:
    """Return the limits of a hyperparameter's values, in words."""
    field: FieldInfo = Hyperparameters.model_fields[name]
    words = []
    for limit in field.metadata:
        match limit:
            case Ge(ge):
                words.append(f"at least {ge}")
            case Gt(gt):
                words.append(f"above {gt}")
            case Le(le):
                words.append(f"at most {le}")
            case Lt(lt):
                words.append(f"below {lt}")
    noun = "a whole number" if field.annotation is int else "a number"
    return f"{noun}, {' and '.join(words)}"
