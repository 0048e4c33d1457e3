"""The Lua scripts of `lua/`. Redis runs each script atomically."""

from __future__ import annotations

import re

from kataven.redis_clients.script import RedisScript


def _read(name: str) -> RedisScript:
    return RedisScript.read(__package__, "lua/whoami.lua", f"lua/{name}.lua")


RENEW = _read("renew")
PUBLISH = _read("publish")
ACKNOWLEDGE = _read("acknowledge")
SWEEP = _read("sweep")

_CLUSTER = re.compile(r"(?m)^(?:redis|server)_mode:cluster\b")  # Valkey renamed the field
_MAJOR_VERSION = re.compile(r"(?m)^redis_version:(\d+)")


def publishes_to_shard(info: str) -> bool:
    """Whether `publish.lua` sends sharded messages on the server with this `INFO server`. The script does the same."""
    version = _MAJOR_VERSION.search(info)
    return _CLUSTER.search(info) is not None and version is not None and int(version[1]) >= 7
