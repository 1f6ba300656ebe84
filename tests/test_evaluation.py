from pathlib import Path

import pytest
from sklearn.metrics import classification_report

from lstmfcn.checkpoint import Checkpoint
from lstmfcn.evaluation import evaluate
from lstmfcn.predictor import Predictor
from tests.samples import make_dataset

PNG = b"\x89PNG\r\n\x1a\n"


def test_scores_are_those_of_scikit_learn(trained: Checkpoint) -> None:
    dataset = make_dataset(31, seed=2)
    predictor = Predictor(trained)

    evaluation = evaluate(predictor, dataset)

    expected = classification_report(
        [dataset.classes.names[target] for target in dataset.targets],
        predictor.labels(dataset.series),
        output_dict=True,
        zero_division=0,
    )
    assert evaluation.summary["accuracy"] == expected["accuracy"]
    for label in ("down", "up"):
        scores = evaluation.summary["classes"][label]
        assert scores["precision"] == pytest.approx(expected[label]["precision"])
        assert scores["recall"] == pytest.approx(expected[label]["recall"])
        assert scores["f1"] == pytest.approx(expected[label]["f1-score"])
        assert scores["support"] == expected[label]["support"]
    assert evaluation.confusion.sum() == 31
    assert evaluation.confusion.trace() / 31 == evaluation.summary["accuracy"]


def test_an_evaluation_is_saved_with_a_picture(trained: Checkpoint, tmp_path: Path) -> None:
    evaluate(Predictor(trained), make_dataset(10)).save(tmp_path)

    assert (tmp_path / "confusion-matrix.png").read_bytes().startswith(PNG)
    assert (tmp_path / "evaluation.json").read_text().startswith('{\n  "accuracy": ')
