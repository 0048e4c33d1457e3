"""Our windows as a storage of the `limits` library, which Flask-Limiter counts in."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import lru_cache
from typing import NoReturn

from limits.storage import MovingWindowSupport, Storage

from kataven.ratelimit.decision import Decision
from kataven.ratelimit.policy import DAY, HOUR, MINUTE, Quota, QuotaSet, RateLimitKey
from kataven.ratelimit.windows import Windows

SCHEME = "kataven-windows"
_NAMES = {1: "per-second", MINUTE: "per-minute", HOUR: "per-hour", DAY: "per-day"}


class Verdict(threading.local):
    """What was decided for the request that this thread is at; the library itself hands on no more than a yes or no."""

    asked = False
    """Whether Flask-Limiter was asked anything."""
    decision: Decision | None = None

    def forget(self) -> None:
        """A new request."""
        self.asked, self.decision = False, None


verdict = Verdict()


class WindowStorage(Storage, MovingWindowSupport):
    """Sliding windows and nothing else: for the strategy `moving-window`."""

    STORAGE_SCHEME = [SCHEME]  # noqa: RUF012 the library declares it so

    def __init__(self, uri: str, *, windows: Callable[[], Windows]) -> None:
        """`windows` is asked for on every call, since each application has its own."""
        super().__init__(uri)
        self._windows = windows

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        return ()

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        if amount != 1:
            raise NotImplementedError("a request counts as one: a limit with another `cost` is not supported")
        verdict.decision = self._windows().take((_scope(key, limit, expiry),), slot="")
        return verdict.decision.admitted

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        verdict.decision = self._windows().look((_scope(key, limit, expiry),))
        quota_status = verdict.decision.quota_statuses[0]
        return time.time() + quota_status.reset_seconds - expiry, quota_status.used

    def check(self) -> bool:
        return True  # whether Redis is there is the windows' own affair

    def incr(self, key: str, expiry: int, amount: int = 1) -> NoReturn:
        raise NotImplementedError

    def get(self, key: str) -> NoReturn:
        raise NotImplementedError

    def get_expiry(self, key: str) -> NoReturn:
        raise NotImplementedError

    def reset(self) -> NoReturn:
        raise NotImplementedError

    def clear(self, key: str) -> NoReturn:
        raise NotImplementedError


def _scope(key: str, limit: int, seconds: int) -> RateLimitKey:
    return RateLimitKey(f"route:{key}", _plan(limit, seconds))


@lru_cache(maxsize=1024)
def _plan(limit: int, seconds: int) -> QuotaSet:
    return QuotaSet(Quota(_NAMES.get(seconds, f"per-{seconds}-seconds"), limit, seconds))
