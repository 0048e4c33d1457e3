"""State of visitors in Redis. Each step is one script. If Redis is unavailable, visitors are rejected."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError, RedisError

from kataven.redis_clients import redis_client
from kataven.widget.errors import StoreUnavailable

TIMEOUT_SECONDS = 0.5
"""Scripts take about a millisecond. A longer wait would block a request thread."""

_FOLDER = files(__package__) / "lua"
_COMMON = (_FOLDER / "common.lua").read_text("utf-8")

Clock = Callable[[], float]
"""Seconds since the epoch. Replaces the clock of Redis in tests. In production the clocks of hosts differ."""


class WidgetStore:
    """A connection to Redis that is opened on first use, so the object can be created before a fork."""

    def __init__(self, redis_url: str, *, namespace: str = "kataven", clock: Clock | None = None) -> None:
        # No retries: an interrupted script may have run, and running it twice would use a token twice.
        self._client = redis_client(redis_url, timeout_seconds=TIMEOUT_SECONDS, decode_responses=True)
        self._prefix = f"{namespace}:widget"
        self._clock = clock

    def key(self, kind: str, name: str) -> str:
        return f"{self._prefix}:{kind}:{name}"

    def now(self) -> str:
        """The time argument of scripts; '' selects the clock of Redis."""
        return "" if self._clock is None else str(round(self._clock() * 1000))

    def run(self, script: StoreScript, keys: Sequence[str], arguments: Sequence[str | int]) -> list[str | None]:
        """The return value of the script. Raises StoreUnavailable."""
        try:
            found: list[str | None] = script(self._client.execute_command, keys, arguments)
            return found
        except RedisError as error:
            raise StoreUnavailable from error

    def close(self) -> None:
        self._client.close()


class StoreScript:
    """A script in `lua/`, called by its digest. If Redis has not cached it, its source is sent."""

    def __init__(self, name: str) -> None:
        self._text = _COMMON + (_FOLDER / f"{name}.lua").read_text("utf-8")
        # Not for security: Redis identifies scripts by this digest.
        self._sha = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, execute: Callable[..., Any], keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        try:
            return execute("EVALSHA", self._sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return execute("EVAL", self._text, len(keys), *keys, *arguments)
