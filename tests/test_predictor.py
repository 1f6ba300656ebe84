from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lstmfcn.checkpoint import Checkpoint
from lstmfcn.classes import ClassLabels
from lstmfcn.devices import Precision
from lstmfcn.errors import DataError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.model import LSTMFCN
from lstmfcn.predictor import Predictor
from lstmfcn.scaling import Scaling
from lstmfcn.tasks import TaskName, num_outputs
from lstmfcn.treatment import Treatment
from tests.samples import LENGTH, make_channels, make_dataset, write_csv, write_named_csv

SMALL: dict[str, Any] = {f"filters_{i}": 4 for i in (1, 2, 3)} | {f"kernel_size_{i}": 3 for i in (1, 2, 3)}
NETWORKS: list[dict[str, Any]] = [
    {},
    SMALL,
    SMALL | {"num_layers": 2, "hidden_size": 128},
    SMALL | {"kernel_size_1": 32},
    SMALL | {"kernel_size_1": 65},
    {"filters_1": 7, "filters_2": 9, "filters_3": 5, "kernel_size_2": 4},
]


def random_checkpoint(
    length: int,
    names: list[str] | None = None,
    task: TaskName = "multiclass",
    channels: int = 1,
    **hyperparameters: Any,
) -> Checkpoint:
    torch.manual_seed(0)
    chosen = Hyperparameters(**hyperparameters)
    classes = ClassLabels(names or ["a", "b", "c"])
    model = LSTMFCN(num_outputs(task, len(classes)), length, chosen, channels)
    weights = model.state_dict()
    return Checkpoint(
        hyperparameters=chosen,
        classes=classes,
        length=length,
        scaling=Scaling(),
        epoch=1,
        metrics={},
        weights=weights,
        task=task,
        treatment=Treatment(channels=channels),
    )


def test_probabilities_are_the_softmax_of_the_models_logits(trained: Checkpoint) -> None:
    series = make_dataset(300).series
    logits = trained.build_model()(torch.from_numpy(trained.scaling(series)))

    probabilities = Predictor(trained).probabilities(series)

    assert np.allclose(probabilities, torch.softmax(logits, 1).detach().numpy(), atol=1e-6)
    assert probabilities.dtype == np.float32


def test_labels_are_those_of_the_most_probable_class(trained: Checkpoint) -> None:
    series = make_dataset(20).series
    predictor = Predictor(trained)
    expected = [("down", "up")[position] for position in predictor.probabilities(series).argmax(axis=1)]

    assert predictor.labels(series) == expected
    answer = predictor.answer(predictor.probabilities(series), with_header=False)
    assert answer.decode().splitlines() == expected


BOUNDS = [0, 1, 2, 4, 7, 12, 29, 30, 140]


def assert_same_bytes_in_parts(predictor: Predictor, series: Any) -> None:
    parts = [predictor.probabilities(series[start:end]) for start, end in pairwise(BOUNDS)]
    assert np.concatenate(parts).tobytes() == predictor.probabilities(series).tobytes()


@pytest.mark.parametrize("hyperparameters", NETWORKS)
@pytest.mark.parametrize("length", [2, 24, 100])
def test_a_series_gets_the_same_bytes_whatever_batch_it_is_in(
    hyperparameters: dict[str, Any], length: int
) -> None:
    series = np.random.default_rng(0).normal(size=(140, length)).astype(np.float32)
    assert_same_bytes_in_parts(Predictor(random_checkpoint(length, **hyperparameters)), series)


