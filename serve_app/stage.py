"""A stage of a request's life, which is limited in how many requests are in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from serve_app import contract


class Stage:
    """Limits how many requests do one thing at a time."""

    def __init__(self, doing: str, most: int) -> None:
        """`doing` says in a refusal what the requests do; at most `most` do it at once."""
        self._doing, self._most = doing, most
        self._num_inside = 0

    def refuse_if_full(self) -> None:
        """Raise RequestError if no further request may do it now."""
        if self._num_inside >= self._most:
            sentence = f"{self._num_inside} requests are {self._doing}; try again"
            raise contract.overloaded(sentence, "too many requests")

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a request's place while the block runs. Raises RequestError at once if the stage is full."""
        self.refuse_if_full()
        self._num_inside += 1
        try:
            yield
        finally:
            self._num_inside -= 1
