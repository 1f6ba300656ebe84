"""A stage of a request's life, which is limited in how many requests are in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from serve_app import contract


class Stage:
    """Limits how many requests do one thing at a time."""

    def __init__(self, doing: str, most: int) -> None:
        """At most so many at once."""
        self._doing, self._most = doing, most
        self._num_inside = 0

    def refuse_if_full(self) -> None:
        """Raises RequestError."""
        if self._num_inside >= self._most:
            sentence = f"{self._num_inside} requests are {self._doing}; try again"
            raise contract.overloaded(sentence, "too many requests")

    @contextmanager
    def place(self) -> Iterator[None]:
        """For a request while it is in the stage. Raises RequestError at once if that is full."""
        self.refuse_if_full()
        self._num_inside += 1
        try:
            yield
        finally:
            self._num_inside -= 1
