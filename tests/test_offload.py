from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from serve_app import offload as module
from serve_app.offload import offload


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_threads", ThreadPoolExecutor(1))


def test_a_function_runs_on_another_thread() -> None:
    assert asyncio.run(offload(threading.current_thread)) is not threading.current_thread()


def test_an_error_is_the_requests() -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(offload(lambda: 1 // 0))


def test_a_request_that_is_cancelled_ends_with_what_runs_for_it() -> None:
    async def cancelled_twice() -> list[bool]:
        begun, go_on = threading.Event(), threading.Event()

        def run() -> None:
            begun.set()
            go_on.wait(10)

        request = asyncio.create_task(offload(run))
        while not begun.is_set():
            await asyncio.sleep(0)
        has_ended = []
        for _ in range(2):
            request.cancel()
            await asyncio.sleep(0.01)
            has_ended.append(request.done())
        go_on.set()
        await asyncio.wait([request])
        return [*has_ended, request.cancelled()]

    assert asyncio.run(cancelled_twice()) == [False, False, True]


def test_what_waits_for_a_thread_when_its_request_is_cancelled_is_not_done() -> None:
    async def called() -> list[str]:
        go_on, called = threading.Event(), []
        running = asyncio.create_task(offload(lambda: go_on.wait(10)))
        waiting = asyncio.create_task(offload(lambda: called.append("waiting")))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting], timeout=5)
        assert waiting.cancelled()
        go_on.set()
        await running
        return called

    assert asyncio.run(called()) == []


def test_an_error_for_a_request_that_was_cancelled_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def cancelled() -> None:
        begun, go_on = threading.Event(), threading.Event()

        def refuse() -> None:
            begun.set()
            go_on.wait(10)
            raise ValueError("column 3: 'secret' is not a finite number")

        request = asyncio.create_task(offload(refuse))
        while not begun.is_set():
            await asyncio.sleep(0)
        for _ in range(2):
            request.cancel()
            await asyncio.sleep(0.01)
        go_on.set()
        await asyncio.wait([request])
        assert request.cancelled()

    asyncio.run(cancelled())
    gc.collect()

    assert caplog.records == []
