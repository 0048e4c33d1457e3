"""Background threads that repeat a function. An interval of None waits for `wake`, so no test depends on time."""

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue

import pytest

from kataven.background import BackgroundLoop, jittered

SECONDS = 30


@pytest.fixture
def runs() -> SimpleQueue[str]:
    """The name of the thread of each run."""
    return SimpleQueue()


@pytest.fixture
def start(runs: SimpleQueue[str]) -> Iterator[Callable[..., BackgroundLoop]]:
    """Starts a loop that records its runs. It is stopped after the test."""
    started: list[BackgroundLoop] = []

    def start_loop(interval: float | None = None, *, run_at_start: bool = True) -> BackgroundLoop:
        loop = BackgroundLoop(
            "repeater",
            lambda: runs.put(threading.current_thread().name),
            lambda: interval,
            run_at_start=run_at_start,
        )
        loop.start()
        started.append(loop)
        return loop

    yield start_loop
    for loop in started:
        loop.stop()


def test_the_first_run_is_immediate_and_in_the_named_thread(
    start: Callable[..., BackgroundLoop], runs: SimpleQueue[str]
) -> None:
    start()
    assert runs.get(timeout=SECONDS) == "repeater"


def test_runs_repeat_after_each_interval(start: Callable[..., BackgroundLoop], runs: SimpleQueue[str]) -> None:
    start(0.001)
    for _ in range(3):
        runs.get(timeout=SECONDS)


def test_each_wake_runs_once_without_waiting(start: Callable[..., BackgroundLoop], runs: SimpleQueue[str]) -> None:
    loop = start()
    for _ in range(3):
        runs.get(timeout=SECONDS)
        loop.wake()
    runs.get(timeout=SECONDS)
    loop.stop()
    assert runs.empty()  # one run per wake


def test_without_run_at_start_a_stopped_loop_never_ran(
    start: Callable[..., BackgroundLoop], runs: SimpleQueue[str]
) -> None:
    start(run_at_start=False).stop()
    assert runs.empty()


def test_with_run_at_start_a_loop_that_is_stopped_immediately_ran_once(
    start: Callable[..., BackgroundLoop], runs: SimpleQueue[str]
) -> None:
    start().stop()
    runs.get(timeout=SECONDS)
    assert runs.empty()


def test_wake_during_a_run_is_not_lost() -> None:
    entered, proceed = SimpleQueue[None](), SimpleQueue[None]()

    def run() -> None:
        entered.put(None)
        proceed.get(timeout=SECONDS)

    loop = BackgroundLoop("repeater", run, lambda: None)
    loop.start()
    entered.get(timeout=SECONDS)
    loop.wake()
    proceed.put(None)
    entered.get(timeout=SECONDS)
    proceed.put(None)
    loop.stop()


def test_an_error_is_logged_and_the_loop_continues(caplog: pytest.LogCaptureFixture) -> None:
    again = threading.Event()

    def run() -> None:
        if caplog.records:
            again.set()
        raise ValueError("this run")

    loop = BackgroundLoop("repeater", run, lambda: 0.001)
    with caplog.at_level(logging.ERROR):
        loop.start()
        assert again.wait(SECONDS)
        loop.stop()
    assert caplog.records[0].getMessage() == "repeater: a run failed; the thread continues"
    assert caplog.records[0].exc_info is not None


def test_stop_waits_for_the_current_run() -> None:
    entered, stop_returned = threading.Event(), threading.Event()
    returned_too_early: list[bool] = []

    def run() -> None:
        entered.set()
        returned_too_early.append(stop_returned.wait(0.1))

    loop = BackgroundLoop("repeater", run, lambda: None)
    loop.start()
    assert entered.wait(SECONDS)
    loop.stop()
    stop_returned.set()
    assert returned_too_early == [False]


def test_stop_with_a_timeout_returns_before_a_run_that_hangs() -> None:
    entered, proceed = SimpleQueue[None](), threading.Event()

    def run() -> None:
        entered.put(None)
        proceed.wait(SECONDS)

    loop = BackgroundLoop("repeater", run, lambda: None)
    loop.start()
    entered.get(timeout=SECONDS)
    hanging = next(thread for thread in threading.enumerate() if thread.name == "repeater")
    assert loop.stop(timeout=0.001)
    assert hanging.is_alive()
    loop.start()
    entered.get(timeout=SECONDS)
    proceed.set()
    hanging.join(SECONDS)
    assert not hanging.is_alive()  # the second start did not revive it
    assert loop.running
    loop.stop()


def test_start_is_idempotent_and_works_after_a_stop(
    start: Callable[..., BackgroundLoop], runs: SimpleQueue[str]
) -> None:
    loop = start()
    runs.get(timeout=SECONDS)
    loop.start()
    assert loop.running
    assert [loop.stop(), loop.running, loop.stop()] == [True, False, False]
    assert runs.empty()
    loop.start()
    runs.get(timeout=SECONDS)


def test_stop_before_start_does_nothing(runs: SimpleQueue[str]) -> None:
    assert not BackgroundLoop("repeater", lambda: runs.put(""), lambda: None).stop()
    assert runs.empty()


def test_a_forked_child_can_start_its_own_thread() -> None:
    script = """
import os, sys
from queue import SimpleQueue
from kataven.background import BackgroundLoop

runs = SimpleQueue()
loop = BackgroundLoop("repeater", lambda: runs.put(os.getpid()), lambda: None)
loop.start()
runs.get(timeout=30)
child = os.fork()
if child == 0:
    assert not loop.running
    loop.start()
    assert runs.get(timeout=30) == os.getpid()
    loop.stop()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert loop.running
loop.stop()
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_jittered_intervals_are_half_to_all_of_the_seconds_and_differ() -> None:
    intervals = [jittered(8.0)() for _ in range(100)]
    assert all(4.0 <= seconds <= 8.0 for seconds in intervals)
    assert len(set(intervals)) > 1
