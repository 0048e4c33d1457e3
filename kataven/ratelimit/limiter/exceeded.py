"""Flask-Limiter's exception for 429, with the headers of the decision that raised it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from flask_limiter import Limit, RateLimitExceeded

from kataven.ratelimit.decision import Decision

if TYPE_CHECKING:
    from flask_limiter._limits import RuntimeLimit


class LimitExceeded(RateLimitExceeded):
    """A request is over a limit. Without a handler, werkzeug renders it as a complete 429 response."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(_flask_limit(decision.detail))
        self.decision = decision
        self.detail = decision.detail
        """The exceeded limit, as the response names it: `per-minute (60) exceeded`."""

    def headers(self) -> list[tuple[str, str]]:
        """`RateLimit-Policy`, `RateLimit` and `Retry-After`."""
        return self.decision.headers()

    def get_headers(self, *args: Any, **kwargs: Any) -> list[tuple[str, str]]:
        """Called by werkzeug if the application has no handler for this exception."""
        return [*super().get_headers(*args, **kwargs), *self.headers()]


@lru_cache(maxsize=1024)
def _flask_limit(detail: str) -> RuntimeLimit:
    # Flask-Limiter's exception requires one of its own limits. Only the error message of this one is ever read.
    return next(iter(Limit("1/second", key_function=str, error_message=detail)))
