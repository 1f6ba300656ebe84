"""The requests that a replica has yet to answer, and whether others may wait for them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from serve_app import contract

REQUESTS_AT_ONCE = 4
"""Of any size, the last of which may always wait for the others."""
_OVERTAKEN_FOR = 4
"""Times what a request takes itself: so long after it others that are shorter still go before it."""
_SECONDS_THAT_TELL = 0.05
"""Of work in the backlog; less says more about a request's other costs."""
_WEIGHT = 0.2
"""Of the latest request in what requests take."""


def due(since: float, seconds: float) -> float:
    """When a request should be answered that came at a time and takes so many seconds: who is due first goes
    first.
    """
    return since + _OVERTAKEN_FOR * seconds


class Backlog:
    """Requests by the bytes of their bodies; a short one goes before a long one that came a bit earlier."""

    def __init__(self, most_seconds: float, seconds_per_byte: float) -> None:
        """`most_seconds` that a request may have to wait; `seconds_per_byte` at first, until requests show
        what they take.
        """
        self._most_seconds = most_seconds
        self._seconds_per_byte = seconds_per_byte
        self._turns: list[tuple[float, int]] = []
        """When each request should be answered at the latest, and its bytes."""

    def before(self, num_bytes: int) -> int:
        """Bytes that a body of so many has to wait for. Raises RequestError if it would wait too long, unless
        they are few beside its own.
        """
        latest, _ = self._turn(num_bytes)
        before = sum(other for other_due, other in self._turns if other_due <= latest)
        seconds = before * self._seconds_per_byte
        if seconds > self._most_seconds and before > (REQUESTS_AT_ONCE - 1) * num_bytes:
            sentence = f"requests that take {seconds:.1f} s are waiting; try again"
            raise contract.overloaded(sentence, "too long a wait")
        return before

    @contextmanager
    def place(self, num_bytes: int) -> Iterator[None]:
        """For a request from its body to its answer. Raises RequestError as `before` does."""
        before = self.before(num_bytes)
        started = time.perf_counter()
        turn = self._turn(num_bytes)
        self._turns.append(turn)
        try:
            yield
        finally:
            self._turns.remove(turn)
        self._learn(before + num_bytes, time.perf_counter() - started)

    def _turn(self, num_bytes: int) -> tuple[float, int]:
        return due(time.perf_counter(), num_bytes * self._seconds_per_byte), num_bytes

    def _learn(self, num_bytes: int, seconds: float) -> None:
        """That so many bytes took so long, with all that went on beside."""
        if num_bytes * self._seconds_per_byte >= _SECONDS_THAT_TELL:
            self._seconds_per_byte += _WEIGHT * (seconds / num_bytes - self._seconds_per_byte)
