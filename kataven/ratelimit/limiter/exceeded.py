"""The one exception that means 429."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from flask import Response
from flask_limiter import Limit, RateLimitExceeded

from kataven.ratelimit.decision import Decision

if TYPE_CHECKING:
    from flask_limiter._limits import RuntimeLimit


class LimitExceeded(RateLimitExceeded):
    """A limit is used up. As an answer of its own it has all the headers that belong to it."""

    def __init__(self, decision: Decision, limit: RuntimeLimit | None = None, response: Response | None = None) -> None:
        """`limit` and `response` are Flask-Limiter's own, for what it limits itself."""
        super().__init__(limit or _flask_limit(decision.detail), response)
        self.decision = decision
        self.detail = str(self.description) if self.limit.error_message else decision.detail
        """Which limit, as the answer says it: `per-minute (60) exceeded`."""
        self.description = self.detail

    def headers(self) -> list[tuple[str, str]]:
        """`RateLimit-Policy`, `RateLimit` and `Retry-After`."""
        return self.decision.headers()

    def get_headers(self, *args: Any, **kwargs: Any) -> list[tuple[str, str]]:
        """As werkzeug asks for them where nobody handles this exception."""
        return [*super().get_headers(*args, **kwargs), *self.headers()]


@lru_cache(maxsize=1024)
def _flask_limit(detail: str) -> RuntimeLimit:
    # Flask-Limiter's exception wants a limit of Flask-Limiter's; its message is all that anybody sees of it.
    return next(iter(Limit("1/second", key_function=str, error_message=detail)))
