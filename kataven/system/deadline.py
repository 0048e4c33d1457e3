"""Runs a blocking call with a deadline that covers all of it: the wait for a connection, connecting, the statement."""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import TypeVar

T = TypeVar("T")

_log = logging.getLogger(__name__)


def within(seconds: float, call: Callable[[], T], *, discard: Callable[[T], object], name: str) -> T:
    """The result of `call`, which runs in a thread called `name`. Raises what it raises, or TimeoutError.

    After a timeout the call isn't interrupted: if it still succeeds, its result is passed to `discard` in that thread.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            result = call()
        except Exception as error:  # raised again in the caller's thread
            _settle(outcome.set_exception, error)
            return
        if not _settle(outcome.set_result, result):
            try:
                discard(result)
            except Exception:
                _log.warning("%s: could not discard a late result", name, exc_info=True)

    context = contextvars.copy_context()  # with the caller's trace and request id
    threading.Thread(target=context.run, args=(run,), name=name, daemon=True).start()
    try:
        return outcome.result(seconds)
    except TimeoutError:
        if outcome.cancel():
            raise
        return outcome.result()  # it arrived at the last moment, or is itself a TimeoutError


def _settle(setter: Callable[[T], None], value: T) -> bool:
    """Whether the outcome was still wanted."""
    try:
        setter(value)
    except InvalidStateError:
        return False
    return True
