"""Finds the server that a command must be sent to: one server, the primary behind Sentinel, or the node of a slot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import redis

from kataven.redis_url import RedisAddress, RedisDeployment, Topology

Opened = TypeVar("Opened")
Failures = tuple[type[Exception], ...]


class NoServer(redis.ConnectionError):
    """No server can be used now. `problem` is our description, such as `sentinel: no primary known`."""

    def __init__(self, problem: str, details: str = "") -> None:
        super().__init__(f"{problem} ({details})" if details else problem)
        self.problem = problem


class NotPrimary(redis.ConnectionError):
    """The server that a sentinel named is not a primary."""


class RedisServers(Protocol):
    """The servers of one deployment. Thread-safe. The constructor opens no connection, so it can run before a fork."""

    @property
    def deployment(self) -> RedisDeployment:
        """What the URL names."""

    def connect(
        self, slot: int, open_at: Callable[[RedisAddress], Opened], timeout_seconds: float, failures: Failures
    ) -> Opened:
        """What `open_at` returns for the server of a slot. If it raises one of `failures`, another server is looked up.

        `open_at` must raise one of `failures` for a server that is not a primary: see `must_verify_role`. Raises
        NoServer if no server is known, or the last failure. Takes about twice `timeout_seconds` at most.
        """

    @property
    def primary(self) -> RedisAddress | None:
        """With Sentinel, the latest known primary: connections to another server must not be used. Otherwise None."""

    def check(self, timeout_seconds: float) -> None:
        """Look for a new primary while connections still work, at most once per second. Does not raise."""

    def suspect(self, error: BaseException | None = None) -> None:
        """A command failed with `error`, so the servers may have changed. A later call looks them up again."""


class OneServer:
    """The one server of a `redis://`, `rediss://` or `unix://` URL."""

    primary = None

    def __init__(self, deployment: RedisDeployment) -> None:
        self.deployment = deployment

    def connect(
        self, slot: int, open_at: Callable[[RedisAddress], Opened], timeout_seconds: float, failures: Failures
    ) -> Opened:
        return open_at(self.deployment.server)

    def check(self, timeout_seconds: float) -> None:
        """The address does not change."""

    def suspect(self, error: BaseException | None = None) -> None:
        """The address does not change."""


def must_verify_role(servers: RedisServers) -> bool:
    """Whether a new connection must be checked with `ROLE`: a sentinel may name a server that was demoted."""
    return servers.deployment.topology is Topology.SENTINEL
