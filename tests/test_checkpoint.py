import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lstmfcn import storage
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.classes import ClassLabels
from lstmfcn.errors import CheckpointError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.scaling import Scaling
from lstmfcn.storage import Location
from lstmfcn.treatment import UNTREATED, Treatment
from tests.samples import LENGTH


def edit(folder: Path, **changes: object) -> None:
    path = folder / "checkpoint.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def folder(trained: Checkpoint, tmp_path: Path) -> Path:
    trained.save(tmp_path)
    return tmp_path


def test_a_checkpoint_reads_back_as_it_was_saved(trained: Checkpoint, folder: Path) -> None:
    loaded = Checkpoint.load(folder)

    assert loaded.hyperparameters == trained.hyperparameters
    assert loaded.classes.names == ("down", "up")
    assert (loaded.length, loaded.epoch, loaded.scaling) == (trained.length, trained.epoch, trained.scaling)
    assert loaded.metrics == trained.metrics
    assert loaded.weights.keys() == trained.weights.keys()
    assert all(torch.equal(loaded.weights[name], trained.weights[name]) for name in trained.weights)


def test_an_old_checkpoint_is_one_for_several_classes_and_a_single_sound_channel(folder: Path) -> None:
    document = json.loads((folder / "checkpoint.json").read_text())
    del document["task"], document["temperature"], document["treatment"]
    del document["hyperparameters"]["squeeze_excite"]
    (folder / "checkpoint.json").write_text(json.dumps(document))

    loaded = Checkpoint.load(folder)

    assert (loaded.task, loaded.temperature, loaded.treatment) == ("multiclass", 1.0, UNTREATED)
    assert (loaded.channels, loaded.hyperparameters.squeeze_excite) == (1, 0)


def test_a_checkpoint_keeps_its_task(trained_labels: Checkpoint, tmp_path: Path) -> None:
    trained_labels.save(tmp_path)

    assert Checkpoint.load(tmp_path).task == "multilabel"
    assert replace(trained_labels, task="multiclass").digest() != trained_labels.digest()


def test_the_digest_tells_apart_what_predicts_otherwise() -> None:
    given = Hyperparameters()
    one = Checkpoint(
        hyperparameters=given,
        classes=ClassLabels(["a", "b"]),
        length=4,
        scaling=Scaling(),
        epoch=1,
        metrics={},
        weights={},
    )
    trained_longer = given.model_copy(update={"epochs": 3000, "lr": 0.1, "batch_size": 5})
    squeezing = given.model_copy(update={"squeeze_excite": 1})

    assert replace(one, hyperparameters=trained_longer, epoch=2).digest() == one.digest()
    assert replace(one, hyperparameters=squeezing).digest() != one.digest()
    assert replace(one, treatment=Treatment(channels=2)).digest() != one.digest()
    assert replace(one, temperature=2.0).digest() != one.digest()


def test_a_checkpoint_keeps_its_channels(trained_channels: Checkpoint, tmp_path: Path) -> None:
    trained_channels.save(tmp_path)

    loaded = Checkpoint.load(tmp_path)

    assert (loaded.channels, loaded.length, loaded.num_values) == (3, LENGTH, 3 * LENGTH)
    assert loaded.scaling == trained_channels.scaling
    assert loaded.digest() == trained_channels.digest()


def test_weights_of_another_number_of_channels_are_refused(
    trained_channels: Checkpoint, tmp_path: Path
) -> None:
    trained_channels.save(tmp_path)
    edit(tmp_path, treatment={"channels": 2}, scaling={"method": "series"})

    with pytest.raises(CheckpointError, match=r"the weights convolutional.layers.0.1.weight do not fit"):
        Checkpoint.load(tmp_path)


def test_a_checkpoint_keeps_its_treatment_of_missing_values_and_lengths(
    trained: Checkpoint, tmp_path: Path
) -> None:
    treated = replace(trained, treatment=Treatment(missing="interpolate", length="pad"))

    treated.save(tmp_path)

    assert Checkpoint.load(tmp_path).treatment == treated.treatment
    assert treated.digest() != trained.digest()


def test_weights_of_another_task_are_refused(folder: Path) -> None:
    edit(folder, task="binary")

    with pytest.raises(CheckpointError, match=r"the weights linear.bias, linear.weight do not fit"):
        Checkpoint.load(folder)


def test_a_folder_holds_one_json_and_one_safetensors_file_named_by_its_digest(folder: Path) -> None:
    document = json.loads((folder / "checkpoint.json").read_text())

    assert {path.name for path in folder.iterdir()} == {"checkpoint.json", document["weights"]}
    assert document["weights"] == f"weights-{document['sha256'][:16]}.safetensors"


