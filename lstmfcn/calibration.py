"""Temperature scaling (Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599): logits are
divided by one number, found on validation data, so that probabilities say how often the network is right.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from lstmfcn import tasks
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.dataset import Dataset
from lstmfcn.predictor import Predictor

_LOWEST, _HIGHEST = 0.05, 20.0
"""Bounds of the temperature; a network that is always right on the validation data would have 0."""
_LEAST_PROBABILITY = 1e-38
"""Floor of probabilities before their logarithm, about the smallest normal number of float32."""
_NUM_BINS = 15
"""Number of bins, as in the paper."""


def calibrated(checkpoint: Checkpoint, validation: Dataset) -> Checkpoint:
    """Return the checkpoint with the temperature of least validation log-loss; labels stay the same."""
    # At the highest temperature no probability is rounded to 0 or 1, which would hide how large its logit is.
    probabilities = Predictor(replace(checkpoint, temperature=_HIGHEST)).probabilities(validation.series)
    probabilities, targets = tasks.as_choices(checkpoint.task, probabilities, validation.targets)
    logits = _HIGHEST * np.log(np.maximum(probabilities.astype(np.float64), _LEAST_PROBABILITY))

    def loss_at(logarithm: float) -> float:
        # Not by probabilities, which are rounded to 0 where the network is sure and wrong.
        logarithms = log_softmax(logits / np.exp(logarithm), axis=1)
        return -float(logarithms[np.arange(len(targets)), targets].mean())

    found = minimize_scalar(loss_at, bounds=(np.log(_LOWEST), np.log(_HIGHEST)), method="bounded")
    return replace(checkpoint, temperature=float(np.exp(found.x)))


def expected_calibration_error(probabilities: NDArray[np.floating[Any]], targets: NDArray[np.int64]) -> float:
    """Return how far the probability of the predicted class is from the share of right predictions, on
    average over bins of equal width, weighted by their cases (section 2 of the paper). Shapes are (cases,
    classes) and (cases,).
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    is_right = probabilities.argmax(axis=1) == targets
    bins = np.minimum((confidence * _NUM_BINS).astype(int), _NUM_BINS - 1)
    gaps = np.bincount(bins, weights=confidence - is_right, minlength=_NUM_BINS)
    return float(np.abs(gaps).sum() / len(targets))
