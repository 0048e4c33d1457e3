"""The Lua scripts of `lua/`. Each runs in Redis as one step that nothing comes between."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Protocol

from redis.exceptions import NoScriptError

_FOLDER = files(__package__) / "lua"
_WHOAMI = (_FOLDER / "whoami.lua").read_text("utf-8")


class Execute(Protocol):
    """Sends one Redis command and returns its reply as text. Raises redis.RedisError."""

    def __call__(self, *command: str | int | float) -> Any: ...


class RedisScript:
    """A script by name. Redis keeps it by its digest; a Redis that has not seen it yet is sent the text."""

    def __init__(self, name: str) -> None:
        self._text = _WHOAMI + (_FOLDER / f"{name}.lua").read_text("utf-8")
        # Not for security: it is the name that Redis gives to a script.
        self.sha = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, execute: Execute, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        try:
            return execute("EVALSHA", self.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return execute("EVAL", self._text, len(keys), *keys, *arguments)


RENEW = RedisScript("renew")
PUBLISH = RedisScript("publish")
ACKNOWLEDGE = RedisScript("acknowledge")
SWEEP = RedisScript("sweep")