def test_saving_again_replaces_the_weights(trained: Checkpoint, folder: Path) -> None:
    changed = {name: tensor + 1 for name, tensor in trained.weights.items()}
    replace(trained, weights=changed).save(folder)

    assert len(list(folder.iterdir())) == 2
    assert torch.equal(Checkpoint.load(folder).weights["linear.bias"], changed["linear.bias"])


def test_a_failure_while_saving_leaves_the_old_checkpoint(
    trained: Checkpoint, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, content: bytes) -> None:
        if path.name == "checkpoint.json":
            raise OSError("no space left on device")
        path.write_bytes(content)

    monkeypatch.setattr(storage, "write_bytes", fail)
    changed = {name: tensor + 1 for name, tensor in trained.weights.items()}
    with pytest.raises(OSError, match="no space left"):
        replace(trained, weights=changed).save(folder)

    assert torch.equal(Checkpoint.load(folder).weights["linear.bias"], trained.weights["linear.bias"])


def test_building_the_model_draws_no_random_number(trained: Checkpoint) -> None:
    before = torch.get_rng_state()
    trained.build_model()

    assert torch.equal(torch.get_rng_state(), before)


def test_a_folder_without_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as refused:
        Checkpoint.load(tmp_path)

    assert str(refused.value) == f"{tmp_path} is not a checkpoint: it has no checkpoint.json"


def test_a_document_that_is_there_but_cannot_be_read_is_not_told_as_missing(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.json").mkdir()

    with pytest.raises(CheckpointError, match=r"checkpoint.json is a directory where a file is expected$"):
        Checkpoint.load(tmp_path)


def test_an_unknown_format_version_is_refused_by_name(folder: Path) -> None:
    edit(folder, format_version=7)

    with pytest.raises(CheckpointError, match=r"has format version 7; this version of lstmfcn reads 1$"):
        Checkpoint.load(folder)


def test_damaged_weights_are_refused(folder: Path) -> None:
    (weights,) = folder.glob("weights-*")
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")

    with pytest.raises(
        CheckpointError, match=r"is damaged: its SHA-256 is not the one that checkpoint.json names$"
    ):
        Checkpoint.load(folder)


def test_missing_weights_are_refused(folder: Path) -> None:
    (weights,) = folder.glob("weights-*")
    weights.unlink()

    with pytest.raises(CheckpointError, match=r"is missing; the checkpoint names it as its weights$"):
        Checkpoint.load(folder)


def test_weights_outside_the_folder_are_not_read(folder: Path) -> None:
    edit(folder, weights="../../etc/passwd")

    with pytest.raises(CheckpointError, match=rf"^{folder}/passwd is missing"):
        Checkpoint.load(folder)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "the document"),
        ("[]", "the document"),
        ("{}", "format_version"),
        ('{"format_version": 1}', "versions"),
    ],
)
def test_a_damaged_document_is_refused(folder: Path, text: str, fault: str) -> None:
    (folder / "checkpoint.json").write_text(text)

    with pytest.raises(CheckpointError, match=rf"checkpoint.json is damaged: {fault}: "):
        Checkpoint.load(folder)


def test_weights_of_another_network_are_refused(folder: Path, trained: Checkpoint) -> None:
    edit(folder, hyperparameters=trained.hyperparameters.model_dump() | {"hidden_size": 9})

    with pytest.raises(
        CheckpointError, match=r"the weights linear.weight, recurrent.*do not fit the hyperparameters$"
    ):
        Checkpoint.load(folder)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"scaling": {"method": "training-set", "mean": [1, 2], "deviation": [1, 2]}},
            "no mean and dev",
        ),
        ({"scaling": {"method": "training-set", "mean": [1, 2, 3], "deviation": 1}}, "no mean and dev"),
        (
            {"scaling": {"method": "training-set", "mean": 1, "deviation": -1e-8}},
            "greater than or equal",
        ),
        ({"treatment": {"channels": None}}, "treatment.channels is no number"),
    ],
)
def test_a_scaling_or_treatment_that_fits_no_channels_is_damage(
    changes: dict[str, object], sentence: str, trained_channels: Checkpoint, tmp_path: Path
) -> None:
    trained_channels.save(tmp_path)
    edit(tmp_path, **changes)

    with pytest.raises(CheckpointError, match=rf"checkpoint.json is damaged: .*{sentence}"):
        Checkpoint.load(tmp_path)


def test_a_checkpoint_that_is_replaced_while_it_is_read_is_the_new_one(
    trained: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained.save(tmp_path)
    newer = replace(trained, weights={name: 2 * weight for name, weight in trained.weights.items()})
    read = storage.read_bytes

    def replace_before_the_weights(path: Location) -> bytes:
        if path.name.startswith("weights-"):
            monkeypatch.undo()
            newer.save(tmp_path)
        return read(path)

    monkeypatch.setattr(storage, "read_bytes", replace_before_the_weights)

    assert Checkpoint.load(tmp_path).digest() == newer.digest()
