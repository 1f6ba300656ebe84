from __future__ import annotations

import pytest
from pydantic import ValidationError

from serve_app.settings import Settings


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"precision": "fp16"},
            "--precision fp16 needs --gpus-per-replica; a CPU computes in fp32 or bf16",
        ),
        (
            {"max_held_bytes": 5, "max_body_bytes": 6},
            "--max-held-bytes is 5; it must be at least --max-body-bytes, 6",
        ),
        ({"replicas": 3, "max_replicas": 2}, "--max-replicas is 2; it must be at least --replicas, 3"),
        ({"cpus_per_replica": float("inf")}, "finite number"),
        ({"gpus_per_replica": 2}, "less than or equal to 1"),
        ({"cpus_per_replica": 0.00001}, "greater than or equal to 0.0001"),
    ],
)
def test_what_cannot_be_served_is_refused(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Settings.model_validate({"checkpoint": "sweep/best", **settings})


def test_fp16_is_for_replicas_with_a_gpu() -> None:
    assert Settings(checkpoint="sweep/best", precision="fp16", gpus_per_replica=0.5).precision == "fp16"
