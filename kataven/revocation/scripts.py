"""The Lua scripts of `lua/`. Redis runs each script atomically."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Protocol

from redis.exceptions import NoScriptError

_FOLDER = files(__package__) / "lua"
_WHOAMI = (_FOLDER / "whoami.lua").read_text("utf-8")


class Execute(Protocol):
    """Sends one Redis command and returns its reply, decoded. Raises redis.RedisError."""

    def __call__(self, *command: str | int | float) -> Any: ...


class RedisScript:
    """A script by name. It is called by its digest; if Redis does not have the script yet, the source is sent."""

    def __init__(self, name: str) -> None:
        self._source = _WHOAMI + (_FOLDER / f"{name}.lua").read_text("utf-8")
        # Not for security: Redis identifies a script by this digest.
        self.sha = hashlib.sha1(self._source.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, execute: Execute, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        try:
            return execute("EVALSHA", self.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return execute("EVAL", self._source, len(keys), *keys, *arguments)


RENEW = RedisScript("renew")
PUBLISH = RedisScript("publish")
ACKNOWLEDGE = RedisScript("acknowledge")
SWEEP = RedisScript("sweep")
