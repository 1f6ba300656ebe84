"""The report of a sweep: one HTML page that opens offline."""

from __future__ import annotations

import csv
import functools
import io
import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from lstmfcn import storage, sweep_plots
from lstmfcn.errors import OutputError
from lstmfcn.evaluation import ENSEMBLE, SUMMARY, ConfusionTable, EnsembleComparison
from lstmfcn.history import METRICS
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.metrics import Objective
from lstmfcn.record import Record
from lstmfcn.search import optuna_distribution
from lstmfcn.search_space import Choice, Range, SearchSpace
from lstmfcn.storage import Location
from lstmfcn.sweep import EVALUATION, REPORT
from lstmfcn.sweep_plots import Bar, Curve
from lstmfcn.trials import Trial, TrialFolders, ranked

_TEMPLATE = "report.html.jinja"
_NUM_BEST = 10
_NUM_CURVES = 50
_MOST_DRAWN = 2_000
"""Most trials that a picture shows, and that the importance of hyperparameters is estimated from."""
_FEWEST_TRIALS_FOR_IMPORTANCE = 4


def write_report(output: Location) -> None:
    """Write report.html into a sweep's output folder: its results in tables and pictures.

    Raises OutputError if the folder holds no sweep, or a sweep without a trial.
    """
    sweep = _Sweep.read(output)
    importance = _importance(sweep)
    page = _template().render(
        sweep=sweep,
        name=output.resolve().name,
        best=sweep.usable[:_NUM_BEST],
        failures=_failures(sweep.trials),
        curves=_curves(sweep, output),
        coordinates=_coordinates(sweep),
        importance=importance,
        importances=sweep_plots.importances(importance) if importance else None,
        time_line=_time_line(_thinned(sweep.trials, _MOST_DRAWN)),
        most_drawn=_MOST_DRAWN,
        confusion=_confusion(output / EVALUATION),
        ensemble=_ensemble(output / EVALUATION),
    )
    storage.write_bytes(output / REPORT, page.encode(errors="backslashreplace"))


