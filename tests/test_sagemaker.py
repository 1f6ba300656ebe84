from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest

from jobs import sagemaker
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.training import Epoch, Trainer
from lstmfcn.treatment import Treatment
from tests.container import HYPERPARAMETERS, call, lay_out, pack
from tests.samples import LENGTH

needs_safe_tarfile = pytest.mark.skipif(
    not hasattr(tarfile, "data_filter"), reason="Python before 3.11.4 unpacks anything anywhere"
)


def failure(root: Path) -> str:
    return (root / "output" / "failure").read_text()


def test_training_writes_the_model_and_the_metrics_that_the_platform_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_platform = {"_tuning_objective_metric": "valid:acc", "sagemaker_region": "us-east-1"}
    root = lay_out(tmp_path, {**HYPERPARAMETERS, **of_platform, "seed": "3"})
    (root / "output").mkdir()
    (root / "output" / "failure").write_text("of an earlier try")

    assert call("train", root) == 0

    given: dict[str, Any] = {name.replace("-", "_"): value for name, value in HYPERPARAMETERS.items()}
    assert Checkpoint.load(root / "model").hyperparameters == Hyperparameters(**given)
    assert not (root / "output" / "failure").exists()
    assert json.loads((root / "model" / "training.json").read_text())["seed"] == 3
    log = capsys.readouterr().out
    for name in ("train:loss", "train:acc", "valid:loss", "valid:acc"):
        assert len(re.findall(rf"{name} ([0-9\.]+)", log)) == 1


