"""A stage of a request's life, which is limited in how many requests are in it and for how long."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

from serve_app import contract
from serve_app.contract import RequestError

_Arguments = TypeVarTuple("_Arguments")
_Result = TypeVar("_Result")


class Stage:
    """Runs what belongs to it."""

    def __init__(self, doing: str, most: int, seconds: float, late: RequestError) -> None:
        """At most so many requests at once, each for so many seconds; one that takes longer gets `late`."""
        self._doing, self._most, self._seconds, self._late = doing, most, seconds, late
        self._num_inside = 0

    def refuse_if_full(self) -> None:
        """Raises RequestError."""
        if self._num_inside >= self._most:
            sentence = f"{self._num_inside} requests are {self._doing}; try again"
            raise contract.overloaded(sentence, "too many requests")

    async def run(
        self, function: Callable[[*_Arguments], Awaitable[_Result]], *arguments: *_Arguments
    ) -> _Result:
        """Await a function within the limits: raises RequestError at once if the stage is full, and when the
        function takes too long.
        """
        self.refuse_if_full()
        self._num_inside += 1
        try:
            async with asyncio.timeout(self._seconds):
                return await function(*arguments)
        except TimeoutError:
            raise dataclasses.replace(self._late) from None  # one object would collect all tracebacks
        finally:
            self._num_inside -= 1
