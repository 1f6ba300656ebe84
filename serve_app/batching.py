"""Micro-batches by rows: the rows of requests that come together share a pass through the network."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lstmfcn.series import Matrix
from serve_app.backlog import due

Probabilities: TypeAlias = NDArray[np.float32]
"""(cases, classes)"""


@dataclass(slots=True, eq=False)
class _Pending:
    series: Matrix
    done: asyncio.Future[Probabilities]
    num_taken: int = 0
    num_done: int = 0
    parts: list[Probabilities] = field(default_factory=list)
    since: float = field(default_factory=time.perf_counter)

    @property
    def num_left(self) -> int:
        return len(self.series) - self.num_taken

    def take(self, most: int) -> Matrix:
        """Take the request's next rows, at most `most`."""
        rows = self.series[self.num_taken : self.num_taken + most]
        self.num_taken += len(rows)
        return rows


class Batcher:
    """Predicts the series of concurrent requests in passes of bounded size.

    Requests that come at once, or during a pass, share the next passes. Those that are due first go first, as
    in the backlog, so that a large request doesn't keep small ones waiting; but an eighth of every pass is
    for the request that came first, so that small ones don't keep it waiting either.
    """

    def __init__(
        self,
        predict: Callable[[Matrix], Probabilities],
        *,
        rows_at_once: int,
        rows_on_loop: int,
        seconds_per_row: float,
        on_pass: Callable[[int, float], None],
    ) -> None:
        """`rows_at_once` is the most rows of a pass; one of at most `rows_on_loop` is predicted on the event
        loop, since a thread would cost more. A row takes `seconds_per_row`. `on_pass` is told of every pass:
        its rows, and the longest that one of them has waited, in seconds.
        """
        self._predict = predict
        self._rows_at_once, self._rows_on_loop = rows_at_once, rows_on_loop
        self._on_pass = on_pass
        self._turn = max(1, rows_at_once // 8)
        self._seconds_per_row = seconds_per_row
        self._waiting: list[_Pending] = []
        self._thread = ThreadPoolExecutor(1, "predict")
        self._working: asyncio.Task[None] | None = None

    async def probabilities(self, series: Matrix) -> Probabilities:
        """Return the probability of each class: (cases, classes)."""
        pending = _Pending(series, asyncio.get_running_loop().create_future())
        self._waiting.append(pending)
        if self._working is None:
            self._working = asyncio.create_task(self._work())  # begins once all that come at once are here
        return await pending.done

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while shares := self._next_pass():
                num_rows = sum(len(rows) for _, rows in shares)
                waited = time.perf_counter() - min(pending.since for pending, _ in shares)
                try:
                    parts = [rows for _, rows in shares]
                    series = parts[0] if len(parts) == 1 else np.concatenate(parts)
                    if len(series) <= self._rows_on_loop:
                        predicted = self._predict(series)
                    else:
                        predicted = await loop.run_in_executor(self._thread, self._predict, series)
                    _distribute(predicted, shares)
                except Exception as error:
                    _fail(shares, error)
                loop.call_soon(self._on_pass, num_rows, waited)  # after those that wait for the result
        finally:
            self._working = None

    def _next_pass(self) -> list[tuple[_Pending, Matrix]]:
        """Return the requests in the next pass, each with the rows of it that take part."""
        # Requests that have failed or been cancelled are left out.
        self._waiting = [pending for pending in self._waiting if not pending.done.done()]
        shares = []
        room = self._rows_at_once
        if self._waiting:
            oldest = self._waiting[0]
            shares.append((oldest, oldest.take(min(room, self._turn))))
            room -= len(shares[0][1])
        for pending in sorted(self._waiting, key=self._due):
            if pending.num_left and room:
                shares.append((pending, pending.take(room)))
                room -= len(shares[-1][1])
        self._waiting = [pending for pending in self._waiting if pending.num_left]
        return shares

    def _due(self, pending: _Pending) -> float:
        return due(pending.since, len(pending.series) * self._seconds_per_row)


def _distribute(predicted: Probabilities, shares: list[tuple[_Pending, Matrix]]) -> None:
    start = 0
    for pending, rows in shares:
        pending.parts.append(predicted[start : start + len(rows)])
        start += len(rows)
        pending.num_done += len(rows)
        if pending.num_done == len(pending.series) and not pending.done.done():
            pending.done.set_result(np.concatenate(pending.parts))


def _fail(shares: list[tuple[_Pending, Matrix]], error: Exception) -> None:
    for pending, _ in shares:
        if not pending.done.done():
            pending.done.set_exception(error)