def test_series_of_several_channels_are_trained(tmp_path: Path) -> None:
    root = lay_out(tmp_path, {**HYPERPARAMETERS, "channels": "3", "squeeze-excite": "1"})

    assert call("train", root) == 0

    trained = Checkpoint.load(root / "model")
    assert (trained.channels, trained.length) == (3, LENGTH // 3)
    assert trained.hyperparameters.squeeze_excite == 1


def test_the_treatment_of_missing_values_and_lengths_is_a_hyperparameter(tmp_path: Path) -> None:
    root = lay_out(tmp_path, {**HYPERPARAMETERS, "missing": "interpolate", "length": "pad"})
    with (root / "input" / "data" / "training" / "train.csv").open("a") as file:
        file.write("up,1,,2\n")

    assert call("train", root) == 0

    assert Checkpoint.load(root / "model").treatment == Treatment(missing="interpolate", length="pad")


def test_validation_is_optional(tmp_path: Path) -> None:
    root = lay_out(tmp_path)
    (root / "input" / "data" / "validation" / "valid.csv").unlink()
    (root / "input" / "data" / "validation").rmdir()

    assert call("train", root) == 0

    assert list(Checkpoint.load(root / "model").metrics) == ["train_loss", "train_accuracy"]


@pytest.mark.parametrize(
    ("hyperparameters", "sentence"),
    [
        ({"epochs": "0"}, "hyperparameter epochs must be a whole number, at least 1 and at most 1000000"),
        ({"epoch": "5"}, "Unknown option: --epoch. Did you mean --epochs?"),
        ({"epochs": 5}, 'hyperparameters.json must map names to text, as in {"batch-size": "64"}'),
        (["epochs"], 'hyperparameters.json must map names to text, as in {"batch-size": "64"}'),
        ({"output": "/elsewhere"}, "Parameter --output specified multiple times."),
    ],
)
def test_a_hyperparameter_that_can_not_be_used_is_the_failure(
    hyperparameters: object, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = lay_out(tmp_path, hyperparameters)

    assert call("train", root) == 2

    assert sentence in failure(root)
    assert capsys.readouterr().err == failure(root) + "\n"
    assert not (root / "model").exists()


def test_broken_data_is_the_failure(tmp_path: Path) -> None:
    root = lay_out(tmp_path)
    path = root / "input" / "data" / "training" / "train.csv"
    path.write_text(path.read_text() + "up," + ",".join(["NA"] * LENGTH) + "\n")

    assert call("train", root) == 2

    advice = "missing values need training with --missing interpolate"
    assert failure(root) == f"{path}: row 21, column 2 is 'NA'; {advice}"


def test_a_missing_channel_is_the_failure(tmp_path: Path) -> None:
    root = lay_out(tmp_path)
    (root / "input" / "data" / "training").rename(root / "input" / "data" / "trainings")

    assert call("train", root) == 2

    assert failure(root) == f"{root}/input/data/training does not exist"


def test_what_is_no_json_is_the_failure(tmp_path: Path) -> None:
    root = lay_out(tmp_path)
    path = root / "input" / "config" / "hyperparameters.json"
    path.write_text("{epochs: 5}")

    assert call("train", root) == 2

    assert failure(root).startswith(f"{path} is not JSON: ")


def test_a_bug_is_the_failure_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> tuple[int, str]:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(sagemaker, "outcome", broken)

    with pytest.raises(ZeroDivisionError):
        sagemaker.sagemaker("train", root=lay_out(tmp_path))

    assert failure(tmp_path) == "ZeroDivisionError: division by zero"


@needs_safe_tarfile
def test_training_starts_from_the_channel_model_and_takes_no_other_network(
    tmp_path: Path, trained: Checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    trained.save(tmp_path / "earlier")
    root = lay_out(tmp_path / "root", {"hidden-size": "64", "epochs": "1", "lr": "0.000001"})
    pack(tmp_path / "earlier", root / "input" / "data" / "model")

    assert call("train", root) == 0

    made = Checkpoint.load(root / "model")
    assert made.hyperparameters.hidden_size == trained.hyperparameters.hidden_size == 3
    assert made.metrics["valid_accuracy"] == 1.0
    told = "hidden-size 64 is not used: the checkpoint in the channel model has its own\n"
    assert capsys.readouterr().out.startswith(told)


def test_a_checkpoint_may_lie_in_the_channel_as_it_is(tmp_path: Path, trained: Checkpoint) -> None:
    root = lay_out(tmp_path, {"epochs": "1"})
    trained.save(root / "input" / "data" / "model")

    assert call("train", root) == 0

    assert Checkpoint.load(root / "model").hyperparameters.filters_1 == 4


@needs_safe_tarfile
def test_an_archive_that_would_write_outside_its_folder_is_the_failure(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "root")
    channel = root / "input" / "data" / "model"
    channel.mkdir()
    with tarfile.open(channel / "model.tar.gz", "w:gz") as archive:
        archive.add(root / "input" / "config" / "hyperparameters.json", "../../../../../../tmp/escaped")

    assert call("train", root) == 2

    assert failure(root).startswith(f"{channel}/model.tar.gz is not an archive that can be unpacked: ")


@needs_safe_tarfile
def test_a_damaged_archive_is_the_failure(tmp_path: Path, trained: Checkpoint) -> None:
    trained.save(tmp_path / "earlier")
    root = lay_out(tmp_path / "root")
    archive = root / "input" / "data" / "model" / "model.tar.gz"
    pack(tmp_path / "earlier", archive.parent)
    archive.write_bytes(archive.read_bytes()[:500])

    assert call("train", root) == 2

    assert failure(root).startswith(f"{archive} is not an archive that can be unpacked: ")


def test_an_interrupted_job_goes_on_in_the_folder_that_the_platform_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = lay_out(tmp_path)
    (root / "checkpoints").mkdir()
    step = Trainer.step

    def until_interrupted(trainer: Trainer) -> Epoch:
        if trainer.epoch == 2:
            raise KeyboardInterrupt
        return step(trainer)

    with monkeypatch.context() as m:
        m.setattr(Trainer, "step", until_interrupted)
        m.setattr("lstmfcn.training_run._SECONDS_BETWEEN_WRITES", 0.0)
        assert call("train", root) == 130
    assert failure(root) == "interrupted"
    assert Checkpoint.load(root / "model").epoch in (1, 2)
    capsys.readouterr()

    assert call("train", root) == 0

    assert re.findall(r"epoch: (\d)", capsys.readouterr().out)[0] == "3"
    assert len((root / "model" / "metrics.csv").read_text().splitlines()) == 1 + 3


@pytest.mark.parametrize(("megabytes", "num_bytes"), [("20", 20 << 20), ("0", 100 << 20)])
def test_a_batch_jobs_payload_is_the_limit_of_a_body(
    megabytes: str, num_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "--max-body-bytes" not in sagemaker._flags_to_serve(Path("model"), "127.0.0.1", 8080)
    monkeypatch.setenv("SAGEMAKER_MAX_PAYLOAD_IN_MB", megabytes)

    flags = sagemaker._flags_to_serve(Path("model"), "127.0.0.1", 8080)

    assert flags[-2:] == ["--max-body-bytes", str(num_bytes)]
