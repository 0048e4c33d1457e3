"""When another try makes sense, and after how long."""

from __future__ import annotations

import random
from dataclasses import dataclass

from kataven.client.errors import ApiError, ArgumentError, ConfigurationError, ConnectionFailed, KatavenError
from kataven.client.options import is_number

SAFE_METHODS = frozenset({"GET", "HEAD"})
FIRST_WAIT_SECONDS = 0.5

_RETRIED_STATUSES = frozenset({429, 502, 503, 504})
_random = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class Retry:
    """Opt-in retries of requests that were refused for now (429, 502, 503, 504) or got no answer."""

    tries: int = 3
    """In all, the first included."""
    unsafe: bool = False
    """Writes too, which may then happen twice: a lost answer does not say whether the write was lost."""
    max_wait_seconds: float = 60.0
    """A longer `Retry-After` is not waited for: its error is raised at once."""

    def __post_init__(self) -> None:
        if not isinstance(self.tries, int) or isinstance(self.tries, bool) or self.tries < 1:
            raise ArgumentError("tries must be a whole number of at least 1, the first try included")
        if not isinstance(self.unsafe, bool):
            raise ArgumentError("unsafe must be True or False")
        if not is_number(self.max_wait_seconds) or not self.max_wait_seconds >= 0:
            raise ArgumentError("max_wait_seconds must be a number of seconds, 0 or more")


NEVER = Retry(tries=1)


def policy(given: bool | Retry) -> Retry:
    """`retry=True` is Retry() with its defaults, `retry=False` is none at all. Raises ConfigurationError."""
    if isinstance(given, Retry):
        return given
    if not isinstance(given, bool):
        raise ConfigurationError("`retry` must be True, False or a Retry: for three tries, write Retry(tries=3).")
    return Retry() if given else NEVER


def wait_before_next(retry: Retry, method: str, failed_tries: int, error: KatavenError) -> float | None:
    """Seconds to wait before the next try; None to give up.

    The API's `Retry-After` is honoured, and up to a tenth of it is added, so that clients that were refused together
    do not come back together. Without one the wait doubles from half a second.
    """
    if failed_tries >= retry.tries or not (retry.unsafe or method in SAFE_METHODS) or not _is_passing(error):
        return None
    asked = error.retry_after if isinstance(error, ApiError) else None
    wait = FIRST_WAIT_SECONDS * 2 ** (failed_tries - 1) if asked is None else asked
    return None if wait > retry.max_wait_seconds else wait + _random.uniform(0, wait / 10)


def _is_passing(error: KatavenError) -> bool:
    if isinstance(error, ApiError):
        return error.status in _RETRIED_STATUSES
    return isinstance(error, ConnectionFailed)
