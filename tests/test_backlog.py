from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from serve_app import backlog
from serve_app.backlog import Backlog
from serve_app.contract import RequestError


class Clock:
    """Of which the tests are the hands."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(backlog, "time", clock)
    return clock


def make_backlog() -> Backlog:
    """In which 100 bytes are a second's work, and two seconds may be waited for."""
    waiting = Backlog(most_seconds=2)
    waiting.expect(seconds_per_byte=0.01)
    return waiting


@pytest.mark.parametrize(("num_bytes", "num"), [(100, 4), (1500, 4), (2000, 3), (3000, 2), (9000, 1)])
def test_no_more_are_asked_for_than_are_answered_in_time(num_bytes: int, num: int) -> None:
    assert make_backlog().num_within(60, num_bytes) == num


@contextmanager
def requests(waiting: Backlog, *sizes: int) -> Iterator[None]:
    with ExitStack() as places:
        for size in sizes:
            places.enter_context(waiting.place(size))
        yield


def test_a_request_waits_for_those_that_are_not_longer() -> None:
    waiting = make_backlog()

    with requests(waiting, 10, 20, 30):
        before = {size: sum(waiting.sizes_before(size)) for size in (9, 10, 20, 29, 30, 1000)}

    assert before == {9: 0, 10: 10, 20: 30, 29: 30, 30: 60, 1000: 60}
    assert sum(waiting.sizes_before(1000)) == 0


def test_a_longer_one_is_overtaken_for_four_times_as_long_as_it_takes(clock: Clock) -> None:
    waiting = make_backlog()

    with requests(waiting, 30):
        assert sum(waiting.sizes_before(10)) == 0
        clock.now = 0.79
        assert sum(waiting.sizes_before(10)) == 0
        clock.now = 0.81
        assert sum(waiting.sizes_before(10)) == 30


def test_one_that_would_wait_too_long_is_refused_at_once() -> None:
    waiting = make_backlog()

    with requests(waiting, *[20] * 11):
        with pytest.raises(RequestError) as refused, waiting.place(20):
            pass
        waiting.refuse_if_too_long(19)
    waiting.refuse_if_too_long(20)
    assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})
    assert refused.value.sentence == "requests that take 2.2 s are waiting; try again"


def test_ever_shorter_ones_do_not_keep_the_first_from_its_turn() -> None:
    waiting = make_backlog()

    with ExitStack() as places:
        for size in range(1000, 995, -1):
            places.enter_context(waiting.place(size))
        with pytest.raises(RequestError) as refused:
            waiting.refuse_if_too_long(995)

    assert refused.value.sentence == "requests that take 49.9 s are waiting; try again"


@pytest.mark.parametrize("last", [1001, 999, 300])
def test_four_clients_with_bodies_of_about_one_size_never_refuse_each_other(last: int, clock: Clock) -> None:
    waiting = make_backlog()

    with requests(waiting, 1000, 1000, 1000):
        clock.now = 30.0  # the others are due before it
        assert sum(waiting.sizes_before(last)) == 3000
        waiting.refuse_if_too_long(last)


def test_three_requests_never_keep_one_like_them_from_waiting() -> None:
    waiting = make_backlog()

    with requests(waiting, *[1000] * 3):
        waiting.refuse_if_too_long(1000)
        with waiting.place(1000), pytest.raises(RequestError, match=r"requests that take 40.0 s"):
            waiting.refuse_if_too_long(1000)


@pytest.mark.parametrize(
    ("seconds", "others", "expected"),
    [(20, 6, "requests that take 2.4 s"), (1000, 4, "requests that take 80.0 s")],
)
def test_what_requests_take_is_learnt(clock: Clock, seconds: float, others: int, expected: str) -> None:
    waiting = make_backlog()
    for _ in range(100):
        with waiting.place(1000):
            clock.now += seconds

    with requests(waiting, *[20] * others), pytest.raises(RequestError, match=expected):
        waiting.refuse_if_too_long(20)


@pytest.mark.parametrize(("num_bytes", "seconds"), [(1, 0), (1000, 9)])
def test_time_in_which_something_fails_teaches_nothing(clock: Clock, num_bytes: int, seconds: float) -> None:
    waiting = make_backlog()
    for _ in range(100):
        with waiting.place(1000), waiting.place(1000):
            clock.now += 1
            with suppress(RequestError), waiting.place(num_bytes):
                clock.now += seconds
                raise RequestError(400, "it is refused")
            clock.now += 1

    with requests(waiting, *[20] * 11), pytest.raises(RequestError, match=r"requests that take 2.2 s"):
        waiting.refuse_if_too_long(20)


def test_what_was_under_way_when_the_model_changed_teaches_nothing(clock: Clock) -> None:
    waiting = make_backlog()
    with waiting.place(1000):
        clock.now += 10
        waiting.expect(seconds_per_byte=0.01)

    with requests(waiting, *[20] * 11), pytest.raises(RequestError, match=r"requests that take 2.2 s"):
        waiting.refuse_if_too_long(20)


def test_requests_that_are_small_or_fail_teach_nothing(clock: Clock) -> None:
    waiting = make_backlog()
    for _ in range(100):
        with waiting.place(4):
            clock.now += 1000
        with suppress(RequestError), waiting.place(1000):
            clock.now += 1000
            raise RequestError(400, "it is refused")

    with requests(waiting, *[20] * 11), pytest.raises(RequestError, match=r"requests that take 2.2 s"):
        waiting.refuse_if_too_long(20)