@pytest.mark.parametrize("task", ["binary", "multilabel"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_so_it_does_for_the_other_tasks(task: TaskName, precision: Precision) -> None:
    series = np.random.default_rng(0).normal(size=(140, 24)).astype(np.float32)
    assert_same_bytes_in_parts(
        Predictor(random_checkpoint(24, ["a", "b"], task, **NETWORKS[5]), precision=precision), series
    )


@pytest.mark.parametrize("hyperparameters", NETWORKS)
def test_so_it_does_in_bfloat16(hyperparameters: dict[str, Any]) -> None:
    series = np.random.default_rng(0).normal(size=(140, 24)).astype(np.float32)
    assert_same_bytes_in_parts(Predictor(random_checkpoint(24, **hyperparameters), precision="bf16"), series)


def test_the_number_of_threads_changes_no_byte() -> None:
    predictor = Predictor(random_checkpoint(100))
    series = np.random.default_rng(0).normal(size=(140, 100)).astype(np.float32)
    torch.set_num_threads(1)
    with_one_thread = predictor.probabilities(series)
    torch.set_num_threads(2)
    try:
        assert predictor.probabilities(series).tobytes() == with_one_thread.tobytes()
        assert predictor.probabilities(series[:1]).tobytes() == with_one_thread[:1].tobytes()
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_10_000_rows_in_random_splits_with_single_rows_give_the_same_bytes(precision: Precision) -> None:
    predictor = Predictor(random_checkpoint(50, **SMALL), precision=precision)
    random = np.random.default_rng(2)
    series = random.normal(size=(10_000, 50)).astype(np.float32)
    cuts = random.choice(np.arange(1, 10_000), size=150, replace=False)
    bounds = np.unique([0, *range(1, 21), *cuts, 10_000])
    parts = [predictor.probabilities(series[start:end]) for start, end in pairwise(bounds)]

    assert np.concatenate(parts).tobytes() == predictor.probabilities(series).tobytes()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_series_of_several_channels_get_the_same_bytes_in_any_batch_and_format(
    precision: Precision, trained_channels: Checkpoint, tmp_path: Path
) -> None:
    predictor = Predictor(trained_channels, precision=precision)
    dataset = make_channels(70, seed=3)
    bounds = [0, 1, 3, 20, 70]
    parts = [predictor.probabilities(dataset.series[start:end]) for start, end in pairwise(bounds)]
    named = write_named_csv(tmp_path / "named.csv", dataset, labelled=False, seed=0).read_bytes()
    plain = write_csv(tmp_path / "plain.csv", dataset, labelled=False).read_bytes()

    whole = predictor.probabilities(dataset.series)

    assert (predictor.predicted(dataset.series) == dataset.targets).all()
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    assert predictor.predict_csv(plain, source="body") == predictor.answer(whole, with_header=False)
    assert predictor.predict_csv(named, source="body") == predictor.answer(whole, with_header=True)


def test_a_header_of_other_channels_is_refused(trained: Checkpoint, trained_channels: Checkpoint) -> None:
    one = ",".join(f"x_{step}" for step in range(1, 3 * LENGTH + 1))
    three = ",".join(f"x{channel}_{step}" for channel in (1, 2, 3) for step in range(1, LENGTH // 3 + 1))

    with pytest.raises(DataError, match=r"^body: row 1 is a header of 1 channel where 3 are expected"):
        Predictor(trained_channels).predict_csv(f"{one}\n".encode(), source="body")
    with pytest.raises(DataError, match=r"^body: row 1 is a header of 3 channels where 1 is expected$"):
        Predictor(trained).predict_csv(f"{three}\n".encode(), source="body")


def test_no_rows_give_no_predictions() -> None:
    predictor = Predictor(random_checkpoint(30, **SMALL))

    assert predictor.probabilities(np.empty((0, 30), np.float32)).shape == (0, 3)


def test_csv_in_gives_csv_out(checkpoint_folder: Path) -> None:
    up, down = make_dataset(40).series[1], make_dataset(40).series[0]
    body = "".join(",".join(map(str, series)) + "\n" for series in (up, down, up))

    assert Predictor.load(checkpoint_folder).predict_csv(body.encode(), source="body") == b"up\ndown\nup\n"


def test_a_header_in_gives_a_header_out(trained: Checkpoint, trained_labels: Checkpoint) -> None:
    series = make_dataset(2).series  # down, up
    names = ",".join(f"x_{step}" for step in range(1, LENGTH + 1))
    body = "\n".join([names, *(",".join(map(str, row)) for row in series)]).encode()
    predictor = Predictor(trained)

    header, *lines = predictor.predict_csv(body, source="body").decode().splitlines()
    assert header == "y_1,y_2,p_1,p_2"
    assert [line[:4] for line in lines] == ["1,0,", "0,1,"]
    read = np.array([line[4:].split(",") for line in lines], np.float32)
    assert read.tobytes() == predictor.probabilities(series).tobytes()
    header, *lines = Predictor(trained_labels).predict_csv(body, source="body").decode().splitlines()
    assert header == "y_1,y_2,p_1,p_2"
    assert [line[:4] for line in lines] == ["0,0,", "1,0,"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_series_with_a_missing_or_infinite_value_is_refused(value: float, trained: Checkpoint) -> None:
    series = make_dataset(5).series
    series[3, 2] = value

    with pytest.raises(DataError, match=r"^series 4 has a value that is missing or infinite$"):
        Predictor(trained).probabilities(series)


def test_only_the_end_of_a_padded_channel_may_be_missing(trained_channels: Checkpoint) -> None:
    channels = trained_channels.channels
    predictor = Predictor(replace(trained_channels, treatment=Treatment(length="pad", channels=channels)))
    series = make_channels(3).series
    end = slice(predictor.length - 3, predictor.length)  # of the first channel
    series[0, end] = np.nan
    assert np.isfinite(predictor.probabilities(series)).all()

    series[1, 4] = np.nan
    with pytest.raises(DataError, match=r"^series 2 has"):
        predictor.probabilities(series)


@pytest.mark.parametrize("shape", [(LENGTH,), (3, LENGTH + 1), (2, 3, LENGTH)])
def test_series_are_rows_of_the_networks_length(shape: tuple[int, ...], trained: Checkpoint) -> None:
    with pytest.raises(DataError, match=rf"^the shape of the series is .*; \(cases, {LENGTH}\) is right$"):
        Predictor(trained).probabilities(np.ones(shape, np.float32))


def test_lists_of_numbers_are_series(trained: Checkpoint) -> None:
    predictor, series = Predictor(trained), make_dataset(3).series

    assert predictor.labels(series.tolist()) == predictor.labels(series)


def test_series_of_another_length_are_refused(trained: Checkpoint) -> None:
    with pytest.raises(DataError, match=rf"^body: row 1 has 2 columns where {LENGTH} are expected$"):
        Predictor(trained).predict_csv(b"1,2\n", source="body")


def test_labels_are_quoted_where_csv_needs_it() -> None:
    names = ["1.0", "a,b", 'say "hi"']
    predictor = Predictor(random_checkpoint(5, names, **SMALL))
    series = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32) * 100
    lines = {"1.0": "1.0", "a,b": '"a,b"', 'say "hi"': '"say ""hi"""'}

    expected = "".join(f"{lines[label]}\n" for label in predictor.labels(series))
    assert predictor.answer(predictor.probabilities(series), with_header=False).decode() == expected


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("variant", [{}, {"channels": 3, "squeeze_excite": 1, "attention": 1}])
def test_a_gpu_gives_a_series_the_same_bytes_in_any_batch_and_the_cpus_probabilities(
    variant: dict[str, Any], precision: Precision
) -> None:
    checkpoint = random_checkpoint(50, **variant)
    predictor = Predictor(checkpoint, "cuda", precision)
    series = np.random.default_rng(3).normal(size=(3000, checkpoint.num_values)).astype(np.float32)
    bounds = [0, 1, 2, 1000, 1030, 3000]
    parts = [predictor.probabilities(series[start:end]) for start, end in pairwise(bounds)]
    whole = predictor.probabilities(series)

    assert np.concatenate(parts).tobytes() == whole.tobytes()
    tolerance = 1e-5 if precision == "fp32" else 0.02
    assert np.allclose(whole, Predictor(checkpoint).probabilities(series), atol=tolerance)
