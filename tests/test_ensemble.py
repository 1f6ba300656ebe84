from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs import evaluate as evaluate_job
from lstmfcn import storage
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.ensemble import Ensemble, load_checkpoint, save_best
from lstmfcn.errors import CheckpointError
from lstmfcn.evaluation import EnsembleComparison, evaluate
from lstmfcn.predictor import Predictor
from lstmfcn.storage import Location
from tests.commands import status_of
from tests.samples import best_of, make_dataset, write_csv

SERIES = make_dataset(30, seed=4).series


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    return Ensemble(tuple(best_of(make_dataset(20), seed=seed) for seed in range(3)))


def test_its_probabilities_are_the_mean_of_its_members(ensemble: Ensemble) -> None:
    members = [Predictor(member).probabilities(SERIES) for member in ensemble.members]

    predicted = Predictor(ensemble).probabilities(SERIES)

    np.testing.assert_allclose(predicted, np.mean(members, axis=0, dtype=np.float64), rtol=1e-6)
    assert len({member.tobytes() for member in members}) == 3


def test_a_series_gets_the_same_bytes_alone_and_among_others(ensemble: Ensemble) -> None:
    predictor = Predictor(ensemble)
    together = predictor.probabilities(SERIES)

    alone = [predictor.probabilities(SERIES[row : row + 1]) for row in range(len(SERIES))]

    assert np.concatenate(alone).tobytes() == together.tobytes()


def test_it_is_loaded_as_it_was_saved(ensemble: Ensemble, tmp_path: Path) -> None:
    ensemble.save(tmp_path)

    loaded = load_checkpoint(tmp_path)

    assert isinstance(loaded, Ensemble)
    assert loaded.digest() == ensemble.digest()
    assert (loaded.classes.names, loaded.length) == (ensemble.classes.names, ensemble.length)
    assert Predictor.load(tmp_path).cells(SERIES).tolist() == Predictor(ensemble).cells(SERIES).tolist()


# Before the first member's document, before its weights, and before a single network's.
@pytest.mark.parametrize(("is_ensemble", "number_of_reads"), [(True, 1), (True, 2), (False, 1)])
def test_what_is_replaced_while_it_is_read_is_the_new_one(
    is_ensemble: bool,
    number_of_reads: int,
    ensemble: Ensemble,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save_best(ensemble.members if is_ensemble else ensemble.members[:1], tmp_path)
    newer = Ensemble(ensemble.members[::-1])
    read, reads = storage.read_bytes, []

    def replace_before_the_next(path: Location) -> bytes:
        reads.append(path)
        if len(reads) > number_of_reads:
            monkeypatch.undo()
            newer.save(tmp_path)
        return read(path)

    monkeypatch.setattr(storage, "read_bytes", replace_before_the_next)

    assert load_checkpoint(tmp_path).digest() == newer.digest()


def test_a_single_network_is_loaded_as_before(ensemble: Ensemble, tmp_path: Path) -> None:
    ensemble.members[0].save(tmp_path)

    loaded = load_checkpoint(tmp_path)

    assert isinstance(loaded, Checkpoint)
    assert loaded.digest() == ensemble.members[0].digest()


def test_it_stays_whole_until_another_has_taken_its_place(ensemble: Ensemble, tmp_path: Path) -> None:
    first, *others = ensemble.members
    ensemble.save(tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    second = tmp_path / f"2-{others[1].digest()[:8]}"
    second.write_text("where the next one's second network would be written")

    with pytest.raises(OSError, match=second.name):
        Ensemble((first, *reversed(others))).save(tmp_path)
    second.unlink()

    assert load_checkpoint(tmp_path).digest() == ensemble.digest()
    Ensemble((first, *reversed(others))).save(tmp_path)
    assert load_checkpoint(tmp_path).digest() != ensemble.digest()
    assert len(before & {path.name for path in tmp_path.iterdir()}) == 2  # checkpoint.json and the first


def test_a_missing_member_is_named(ensemble: Ensemble, tmp_path: Path) -> None:
    ensemble.save(tmp_path)
    (second,) = tmp_path.glob("2-*")
    (second / "checkpoint.json").unlink()

    with pytest.raises(
        CheckpointError, match=rf"/{second.name} is not a checkpoint: it has no checkpoint.json$"
    ):
        load_checkpoint(tmp_path)


def test_one_of_another_format_version_is_refused(ensemble: Ensemble, tmp_path: Path) -> None:
    ensemble.save(tmp_path)
    path = tmp_path / "checkpoint.json"
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 99'))

    with pytest.raises(CheckpointError, match=r"has format version 99; this version of lstmfcn reads 1$"):
        load_checkpoint(tmp_path)


def test_jobs_take_it_like_any_checkpoint(
    ensemble: Ensemble, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ensemble.save(tmp_path / "best")
    data = write_csv(tmp_path / "data.csv", make_dataset(20), labelled=True)

    assert status_of(evaluate_job.evaluate, "--checkpoint", tmp_path / "best", "--data", data) == 0

    assert capsys.readouterr().out.startswith("accuracy: ")


def test_its_gain_and_cost_are_measured(ensemble: Ensemble, tmp_path: Path) -> None:
    dataset = make_dataset(300, seed=5)
    whole, alone = Predictor(ensemble), Predictor(ensemble.members[0])

    comparison = EnsembleComparison.of(whole, alone, len(ensemble.members), dataset)
    comparison.save(tmp_path)

    assert comparison.num_networks == 3
    assert comparison.accuracy == evaluate(whole, dataset).summary["accuracy"]
    assert comparison.accuracy_alone == evaluate(alone, dataset).summary["accuracy"]
    assert comparison.num_timed == 256
    assert min(comparison.milliseconds, comparison.milliseconds_alone) > 0
    assert EnsembleComparison.model_validate_json((tmp_path / "ensemble.json").read_text()) == comparison
