"""What Redis remembers of visitors. Each step is one script, and a Redis that can't answer lets nobody in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError, RedisError

from kataven.redis_clients import redis_client
from kataven.widget.errors import StoreUnavailable

TIMEOUT_SECONDS = 0.5
"""Each script takes about a millisecond; what waits longer holds a thread that somebody else could use."""

_FOLDER = files(__package__) / "lua"
_COMMON = (_FOLDER / "common.lua").read_text("utf-8")

Clock = Callable[[], float]
"""Seconds since the epoch, in place of Redis's own clock; for tests, since no two hosts' clocks agree."""


class WidgetStore:
    """A connection to Redis, made on first use, so that it may be built before a fork."""

    def __init__(self, redis_url: str, *, namespace: str = "kataven", clock: Clock | None = None) -> None:
        # Not resent: a script that was cut off may have run, and twice would be a token used twice.
        self._client = redis_client(redis_url, timeout_seconds=TIMEOUT_SECONDS, decode_responses=True)
        self._prefix = f"{namespace}:widget"
        self._clock = clock

    def key(self, kind: str, name: str) -> str:
        return f"{self._prefix}:{kind}:{name}"

    def now(self) -> str:
        """For a script: '' is Redis's own clock."""
        return "" if self._clock is None else str(round(self._clock() * 1000))

    def run(self, script: StoreScript, keys: Sequence[str], arguments: Sequence[str | int]) -> list[str | None]:
        """What the script returns. Raises StoreUnavailable."""
        try:
            found: list[str | None] = script(self._client.execute_command, keys, arguments)
            return found
        except RedisError as error:
            raise StoreUnavailable from error

    def close(self) -> None:
        self._client.close()


class StoreScript:
    """A script of `lua/`, called by its digest; a Redis that has not seen it yet is sent the text."""

    def __init__(self, name: str) -> None:
        self._text = _COMMON + (_FOLDER / f"{name}.lua").read_text("utf-8")
        # Not for security: it is the name that Redis gives to a script.
        self._sha = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, execute: Callable[..., Any], keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        try:
            return execute("EVALSHA", self._sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return execute("EVAL", self._text, len(keys), *keys, *arguments)
