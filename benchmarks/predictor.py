"""The predictor beside a plain module, ONNX Runtime and OpenVINO: `python -m benchmarks.predictor`.

All get the same series as read and scale them alike. bf16 takes part where the CPU has instructions for it,
and once, emulated, where it hasn't.
"""

from __future__ import annotations

import functools
import io
import json
import os
import warnings
from collections.abc import Callable

import numpy as np
import onnxruntime
import openvino
import torch
from numpy.typing import NDArray

from benchmarks.naive import Naive
from benchmarks.networks import NETWORKS, make_checkpoint
from benchmarks.timing import interleaved, shares
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.devices import CPU, supported_precision, use_threads
from lstmfcn.predictor import Predictor
from lstmfcn.scaling import Scaling
from lstmfcn.series import Matrix

LENGTHS = (24, 100, 500)
BATCH = 128
"""Series in a batch of those contestants that don't choose it themselves."""

Contestant = Callable[[Matrix], NDArray[np.float32]]


def main() -> None:
    """Print a table of series per second, a profile, and a line of JSON."""
    has_bf16 = supported_precision("auto", CPU) == "bf16"
    random = np.random.default_rng(0)
    results: dict[str, float | bool] = {}
    print(f"{'network':<8} {'length':>6} {'threads':>7}  series/s (times as fast as naive)")
    for name in NETWORKS:
        for length in LENGTHS:
            checkpoint = make_checkpoint(name, length)
            num_series = 100 * BATCH if name == "small" else 51_200 // length // BATCH * BATCH or BATCH
            series = random.normal(size=(num_series, length)).astype(np.float32)
            for threads in sorted({1, os.cpu_count() or 1}):
                use_threads(threads)
                is_main = (name, length, threads) == ("default", 100, 1)
                contestants = _contestants(checkpoint, threads, with_bf16=has_bf16 or is_main)
                rates = _rates(contestants, series, emulated=() if has_bf16 else ("bf16",))
                cells = [f"{who} {rate:,.0f} ({rate / rates['naive']:.2f})" for who, rate in rates.items()]
                print(f"{name:<8} {length:>6} {threads:>7}  {'  '.join(cells)}", flush=True)
                if is_main:
                    results |= _ratios(rates)
                    results["labels_equal_fp32"] = _same_labels(contestants, series)
                    profiled = shares(functools.partial(contestants["fp32"], series))
    print("fp32, default network, length 100, one thread; shares of the time:", *profiled, sep="\n  ")
    if not has_bf16:
        print("this CPU has no instructions for bf16: PyTorch emulates it, OpenVINO computes in fp32")
    print(json.dumps(results))


def _rates(contestants: dict[str, Contestant], series: Matrix, emulated: tuple[str, ...]) -> dict[str, float]:
    """Return the series per second of each contestant; those that are emulated get one batch only."""
    given = {name: series[:BATCH] if name in emulated else series for name in contestants}
    runs = {name: functools.partial(run, given[name]) for name, run in contestants.items()}
    return {name: len(given[name]) / seconds for name, seconds in interleaved(runs).items()}


def _ratios(rates: dict[str, float]) -> dict[str, float]:
    pairs = {
        "fp32_vs_naive": ("fp32", "naive"),
        "bf16_vs_naive": ("bf16", "naive"),
        "fp32_vs_onnxruntime": ("fp32", "onnxruntime"),
        "fp32_vs_openvino": ("fp32", "openvino"),
        "bf16_vs_openvino": ("bf16", "openvino_bf16"),
    }
    return {name: round(rates[ours] / rates[theirs], 2) for name, (ours, theirs) in pairs.items()}


def _same_labels(contestants: dict[str, Contestant], series: Matrix) -> bool:
    return bool((contestants["fp32"](series).argmax(1) == contestants["naive"](series).argmax(1)).all())


def _contestants(checkpoint: Checkpoint, threads: int, *, with_bf16: bool) -> dict[str, Contestant]:
    naive = Naive(checkpoint.build_model()).eval()
    contestants: dict[str, Contestant] = {
        "naive": _in_batches(lambda batch: naive(torch.from_numpy(batch)).softmax(1).numpy()),
        "onnxruntime": _onnxruntime(naive, checkpoint.length, threads),
        "openvino": _openvino(naive, checkpoint.length, threads, "f32"),
        "fp32": Predictor(checkpoint).probabilities,
    }
    if with_bf16:
        contestants["openvino_bf16"] = _openvino(naive, checkpoint.length, threads, "bf16")
        contestants["bf16"] = Predictor(checkpoint, precision="bf16").probabilities
    return contestants


def _in_batches(predict: Contestant) -> Contestant:
    scaling = Scaling()

    @torch.inference_mode()
    def run(series: Matrix) -> NDArray[np.float32]:
        scaled = scaling(series)
        return np.concatenate(
            [predict(scaled[start : start + BATCH]) for start in range(0, len(series), BATCH)]
        )

    return run


def _onnxruntime(naive: Naive, length: int, threads: int) -> Contestant:
    exported = io.BytesIO()
    example = torch.zeros(BATCH, length)
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(naive, (example,), exported, dynamo=False, input_names=["series"])  # type: ignore[arg-type]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(exported.getvalue(), options)
    return _in_batches(lambda batch: _softmax(session.run(None, {"series": batch})[0]))


def _openvino(naive: Naive, length: int, threads: int, precision: str) -> Contestant:
    shape = [BATCH, length]
    with warnings.catch_warnings(action="ignore"):
        model = openvino.convert_model(naive, input=shape, example_input=torch.zeros(shape))
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision}
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    return _in_batches(lambda batch: _softmax(compiled([batch])[0]))


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    probabilities: NDArray[np.float32] = torch.from_numpy(logits).softmax(1).numpy()
    return probabilities


if __name__ == "__main__":
    main()
