"""Waiting for a thread: the bound, the bound of an overloaded worker, and the lane of urgent requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from kataven.web.server.request_threads import Lane, QueueLimits, RequestThreads
from tests.support.clock import Clock
from tests.support.waiting import wait_until

LIMITS = QueueLimits(wait_seconds=2.0, overloaded_wait_seconds=0.25, standing_seconds=1.0)


class Requests:
    """Requests that each occupy a thread until `release`."""

    def __init__(self, threads: int = 1) -> None:
        self.clock = Clock()
        self.begun: list[str] = []
        self.shed: list[str] = []
        self.released = {}  # type: dict[str, threading.Event]
        self.threads = RequestThreads(threads, LIMITS, self._serve, self.shed.append, self.clock)

    def _serve(self, name: str) -> None:
        self.begun.append(name)
        if name == "fails":
            raise RuntimeError(name)
        assert self.released.setdefault(name, threading.Event()).wait(30)

    def submit(self, *names: str, lane: Lane = Lane.NORMAL) -> None:
        for name in names:
            self.threads.submit(name, lane)

    def release(self, *names: str) -> None:
        for name in names:
            self.released.setdefault(name, threading.Event()).set()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        wait_until(condition, 30, lambda: f"begun {self.begun}, shed {self.shed}")


@pytest.fixture
def requests() -> Iterator[Requests]:
    made = Requests()
    yield made
    made.threads.shutdown()
    made.release(*made.begun, *"abcdefgh")


def occupy(requests: Requests) -> None:
    requests.submit("a")
    requests.wait_for(lambda: requests.begun == ["a"])


def test_requests_are_served_in_order(requests: Requests) -> None:
    occupy(requests)
    requests.submit("b", "c")
    requests.release("a", "b")
    requests.wait_for(lambda: requests.begun == ["a", "b", "c"])
    assert requests.shed == []


def test_a_request_that_waited_too_long_is_shed_by_the_thread_that_finds_it(requests: Requests) -> None:
    occupy(requests)
    requests.submit("b")
    requests.clock.advance(2.1)
    requests.submit("c")
    requests.release("a")
    requests.wait_for(lambda: requests.begun == ["a", "c"])
    assert requests.shed == ["b"]


def test_overdue_requests_are_shed_while_all_threads_are_occupied(requests: Requests) -> None:
    occupy(requests)
    requests.submit("b", "c")
    requests.clock.advance(0.5)
    requests.threads.shed_overdue()
    assert requests.shed == []
    requests.clock.advance(2)
    requests.submit("d")
    requests.threads.shed_overdue()
    assert requests.shed == ["b", "c"]
    requests.release("a")
    requests.wait_for(lambda: requests.begun == ["a", "d"])


def test_a_standing_queue_shortens_the_wait_until_it_is_empty(requests: Requests) -> None:
    occupy(requests)
    requests.submit("b")
    requests.clock.advance(1.1)  # longer than a queue may stand: from now on, requests wait for 0.25 s only
    requests.submit("c")
    requests.clock.advance(0.3)
    requests.submit("d")
    requests.release("a")
    requests.wait_for(lambda: requests.begun == ["a", "d"])  # the queue is empty now
    assert requests.shed == ["b", "c"]
    requests.submit("e")
    requests.clock.advance(0.9)
    requests.release("d")
    requests.wait_for(lambda: requests.begun == ["a", "d", "e"])
    assert requests.shed == ["b", "c"]


def test_an_urgent_request_has_its_own_thread_and_is_not_shed(requests: Requests) -> None:
    occupy(requests)
    requests.submit("b")
    requests.submit("c", "d", lane=Lane.URGENT)
    requests.wait_for(lambda: requests.begun == ["a", "c"])
    requests.clock.advance(60)
    requests.threads.shed_overdue()
    assert requests.shed == ["b"]
    requests.release("c")
    requests.wait_for(lambda: requests.begun == ["a", "c", "d"])


def test_a_health_check_does_not_wait_behind_urgent_requests(requests: Requests) -> None:
    occupy(requests)
    requests.submit("b", "c", lane=Lane.URGENT)
    requests.wait_for(lambda: requests.begun == ["a", "b"])
    requests.submit("d", lane=Lane.PROBE)
    requests.wait_for(lambda: requests.begun == ["a", "b", "d"])


def test_urgent_requests_use_the_other_threads_when_these_are_free(requests: Requests) -> None:
    requests.submit("a", "b", lane=Lane.URGENT)
    requests.wait_for(lambda: sorted(requests.begun) == ["a", "b"])


def test_urgent_requests_do_not_overtake_the_others_in_their_threads(requests: Requests) -> None:
    occupy(requests)
    requests.submit("b", lane=Lane.URGENT)
    requests.wait_for(lambda: requests.begun == ["a", "b"])
    requests.submit("c", lane=Lane.URGENT)
    requests.submit("d")
    requests.release("a")
    requests.wait_for(lambda: len(requests.begun) == 3)
    assert requests.begun[-1] == "d"


def test_a_failed_request_does_not_end_its_thread(requests: Requests, caplog: pytest.LogCaptureFixture) -> None:
    requests.submit("fails")
    requests.wait_for(lambda: requests.begun == ["fails"])
    requests.submit("a")
    requests.wait_for(lambda: requests.begun == ["fails", "a"])
    assert "a request thread failed" in caplog.text


def test_queued_requests_are_served_before_the_threads_end(requests: Requests) -> None:
    occupy(requests)
    requests.submit("b")
    requests.threads.shutdown()
    requests.release("a")
    requests.wait_for(lambda: requests.begun == ["a", "b"])
