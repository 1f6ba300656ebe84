"""The requests that a replica has yet to answer, and whether others may wait for them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from serve_app import contract

REQUESTS_AT_ONCE = 4
"""Requests, however large, that may be there at once: the last may wait for the others."""
_OVERTAKEN_FOR = 4
"""A request may be overtaken by shorter ones for this many times its own duration."""
_SECONDS_THAT_TELL = 0.05
"""Shortest measurement to learn from: in a shorter one other costs count for too much."""
_WEIGHT = 0.2
"""Weight of the latest measurement in the running average of the seconds per byte."""


def due(since: float, seconds: float) -> float:
    """Return when a request is due that came at the time `since` and takes `seconds`.

    What is due first goes first, so a short request goes before a long one that came a little earlier.
    """
    return since + _OVERTAKEN_FOR * seconds


class Backlog:
    """The requests that a replica has yet to answer, measured by the bytes of their bodies; a short one goes
    before a long one that came a little earlier.
    """

    def __init__(self, most_seconds: float) -> None:
        """`most_seconds` is the longest that a request may have to wait."""
        self._most_seconds = most_seconds
        self._seconds_per_byte = 0.0
        self._turns: list[tuple[float, int]] = []
        """When each request is due, and the bytes of its body."""
        self._since, self._bytes_done = 0.0, 0
        """When the current measurement began, and the bytes answered since; there was always a request to
        answer."""
        self._is_spoiled = False
        """Whether the current measurement holds time for something else too, so that nothing may be learnt
        from it."""

    def expect(self, seconds_per_byte: float) -> None:
        """Assume that requests take this long, until they show what they take."""
        self._seconds_per_byte = seconds_per_byte
        self._is_spoiled = True

    def num_within(self, seconds: float, num_bytes: int) -> int:
        """Return how many bodies of `num_bytes` may be there at once and are answered within so many seconds;
        at least 1.
        """
        return max(1, min(REQUESTS_AT_ONCE, int(seconds / max(num_bytes * self._seconds_per_byte, 1e-9))))

    def sizes_before(self, num_bytes: int) -> list[int]:
        """Return the sizes of the bodies that one of `num_bytes` would have to wait for."""
        latest, _ = self._turn(num_bytes)
        return [other for other_due, other in self._turns if other_due <= latest]

    def refuse_if_too_long(self, num_bytes: int) -> None:
        """Raise RequestError if a body of `num_bytes` would wait too long for those before it (three are
        always allowed), or if the requests that it would overtake wait too long already.
        """
        before = self.sizes_before(num_bytes)
        if len(before) >= REQUESTS_AT_ONCE:
            self._refuse_beyond(sum(before), sum(before))
        sizes = [other for _, other in self._turns]
        whole = sum(sizes)
        self._refuse_beyond(whole - REQUESTS_AT_ONCE * max([num_bytes, *sizes]), whole)

    def _refuse_beyond(self, num_bytes: int, waiting: int) -> None:
        """Raise RequestError if `num_bytes`, of all bytes that are `waiting`, take too long."""
        if num_bytes * self._seconds_per_byte > self._most_seconds:
            sentence = f"requests that take {waiting * self._seconds_per_byte:.1f} s are waiting; try again"
            raise contract.overloaded(sentence, "too long a wait")

    @contextmanager
    def place(self, num_bytes: int) -> Iterator[None]:
        """Hold a place for a request while the block runs, from its body to its answer.

        Raises RequestError as `refuse_if_too_long` does.
        """
        self.refuse_if_too_long(num_bytes)
        if not self._turns:
            self._measure_anew()
        turn = self._turn(num_bytes)
        self._turns.append(turn)
        try:
            yield
        except BaseException:  # the request may have cost much, or next to nothing
            self._is_spoiled = True
            raise
        finally:
            self._turns.remove(turn)
        self._learn(num_bytes)

    def _turn(self, num_bytes: int) -> tuple[float, int]:
        return due(time.perf_counter(), num_bytes * self._seconds_per_byte), num_bytes

    def _measure_anew(self) -> None:
        self._since, self._bytes_done = time.perf_counter(), 0
        self._is_spoiled = False

    def _learn(self, num_bytes: int) -> None:
        """Count `num_bytes` as answered, and learn from the time that has passed if it is long enough."""
        self._bytes_done += num_bytes
        seconds, expected = time.perf_counter() - self._since, self._bytes_done * self._seconds_per_byte
        if self._is_spoiled:
            self._measure_anew()
        elif min(seconds, expected) >= _SECONDS_THAT_TELL:
            self._seconds_per_byte += _WEIGHT * (seconds / self._bytes_done - self._seconds_per_byte)
            self._measure_anew()
