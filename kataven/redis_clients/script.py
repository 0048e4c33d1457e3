"""A Lua script that Redis runs atomically. It is called by its digest, which is shorter than its source."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Protocol, Self

import hiredis
from redis.exceptions import NoScriptError


class Execute(Protocol):
    """Sends one Redis command and returns its reply, decoded. Raises redis.RedisError."""

    def __call__(self, *command: str | int | float) -> Any: ...


class RedisScript:
    """A script. If a server does not have it yet, its source is sent, and the server keeps it.

    Each server must receive the source once: after a restart, after a failover, and each node of a cluster. `EVAL` is
    used for that rather than `SCRIPT LOAD`, because it reaches the node that executes the script, also if the slot is
    being moved.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        # Not for security: Redis identifies a script by this digest.
        self.sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        self._by_digest = _head("EVALSHA", self.sha)
        self._by_source = _head("EVAL", source)

    @classmethod
    def read(cls, package: str, *names: str) -> Self:
        """The script in these files of a package, one after the other."""
        return cls("".join(files(package).joinpath(name).read_text("utf-8") for name in names))

    def __call__(self, execute: Execute, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        """Call it with a redis-py client or connection."""
        try:
            return execute("EVALSHA", self.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return execute("EVAL", self.source, len(keys), *keys, *arguments)

    def pack(self, keys: Sequence[str], arguments: Sequence[str | int]) -> bytes:
        """Encode a call by digest for the protocol."""
        return _pack("EVALSHA", self.sha, len(keys), *keys, *arguments)

    def with_source(self, packed: bytes) -> bytes:
        """The same call with the source, for a server that returned `NOSCRIPT`."""
        return packed.replace(self._by_digest, self._by_source, 1)


def is_unknown_script(message: str) -> bool:
    """Whether an error message says that the server does not have the script."""
    return message.startswith("NOSCRIPT")


def _head(command: str, text: str) -> bytes:
    return _pack(command, text).partition(b"\r\n")[2]  # without the number of arguments


def _pack(*command: str | int) -> bytes:
    return hiredis.pack_command(command)  # type: ignore[arg-type, no-any-return]  # its stub says: one argument
