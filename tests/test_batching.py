from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import numpy as np
import pytest

from lstmfcn.series import Matrix
from serve_app.batching import Batcher, Probabilities

ROWS_AT_ONCE = 16


class Network:
    """Answers each row with its own number; passes wait until they are let through."""

    def __init__(self) -> None:
        self.passes: list[int] = []
        self.threads: set[str] = set()
        self.may_go = threading.Event()

    def __call__(self, series: Matrix) -> Probabilities:
        assert self.may_go.wait(timeout=10)
        self.passes.append(len(series))
        self.threads.add(threading.current_thread().name)
        return series[:, :1] * 2


def rows(first: int, count: int) -> Matrix:
    return np.arange(first, first + count, dtype=np.float32)[:, None].repeat(3, axis=1)


def make_batcher(network: Callable[[Matrix], Probabilities], rows_on_loop: int = 0) -> Batcher:
    return Batcher(
        network,
        rows_at_once=ROWS_AT_ONCE,
        rows_on_loop=rows_on_loop,
        seconds_per_row=0.01,
        on_pass=lambda rows, waited: None,
    )


def test_a_lone_small_request_is_predicted_at_once_on_the_event_loop() -> None:
    network = Network()
    network.may_go.set()

    predicted = asyncio.run(make_batcher(network, rows_on_loop=4).probabilities(rows(5, 4)))

    assert predicted[:, 0].tolist() == [10, 12, 14, 16]
    assert network.threads == {"MainThread"}


def test_requests_that_come_during_a_pass_share_the_next_one() -> None:
    network = Network()

    async def ask() -> list[Probabilities]:
        batcher = make_batcher(network)
        asked = [asyncio.create_task(batcher.probabilities(rows(10 * number, 2))) for number in range(4)]
        await asyncio.sleep(0.05)
        asked.append(asyncio.create_task(batcher.probabilities(rows(90, 1))))
        await asyncio.sleep(0.05)
        network.may_go.set()
        return await asyncio.gather(*asked)

    answers = asyncio.run(ask())

    assert [answer[:, 0].tolist() for answer in answers] == [[0, 2], [20, 22], [40, 42], [60, 62], [180]]
    assert network.passes == [8, 1]
    assert all(name.startswith("predict") for name in network.threads)


def test_a_large_request_leaves_room_for_small_ones_in_every_pass() -> None:
    network = Network()
    network.may_go.set()
    finished: list[str] = []

    async def ask() -> tuple[Probabilities, Probabilities]:
        batcher = make_batcher(network)

        async def one(name: str, series: Matrix) -> Probabilities:
            predicted = await batcher.probabilities(series)
            finished.append(name)
            return predicted

        return await asyncio.gather(one("large", rows(0, 90)), one("small", rows(100, 2)))

    large, small = asyncio.run(ask())

    assert finished == ["small", "large"]
    assert large[:, 0].tolist() == [2 * row for row in range(90)]
    assert small[:, 0].tolist() == [200, 202]
    assert max(network.passes) == ROWS_AT_ONCE


def test_an_eighth_of_every_pass_is_for_the_request_that_came_first() -> None:
    passes: list[list[int]] = []

    def note(series: Matrix) -> Probabilities:
        passes.append(series[:, 0].astype(int).tolist())
        return series

    async def ask() -> None:
        batcher = make_batcher(note)
        small = [batcher.probabilities(rows(100 + 4 * number, 4)) for number in range(8)]
        await asyncio.gather(batcher.probabilities(rows(0, 40)), *small)

    asyncio.run(ask())

    share = ROWS_AT_ONCE // 8
    assert passes[0] == [*range(share), *range(100, 100 + ROWS_AT_ONCE - share)]


def test_a_caller_that_has_gone_is_not_predicted_any_further() -> None:
    network = Network()

    async def ask() -> None:
        batcher = make_batcher(network)
        gone = asyncio.create_task(batcher.probabilities(rows(0, 90)))
        await asyncio.sleep(0.05)
        gone.cancel()
        network.may_go.set()
        await batcher.probabilities(rows(0, 1))

    asyncio.run(ask())

    assert sum(network.passes) <= ROWS_AT_ONCE + 1


@pytest.mark.parametrize("count", [1, 2])
def test_one_of_several_waiting_callers_may_go(count: int) -> None:
    network = Network()

    async def ask() -> list[Probabilities]:
        batcher = make_batcher(network)
        first = asyncio.create_task(batcher.probabilities(rows(0, 1)))
        await asyncio.sleep(0.05)
        stays = asyncio.create_task(batcher.probabilities(rows(10, 1)))
        gone = asyncio.create_task(batcher.probabilities(rows(20, count)))
        await asyncio.sleep(0)
        gone.cancel()
        network.may_go.set()
        return [*await asyncio.gather(first, stays), await batcher.probabilities(rows(30, 1))]

    assert [answer[:, 0].tolist() for answer in asyncio.run(ask())] == [[0], [20], [60]]


def test_small_requests_that_come_at_once_share_a_pass_on_the_event_loop() -> None:
    network = Network()
    network.may_go.set()

    async def ask() -> list[Probabilities]:
        batcher = make_batcher(network, rows_on_loop=4)
        return await asyncio.gather(*[batcher.probabilities(rows(number, 1)) for number in range(4)])

    asyncio.run(ask())

    assert (network.passes, network.threads) == ([4], {"MainThread"})


def test_a_network_that_fails_fails_its_requests_and_works_on() -> None:
    calls = []

    def fail_once(series: Matrix) -> Probabilities:
        calls.append(len(series))
        if len(calls) == 1:
            raise RuntimeError("no memory")
        return series

    async def ask() -> Probabilities:
        batcher = make_batcher(fail_once)
        with pytest.raises(RuntimeError, match=r"^no memory$"):
            await batcher.probabilities(rows(0, 3))
        return await batcher.probabilities(rows(0, 2))

    assert len(asyncio.run(ask())) == 2
