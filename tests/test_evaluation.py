from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics
from sklearn.metrics import classification_report

from lstmfcn.checkpoint import Checkpoint
from lstmfcn.classes import ClassLabels
from lstmfcn.errors import DataError
from lstmfcn.evaluation import ConfusionTable, evaluate, recorded
from lstmfcn.predictor import Predictor
from tests.samples import make_dataset, make_labels


def test_scores_are_those_of_scikit_learn(trained: Checkpoint) -> None:
    dataset = make_dataset(31, seed=2)
    dataset.targets[:7] = 1  # four of them fall, so that rows and columns of the confusion differ
    predictor = Predictor(trained)
    probabilities = predictor.probabilities(dataset.series)

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
    assert evaluation.summary["confusion"] == [[12, 0], [4, 15]]
    of_truth = probabilities[np.arange(31), dataset.targets].astype(np.float64)
    assert evaluation.summary["log_loss"] == pytest.approx(-np.log(of_truth).mean(), rel=1e-5)
    for score, name in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
        assert evaluation.summary[f"macro_{score}"] == pytest.approx(expected["macro avg"][name])
    head, names, down, up = evaluation.table().splitlines()
    assert head.startswith("accuracy: 0.87096774 in fp32; log-loss: ")
    assert names.split() == ["label", "precision", "recall", "f1", "series"]
    assert down.split() == ["down", "0.7500", "1.0000", "0.8571", "12"]
    assert up.split() == ["up", "1.0000", "0.7895", "0.8824", "19"]


def test_data_that_were_not_read_for_the_network_are_refused(trained: Checkpoint) -> None:
    read_by_itself = replace(make_dataset(20), classes=ClassLabels(["down", "sideways"]))

    with pytest.raises(DataError, match=r"^classes: the data has .*sideways.* are expected; read_labelled "):
        evaluate(Predictor(trained), read_by_itself)


@pytest.mark.usefixtures("composed")
def test_an_evaluation_is_saved_with_a_picture(trained: Checkpoint, tmp_path: Path) -> None:
    evaluate(Predictor(trained), make_dataset(10)).save(tmp_path)

    assert (tmp_path / "confusion-matrix.png").exists()
    assert (tmp_path / "evaluation.json").read_text().startswith('{\n  "accuracy": ')


def test_a_recorded_evaluation_is_found_by_its_inputs(trained: Checkpoint, tmp_path: Path) -> None:
    evaluation = evaluate(Predictor(trained), make_dataset(10))
    evaluation.save(tmp_path, checkpoint="a", data="b")

    assert recorded(tmp_path, "fp32", checkpoint="a", data="b") == evaluation.summary
    assert recorded(tmp_path, "bf16", checkpoint="a", data="b") is None
    assert recorded(tmp_path, "fp32", checkpoint="a", data="c") is None


@pytest.mark.parametrize("content", ["no json", "[]", '{"checkpoint": "a", "data": "b"}'])
def test_what_is_no_evaluation_is_none_that_is_recorded(content: str, tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text(content)

    assert recorded(tmp_path, "fp32", checkpoint="a", data="b") is None


def test_a_class_that_neither_occurs_nor_is_predicted_lowers_no_mean(trained: Checkpoint) -> None:
    dataset, predictor = make_dataset(40, seed=2), Predictor(trained)
    right = (dataset.targets == 0) & (predictor.predicted(dataset.series) == 0)

    summary = evaluate(predictor, dataset.where(right)).summary

    assert [summary[f"macro_{score}"] for score in ("precision", "recall", "f1")] == [1.0, 1.0, 1.0]
    assert summary["classes"]["up"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}


def test_a_label_that_no_series_has_or_gets_lowers_no_mean(trained_labels: Checkpoint) -> None:
    dataset, predictor = make_labels(60, seed=2), Predictor(trained_labels)
    predicted = predictor.predicted(dataset.series)
    right = (dataset.targets == predicted).all(axis=1) & (predicted[:, 1] == 0)

    summary = evaluate(predictor, dataset.where(right)).summary

    assert [summary[f"macro_{score}"] for score in ("precision", "recall", "f1")] == [1.0, 1.0, 1.0]
    assert summary["classes"]["y_2"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}


@pytest.mark.usefixtures("composed")
def test_scores_of_labels_are_those_of_scikit_learn(trained_labels: Checkpoint, tmp_path: Path) -> None:
    dataset = make_labels(60, seed=2)
    predictor = Predictor(trained_labels)
    predicted, probabilities = predictor.predicted(dataset.series), predictor.probabilities(dataset.series)

    evaluation = evaluate(predictor, dataset)

    summary = evaluation.summary
    expected = classification_report(dataset.targets, predicted, output_dict=True, zero_division=0)
    assert summary["accuracy"] == metrics.accuracy_score(dataset.targets, predicted) > 0.5
    losses = [metrics.log_loss(dataset.targets[:, label], probabilities[:, label]) for label in (0, 1)]
    assert summary["log_loss"] == pytest.approx(sum(losses) / 2, rel=1e-5)
    assert summary["macro_f1"] == pytest.approx(expected["macro avg"]["f1-score"])
    for label in (0, 1):
        scores = summary["classes"][f"y_{label + 1}"]
        assert scores["precision"] == pytest.approx(expected[str(label)]["precision"])
        assert scores["recall"] == pytest.approx(expected[str(label)]["recall"])
        assert scores["f1"] == pytest.approx(expected[str(label)]["f1-score"])
        assert scores["support"] == expected[str(label)]["support"]
    confusion = metrics.multilabel_confusion_matrix(dataset.targets, predicted)
    assert summary["confusion"] == confusion.tolist()
    assert ConfusionTable.of(summary) == ConfusionTable(
        ["not y_1", "y_1", "not y_2", "y_2"],
        ["not predicted", "predicted"],
        confusion.reshape(4, 2).tolist(),
    )
    evaluation.save(tmp_path)
    assert (tmp_path / "confusion-matrix.png").exists()
