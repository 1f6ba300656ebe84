"""Work of a request on another thread than the event loop's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

_Result = TypeVar("_Result")

# More threads would take the interpreter from the event loop, which would then answer nobody else.
_threads = ThreadPoolExecutor(2, thread_name_prefix="request")


async def offload(function: Callable[[], _Result]) -> _Result:
    """Call a function on another thread and return its result. When the request is cancelled, a function that
    still waits for a thread is not called, and one that runs is waited for: only then are the request's place
    and what it holds free for others.
    """
    work = _threads.submit(function)
    try:
        return await asyncio.wrap_future(work)
    except asyncio.CancelledError:
        work.cancel()
        while not work.done():
            with suppress(asyncio.CancelledError):
                # Gathered, an error counts as retrieved, and isn't logged: it may quote the body.
                await asyncio.gather(asyncio.wrap_future(work), return_exceptions=True)
        raise
