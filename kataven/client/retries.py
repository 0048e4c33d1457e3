"""Decides whether a failed request is retried, and after what delay."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from kataven.client.api_requests import ApiRequest
from kataven.client.errors import ApiError, ArgumentError, ConfigurationError, ConnectionFailed, KatavenError
from kataven.client.options import is_number

SAFE_METHODS = frozenset({"GET", "HEAD"})
FIRST_WAIT_SECONDS = 0.5

_RETRIED_STATUSES = frozenset({429, 502, 503, 504})
_IN_PROGRESS = "idempotency_in_progress"
"""The first attempt is in progress: a later one returns its response."""
_random = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class Retry:
    """Opt-in retries of requests that were temporarily refused (429, 502, 503, 504) or received no response.

    Requests that create are sent with an `Idempotency-Key`, so that a retry creates nothing twice. Raises ArgumentError
    if a field is invalid.
    """

    tries: int = 3
    """The number of attempts, including the first."""
    unsafe: bool = False
    """Retry updates and deletions too. They may then be applied twice: a lost response doesn't show whether it was
    applied."""
    max_wait_seconds: float = 60.0
    """If the delay would exceed this, the error is raised immediately."""

    def __post_init__(self) -> None:
        if not isinstance(self.tries, int) or isinstance(self.tries, bool) or self.tries < 1:
            raise ArgumentError("tries must be an integer of at least 1, including the first attempt")
        if not isinstance(self.unsafe, bool):
            raise ArgumentError("unsafe must be True or False")
        if not is_number(self.max_wait_seconds) or not self.max_wait_seconds >= 0:
            raise ArgumentError("max_wait_seconds must be a number of seconds, 0 or more")


NEVER = Retry(tries=1)


def policy(value: bool | Retry) -> Retry:
    """The policy for a client's `retry`: True selects the defaults of Retry, False disables retries.

    Raises ConfigurationError for any other type.
    """
    if isinstance(value, Retry):
        return value
    if not isinstance(value, bool):
        raise ConfigurationError("`retry` must be True, False or a Retry. For three attempts, write Retry(tries=3).")
    return Retry() if value else NEVER


def delay_before_retry(
    retry: Retry, request: ApiRequest[Any], failed_attempts: int, error: KatavenError
) -> float | None:
    """Seconds to wait before the next attempt; None to raise the error.

    The delay is the API's `Retry-After` plus up to a tenth of it, so that clients that were refused together do not
    retry together. Without a `Retry-After`, the delay starts at half a second and doubles with each attempt.
    """
    if failed_attempts >= retry.tries or not _is_retryable(retry, request) or not _is_temporary(error):
        return None
    retry_after = error.retry_after if isinstance(error, ApiError) else None
    delay = FIRST_WAIT_SECONDS * 2 ** (failed_attempts - 1) if retry_after is None else retry_after
    return None if delay > retry.max_wait_seconds else delay + _random.uniform(0, delay / 10)


def _is_retryable(retry: Retry, request: ApiRequest[Any]) -> bool:
    return retry.unsafe or request.method in SAFE_METHODS or request.idempotency_key is not None


def _is_temporary(error: KatavenError) -> bool:
    if isinstance(error, ApiError):
        return error.status in _RETRIED_STATUSES or error.code == _IN_PROGRESS
    return isinstance(error, ConnectionFailed)