@functools.cache
def _template() -> Template:
    templates = Environment(
        loader=PackageLoader("lstmfcn", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(number=_number, metric=_metric, duration=_duration)
    return templates.get_template(_TEMPLATE)


@dataclass(frozen=True, slots=True)
class _Sweep:
    record: Record
    objective: Objective
    space: SearchSpace
    trials: Sequence[Trial]
    """All trials, the best first."""
    usable: Sequence[Trial]
    """Trials that have weights to be judged by, the best first."""
    domains: Mapping[str, Range | Choice]
    """Domain of each hyperparameter that varies, widened to hold every trial's value."""
    constants: Mapping[str, float]
    """Value of each hyperparameter that doesn't vary."""

    @classmethod
    def read(cls, output: Location) -> Self:
        record = Record.read(output)
        objective = record.plan.objective
        trials = ranked(TrialFolders(output).read(), objective)
        if not trials:
            raise OutputError(f"{output} holds a sweep without a trial; there is nothing to show")
        space = SearchSpace.from_mapping(record.search_space)
        domains = {
            name: _covering(space.domains.get(name), [_value(trial, name) for trial in trials])
            for name in Hyperparameters.model_fields
        }
        varied = {name: domain for name, domain in domains.items() if domain.is_varied}
        return cls(
            record,
            objective,
            space,
            trials,
            [trial for trial in trials if trial.is_usable],
            varied,
            {name: _value(trials[0], name) for name in domains if name not in varied},
        )

    @property
    def status_counts(self) -> Mapping[str, int]:
        return Counter(trial.status for trial in sorted(self.trials, key=lambda trial: trial.number))


def _thinned(trials: Sequence[Trial], most: int) -> Sequence[Trial]:
    """Return at most so many of the trials, at equal steps through their order."""
    return trials[:: max(1, math.ceil(len(trials) / most))]


def _value(trial: Trial, name: str) -> float:
    value: float = getattr(trial.hyperparameters, name)
    return value


def _covering(domain: Range | Choice | None, values: Sequence[float]) -> Range | Choice:
    """Return the domain widened to these values, since points that are tried first may lie outside it."""
    match domain:
        case Range(kind, low, high):
            low, high = min(low, *values), max(high, *values)
            return Range(kind if low > 0 else "uniform", low, high)
        case Choice(choices):
            return Choice(tuple(sorted({*choices, *values})))
        case None:
            return Choice(tuple(sorted(set(values))))


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def _metric(value: float) -> str:
    return f"{value:#.4g}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _failures(trials: Sequence[Trial]) -> list[tuple[str, list[int]]]:
    """Return each reason for a failure and the trials that it ended, the most frequent first."""
    by_reason = defaultdict(list)
    for trial in trials:
        if trial.status == "failed":
            by_reason[trial.error].append(trial.number)
    return sorted(by_reason.items(), key=lambda failure: (-len(failure[1]), failure[1]))


def _curves(sweep: _Sweep, output: Location) -> str | None:
    """Draw the learning curves of the best trials, and of some others; None if no trial has any."""
    trained = [trial for trial in sweep.trials if trial.epoch > 0]
    if not trained:
        return None
    drawn = [*trained[:_NUM_BEST], *_thinned(trained[_NUM_BEST:], _NUM_CURVES - _NUM_BEST)]
    folders = TrialFolders(output)
    paths = (folders.folder(trial.number) / METRICS for trial in drawn)
    # A process that was lost may have reported more epochs than it wrote to metrics.csv, if it wrote any.
    columns = [_column(table, sweep.objective.metric) for table in storage.read_all(paths, missing=b"")]
    curves = [
        Curve(trial.number, column, trial.best_epoch if trial.best_epoch <= len(column) else 0)
        for trial, column in zip(drawn, columns, strict=True)
        if column
    ]
    if not curves:
        return None
    return sweep_plots.learning_curves(curves[:_NUM_BEST], curves[_NUM_BEST:], sweep.objective.metric)


def _column(table: bytes, name: str) -> list[float]:
    return [float(row[name]) for row in csv.DictReader(io.StringIO(table.decode()))]


def _coordinates(sweep: _Sweep) -> str | None:
    if not sweep.usable or not sweep.domains:
        return None
    metric, mode = sweep.objective.metric, sweep.objective.mode
    points = [
        {**{name: _value(trial, name) for name in sweep.domains}, metric: trial.best_metrics[metric]}
        for trial in _thinned(sweep.usable, _MOST_DRAWN)
    ]
    return sweep_plots.parallel_coordinates(sweep.domains, points, metric, mode)


def _importance(sweep: _Sweep) -> dict[str, float]:
    """Return the importance of each hyperparameter that varies, the greatest first; empty if there is too
    little to tell it from.
    """
    usable = _thinned(sweep.usable, _MOST_DRAWN)
    results = [trial.best_metrics[sweep.objective.metric] for trial in usable]
    combinations = {tuple(_value(trial, name) for name in sweep.domains) for trial in usable}
    if (
        len(results) < _FEWEST_TRIALS_FOR_IMPORTANCE
        or len(sweep.domains) < 2
        or min(len(set(results)), len(combinations)) < 2
    ):
        return {}
    import optuna  # noqa: PLC0415 (takes half a second)
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances  # noqa: PLC0415

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    distributions = {name: optuna_distribution(_uniform(domain)) for name, domain in sweep.domains.items()}
    least, most = min(results), max(results)
    finished = [
        optuna.create_trial(
            params={name: _on_uniform(domain, _value(trial, name)) for name, domain in sweep.domains.items()},
            distributions=distributions,
            value=(result - least) / (most - least),  # small differences are none to scikit-learn's trees
        )
        for trial, result in zip(usable, results, strict=True)
    ]
    study.add_trials(finished)
    # Trees without a limit take a minute for 1,000 trials.
    shares = get_param_importances(
        study, evaluator=FanovaImportanceEvaluator(n_trees=32, max_depth=5, seed=0)
    )
    return {name: float(share) for name, share in shares.items()}


def _uniform(domain: Range | Choice) -> Range | Choice:
    """Return the domain as fANOVA sees it, uniform: a log-uniform one in logarithms."""
    match domain:
        case Range("log_uniform", low, high):
            return Range("uniform", math.log(low), math.log(high))
    return domain


def _on_uniform(domain: Range | Choice, value: float) -> float:
    """Return the value as it lies in the domain that `_uniform` returns."""
    return math.log(value) if isinstance(domain, Range) and domain.kind == "log_uniform" else value


def _time_line(trials: Sequence[Trial]) -> str | None:
    bars = [
        Bar(trial.number, trial.status, trial.worker, trial.started, trial.ended)
        for trial in trials
        if trial.worker
    ]
    return sweep_plots.time_line(bars) if bars else None


def _ensemble(folder: Location) -> EnsembleComparison | None:
    path = folder / ENSEMBLE
    return EnsembleComparison.model_validate_json(storage.read_bytes(path)) if path.is_file() else None


def _confusion(folder: Location) -> ConfusionTable | None:
    path = folder / SUMMARY
    return ConfusionTable.of(json.loads(storage.read_bytes(path))) if path.is_file() else None
