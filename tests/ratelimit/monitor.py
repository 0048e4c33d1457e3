"""What Redis is asked, as `MONITOR` sees it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import redis


@contextmanager
def commands_during(url: str) -> Iterator[list[str]]:
    """The names of the commands that clients send in the block, filled in at its end; not what scripts do inside."""
    commands: list[str] = []
    last = uuid.uuid4().hex
    with redis.Redis.from_url(url) as client, redis.Redis.from_url(url) as watching, watching.monitor() as monitor:
        client.ping()  # connected before the block, so that its greeting is no part of it
        yield commands
        client.echo(last)
        for seen in monitor.listen():
            name, _, arguments = seen["command"].partition(" ")
            if last in arguments:
                return
            if seen["client_type"] != "lua" and name not in {"PING", "HELLO", "CLIENT"}:
                commands.append(name.upper())
