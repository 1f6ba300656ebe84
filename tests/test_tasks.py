from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from torch.nn import functional

from lstmfcn import tasks
from lstmfcn.metrics import Metrics
from lstmfcn.tasks import TaskName

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 2, size=(40, 3))
OUTPUTS = torch.from_numpy(RANDOM.normal(0, 2, size=(40, 3)))


@given(st.lists(st.tuples(st.floats(-30, 30), st.integers(0, 1)), min_size=1, max_size=20))
def test_a_binary_network_has_a_sigmoid_and_binary_cross_entropy(cases: list[tuple[float, int]]) -> None:
    outputs = torch.tensor([[output] for output, _ in cases], dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([target for _, target in cases])

    probabilities = tasks.probabilities("binary", tasks.class_logits("binary", outputs))
    loss = tasks.loss("binary", outputs, targets)

    expected = functional.binary_cross_entropy_with_logits(outputs[:, 0], targets.double())
    torch.testing.assert_close(probabilities[:, 1], outputs[:, 0].sigmoid())
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(len(cases), dtype=torch.float64))
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, outputs, retain_graph=True)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, outputs)[0])


def test_loss_and_accuracy_of_labels_are_those_of_scikit_learn() -> None:
    targets = torch.from_numpy(LABELS)
    probabilities = tasks.probabilities("multilabel", OUTPUTS).numpy()
    each = [metrics.log_loss(LABELS[:, label], probabilities[:, label]) for label in range(3)]

    loss = tasks.loss("multilabel", OUTPUTS, targets)
    batches = [
        Metrics.of(outputs, some, tasks.loss("multilabel", outputs, some), "multilabel")
        for outputs, some in ((OUTPUTS[:7], targets[:7]), (OUTPUTS[7:], targets[7:]))
    ]

    total = Metrics.total(batches)
    assert float(loss) == pytest.approx(np.mean(each))
    assert total.loss == pytest.approx(np.mean(each))
    predicted = tasks.predicted("multilabel", probabilities)
    assert total.accuracy == metrics.accuracy_score(LABELS, predicted)
    assert 0 < total.accuracy < 1


def test_balanced_labels_weigh_as_scikit_learns() -> None:
    targets = LABELS.copy()
    targets[:, 0] = np.arange(40) < 3
    weights = torch.from_numpy(tasks.balanced_weights("multilabel", targets, 3)).double()
    probabilities = tasks.probabilities("multilabel", OUTPUTS).numpy()
    each = [
        metrics.log_loss(column, probability, sample_weight=compute_sample_weight("balanced", column))
        for column, probability in zip(targets.T, probabilities.T, strict=True)
    ]

    loss = tasks.loss("multilabel", OUTPUTS, torch.from_numpy(targets), weights)

    assert float(loss) == pytest.approx(np.mean(each))


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_balanced_classes_weigh_as_scikit_learns(task: TaskName) -> None:
    targets = np.array([0] * 30 + [1] * 2)

    weights = tasks.balanced_weights(task, targets, 2)

    assert weights == pytest.approx(compute_class_weight("balanced", classes=np.arange(2), y=targets))


def test_a_label_is_predicted_above_one_half() -> None:
    probabilities = np.array([[0.5, 0.51], [0.49, 0.2]], np.float32)

    assert tasks.predicted("multilabel", probabilities).tolist() == [[0, 1], [0, 0]]


def test_each_label_is_a_choice_between_0_and_1() -> None:
    probabilities = np.array([[0.25, 1.0]], np.float32)

    choices, targets = tasks.as_choices("multilabel", probabilities, np.array([[0, 1]]))

    assert choices.tolist() == [[0.75, 0.25], [2**-25, 1.0]]  # the 1 may be rounded
    assert targets.tolist() == [0, 1]


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_a_case_weighs_the_same_in_whatever_batch(task: TaskName) -> None:
    targets = torch.from_numpy(LABELS if task == "multilabel" else LABELS[:, 0])
    weights = torch.from_numpy(tasks.balanced_weights(task, targets.numpy(), 3)).double()

    alone = [tasks.loss(task, OUTPUTS[case, None], targets[case, None], weights) for case in range(40)]

    torch.testing.assert_close(torch.stack(alone).mean(), tasks.loss(task, OUTPUTS, targets, weights))
