"""The settings of an endpoint."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from cyclopts import Parameter
from pydantic import BaseModel, ConfigDict, Field, model_validator

from lstmfcn.devices import Precision

_Place: TypeAlias = Annotated[str, Parameter(metavar="PATH|URI")]


class Settings(BaseModel):
    """The flags of `python -m serve_app`, and the arguments in serve_app/config.yaml and of
    `serve run serve_app.app:build_app name=value`.
    """

    model_config = ConfigDict(extra="forbid")

    checkpoint: _Place = Field(
        description="Checkpoint: folder written by jobs.train, or best/ or refit/ of jobs.tune; on a cluster,"
        " one that all nodes see"
    )
    columns: Literal["label", "probabilities", "label,probabilities"] | None = Field(
        None,
        description="What to answer unless the request asks for something else; by default the label, or"
        " label and probabilities if the body has a header",
    )
    precision: Precision = Field(
        "fp32",
        description="What the convolutions compute in: fp32; bf16; fp16 (on GPUs); auto, which is bf16 where"
        " the hardware computes in it, else fp32",
    )
    gpus_per_replica: float = Field(
        0, ge=0, le=1, allow_inf_nan=False, description="GPUs of each replica; a fraction shares one"
    )
    cpus_per_replica: float = Field(
        1,
        ge=0.0001,
        allow_inf_nan=False,
        description="CPUs of each replica; its network has as many threads as whole ones, at least one",
    )
    replicas: int = Field(1, ge=1, description="Replicas, each a process")
    max_replicas: int | None = Field(
        None, ge=1, description="Most replicas; under load they are added up to this number"
    )
    max_body_bytes: int = Field(
        6 * 1024 * 1024, ge=1, description="Largest request body; the default is SageMaker's"
    )
    max_rows: int = Field(100_000, ge=1, description="Most rows of a request")
    max_wait_seconds: float = Field(
        1,
        gt=0,
        le=3600,
        description="Longest time, in seconds, that a request may wait for others; one that would wait longer"
        " is refused, unless at most three are before it",
    )
    max_held_bytes: int = Field(
        256 * 1024 * 1024,
        ge=1,
        description="Most bytes of bodies that a replica holds at once; requests beyond are refused. Where"
        " series are padded or resampled, a value counts as 10 bytes",
    )
    max_requests: int = Field(
        256,
        ge=1,
        description="Most requests that a replica answers at once; as many more may be uploading",
    )
    body_seconds: float = Field(
        20, gt=0, allow_inf_nan=False, description="Seconds within which a request's whole body must arrive"
    )
    min_body_rate: int = Field(
        16 * 1024,
        ge=1,
        description="Slowest upload accepted, in bytes a second, after the first two seconds; four seconds"
        " without data also end it",
    )
    timeout_seconds: float = Field(
        60,
        gt=0,
        allow_inf_nan=False,
        description="Seconds within which a request must be predicted; the default is SageMaker's",
    )
    api_keys: _Place | None = Field(
        None,
        description="File with one API key per line; without it, the keys in the variable LSTMFCN_API_KEYS,"
        " separated by commas",
    )

    @model_validator(mode="after")
    def _fit_each_other(self) -> Settings:
        if self.precision == "fp16" and self.gpus_per_replica == 0:
            raise ValueError("--precision fp16 needs --gpus-per-replica; a CPU computes in fp32 or bf16")
        if self.max_held_bytes < self.max_body_bytes:
            raise ValueError(
                f"--max-held-bytes is {self.max_held_bytes}; it must be at least --max-body-bytes,"
                f" {self.max_body_bytes}"
            )
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(
                f"--max-replicas is {self.max_replicas}; it must be at least --replicas, {self.replicas}"
            )
        return self


class Serving(BaseModel):
    """Serve's `user_config`: what changes while the endpoint serves, without a restart."""

    model_config = ConfigDict(extra="forbid")

    checkpoint: str
    digest: str = ""
    """Digest of the checkpoint, so that new content in the same folder counts as a change."""
