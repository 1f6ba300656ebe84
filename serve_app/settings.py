"""What can be set of an endpoint."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lstmfcn.devices import Precision
from lstmfcn.prediction_format import parse_columns


class Settings(BaseModel):
    """The arguments of `serve run serve_app.app:build_app name=value`, and of `serve_app/config.yaml`."""

    model_config = ConfigDict(extra="forbid")

    checkpoint: str = ""
    """Path or URI of the checkpoint folder, which every node sees. `user_config` can name another, later."""
    columns: Literal["label", "probabilities", "label,probabilities"] = "label"
    """What is answered unless a request asks for something else."""
    precision: Precision = "fp32"
    gpus_per_replica: float = Field(0, ge=0)
    replicas: int = Field(1, ge=1)
    """The least number of replicas."""
    max_replicas: int | None = Field(None, ge=1)
    """Serve adds replicas under load up to so many; as many as `replicas`, for None."""
    max_body_bytes: int = Field(6 * 1024 * 1024, ge=1)
    """Largest request body; the default is SageMaker's."""
    max_rows: int = Field(100_000, ge=1)
    """Of a request."""
    max_waiting_rows: int = Field(200_000, ge=1)
    """In the queue of a replica; a request that comes to a full one is refused at once."""
    max_requests: int = Field(256, ge=1)
    """In a replica at once; one more is refused at once."""
    timeout_seconds: float = Field(60, gt=0)
    """For a request, its body's arrival included; the default is SageMaker's."""
    api_keys: str | None = None
    """File of API keys; without it they come from the environment, if there are some."""

    @model_validator(mode="after")
    def _replicas_in_order(self) -> Settings:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas is {self.max_replicas}; replicas are at least {self.replicas}")
        parse_columns(self.columns)
        return self


class Serving(BaseModel):
    """`user_config`: what changes while the endpoint serves, without a restart."""

    model_config = ConfigDict(extra="forbid")

    checkpoint: str
    digest: str = ""
    """Of the checkpoint, if it is known, so that new content in the same folder is a change."""
