"""The whole route in one job."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from jobs import pipeline as jobs_pipeline
from jobs.pipeline import pipeline
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.ensemble import load_checkpoint
from serve_app.deployment import configuration
from serve_app.settings import Serving, Settings
from tests.commands import status_of
from tests.samples import TINY, make_dataset, write_csv

Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """With small networks; the exit status."""
    space = {**TINY.model_dump(), "lr": {"log_uniform": [0.0001, 0.05]}}
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(space))
    write_csv(tmp_path / "train.csv", make_dataset(40), labelled=True)
    write_csv(tmp_path / "test.csv", make_dataset(10, seed=1), labelled=True)
    write_csv(tmp_path / "data.csv", make_dataset(15, seed=2), labelled=False)

    def call(*flags: object) -> int:
        places = {
            "training": "train.csv",
            "test": "test.csv",
            "input": "data.csv",
            "search-space": "space.yaml",
        }
        given = [word for flag, name in places.items() for word in (f"--{flag}", tmp_path / name)]
        argv = [*given, "--output", tmp_path / "route", "--scheduler", "none", *flags]
        return status_of(pipeline, *argv)

    return call


def written(route: Path) -> dict[str, int]:
    """When the trials' weights, the scores and the predictions were."""
    patterns = ("sweep/trials/*/weights-*", "evaluation/*.json", "predictions/*")
    return {str(path): path.stat().st_mtime_ns for pattern in patterns for path in route.glob(pattern)}


@pytest.mark.usefixtures("cluster")
def test_the_route_leaves_what_is_done_and_does_again_what_another_best_makes_stale(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    route = tmp_path / "route"
    assert run("--num-trials", 1) == 0
    first = written(route)
    capsys.readouterr()

    assert run("--num-trials", 1) == 0

    assert written(route) == first
    assert f"{route / 'evaluation'} holds this evaluation already" in capsys.readouterr().out

    assert run("--num-trials", 4) == 0

    digest = load_checkpoint(route / "sweep" / "best").digest()
    for name in ("evaluation/evaluation.json", "predictions/transform.json"):
        assert json.loads((route / name).read_bytes())["checkpoint"] == digest
    assert len((route / "predictions" / "data.csv.out").read_text().splitlines()) == 15

    write_csv(tmp_path / "data.csv", make_dataset(3, seed=3), labelled=False)
    assert run("--num-trials", 4) == 2
    assert "computed from another checkpoint or input" in capsys.readouterr().err


@pytest.mark.usefixtures("cluster")
def test_identifiers_and_columns_are_those_of_all_its_jobs(run: Run, tmp_path: Path) -> None:
    for name in ("train.csv", "test.csv", "data.csv"):
        lines = (tmp_path / name).read_text().splitlines()
        (tmp_path / name).write_text("".join(f"p{number},{line}\n" for number, line in enumerate(lines)))

    assert run("--num-trials", 1, "--id-columns", 1, "--columns", "label,probabilities") == 0

    route = tmp_path / "route"
    answers = [line.split(",") for line in (route / "predictions" / "data.csv.out").read_text().splitlines()]
    assert [identifier for identifier, *_ in answers] == [f"p{number}" for number in range(15)]
    assert {label for _, label, *_ in answers} <= {"down", "up"}
    assert all(float(down) + float(up) == pytest.approx(1) for *_, down, up in answers)
    assert json.loads((route / "evaluation" / "evaluation.json").read_bytes())["num_cases"] == 10


@pytest.mark.usefixtures("cluster")
def test_the_route_goes_on_with_the_best_as_it_was_trained_again(run: Run, tmp_path: Path) -> None:
    assert run("--num-trials", 1, "--refit") == 0

    digest = load_checkpoint(tmp_path / "route" / "sweep" / "refit").digest()
    for name in ("evaluation/evaluation.json", "predictions/transform.json"):
        assert json.loads((tmp_path / "route" / name).read_bytes())["checkpoint"] == digest


def test_the_configuration_for_a_cluster_passes_serves_own_schema_and_ours(trained: Checkpoint) -> None:
    config = configuration("s3://lab/route/sweep/best", trained, {})

    (application,) = ServeDeploySchema.model_validate(config).applications

    assert Settings.model_validate(application.args).checkpoint == "s3://lab/route/sweep/best"
    (deployment,) = application.deployments
    assert Serving.model_validate(deployment.user_config) == Serving(
        checkpoint="s3://lab/route/sweep/best", digest=trained.digest()
    )


def test_without_a_cluster_the_job_becomes_the_endpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda _, argv: became.append(argv))

    jobs_pipeline._deploy(tmp_path / "best")

    assert became == [[sys.executable, "-m", "serve_app", "--checkpoint", str(tmp_path / "best")]]
