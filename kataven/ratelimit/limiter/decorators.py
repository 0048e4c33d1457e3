"""Flask-Limiter's decorators over our windows.

As shipped, Flask-Limiter runs its hooks on every request, at about 50 µs, also where it limits nothing: as much as the
whole decision of `Limiter.admit`. So its hooks are kept from the application, and called where they have work to do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from flask import Flask, Response, current_app
from flask_limiter import Limiter as FlaskLimiter
from flask_limiter import RateLimitExceeded

from kataven.ratelimit.address import bucket
from kataven.ratelimit.limiter.admission import Limiter
from kataven.ratelimit.limiter.exceeded import LimitExceeded
from kataven.ratelimit.limiter.storage import SCHEME, verdict
from kataven.ratelimit.windows import Windows

EXTENSION = "kataven-limits"


@dataclass(frozen=True, slots=True)
class _Installed:
    windows: Windows
    address: Callable[[], str]


def install(app: Flask, limiter: Limiter, address: Callable[[], str]) -> None:
    """Let decorated routes of `app` count in `limiter`'s windows, by the client address that `address` gives."""
    app.extensions[EXTENSION] = _Installed(limiter.windows, address)
    decorators.init_app(app)


class Decorators(FlaskLimiter):
    """Flask-Limiter: a refusal has our headers, an answer too, and a route without limits costs nothing.

    Each of a route's limits is a decision of its own, so of `10/minute;100/hour` a request that the second refuses has
    been counted by the first. Where that matters, decide with `Limiter`.
    """

    def __init__(self) -> None:
        super().__init__(
            lambda: bucket(_installed().address()),
            strategy="moving-window",
            storage_uri=f"{SCHEME}://",
            storage_options={"windows": lambda: _installed().windows},  # type: ignore[dict-item]
        )

    def init_app(self, app: Flask) -> None:
        hooks = _Hooks(app)
        super().init_app(hooks)  # type: ignore[arg-type]

        def before() -> None:
            verdict.forget()
            manager = self.limit_manager
            if manager._blueprint_limits or manager._default_limits or manager._application_limits:
                for hook in hooks.before:
                    hook()

        def after(response: Response) -> Response:
            if verdict.asked:
                for hook in hooks.after:
                    response = hook(response)
                for name, value in verdict.decision.headers() if verdict.decision else []:
                    response.headers.setdefault(name, value)
            return response

        app.before_request(before)
        app.after_request(after)

    def _check_request_limit(self, callable_name: str | None = None, in_middleware: bool = True) -> None:
        verdict.asked = True
        try:
            super()._check_request_limit(callable_name, in_middleware)
        except RateLimitExceeded as error:
            if verdict.decision is None:
                raise
            raise LimitExceeded(verdict.decision, error.limit, cast(Response | None, error.response)) from None


class _Hooks:
    """Stands in for an application while Flask-Limiter registers its hooks."""

    def __init__(self, app: Flask) -> None:
        self.config = app.config
        self.extensions = app.extensions
        self.before: list[Callable[[], Any]] = []
        self.after: list[Callable[[Response], Response]] = []
        self.before_request = self.before.append
        self.after_request = self.after.append

    def teardown_request(self, hook: Callable[..., Any]) -> None:
        """Not needed: what it would clear ends with the request."""


def _installed() -> _Installed:
    found: _Installed = current_app.extensions[EXTENSION]
    return found


decorators = Decorators()
