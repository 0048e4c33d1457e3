"""The commands that Redis receives, read with `MONITOR`."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import redis


@contextmanager
def commands_during(url: str) -> Iterator[list[str]]:
    """The names of the commands that clients send in the block, without those of scripts. Filled at the end of it."""
    commands: list[str] = []
    last = uuid.uuid4().hex
    with redis.Redis.from_url(url) as client, redis.Redis.from_url(url) as watching, watching.monitor() as monitor:
        client.ping()  # connects before the block, so its handshake is not recorded
        yield commands
        client.echo(last)
        for seen in monitor.listen():
            name, _, arguments = seen["command"].partition(" ")
            if last in arguments:
                return
            if seen["client_type"] != "lua" and name not in {"PING", "HELLO", "CLIENT"}:
                commands.append(name.upper())
