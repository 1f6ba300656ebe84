"""What stops trials that fall behind: Tune's schedulers, judging by epoch."""

from __future__ import annotations

from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from lstmfcn.plan import SchedulerName

_JUDGEMENTS = 10
"""Of a trial with the most epochs: more would cost short trials more time than they train."""
_REDUCTION = 3


def judged_every(name: SchedulerName, most_epochs: int) -> int | None:
    """Epochs from one report to the next, the same for all trials; None if nobody judges."""
    return None if name == "none" else _step(most_epochs)


def _step(most_epochs: int) -> int:
    return max(1, most_epochs // _JUDGEMENTS)


def make(name: SchedulerName, most_epochs: int) -> TrialScheduler:
    """The scheduler of this name."""
    first = _step(most_epochs)
    match name:
        case "asha":
            return ASHAScheduler(
                time_attr="epoch", max_t=most_epochs, grace_period=first, reduction_factor=_REDUCTION
            )
        case "median":
            return MedianStoppingRule(time_attr="epoch", grace_period=first, min_samples_required=3)
        case "hyperband":
            return HyperBandScheduler(time_attr="epoch", max_t=most_epochs, reduction_factor=_REDUCTION)
        case "none":
            return FIFOScheduler()  # type: ignore[no-untyped-call]
    raise AssertionError(name)
