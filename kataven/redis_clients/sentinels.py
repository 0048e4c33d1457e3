"""The primary that Redis Sentinel names.

A sentinel can be down, and it can be wrong: a sentinel that was paused or partitioned names the primary from before.
Therefore each new connection is checked with `ROLE`, and a sentinel that knows a lower configuration epoch than another
one did is asked only if no other sentinel leads to a primary.

After a planned failover, the old primary accepts commands for about ten seconds, until the sentinels demote it. Writes
to it are lost. `check` finds the new primary in that time, and connections to the old one are then not used again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from kataven.redis_clients.connections import ask
from kataven.redis_clients.servers import Failures, NoServer, Opened
from kataven.redis_url import RedisAddress, RedisDeployment

CHECK_SECONDS: Final = 1.0
"""Between two checks, by all clients of a process together."""


@dataclass(frozen=True, slots=True)
class _Named:
    """What a sentinel replied."""

    host: str
    port: int
    epoch: int
    """Each failover increases it."""


class Sentinels:
    """The sentinels of one service. No connection to a sentinel is kept."""

    def __init__(self, deployment: RedisDeployment) -> None:
        self.deployment = deployment
        self.primary: RedisAddress | None = None
        """The latest known primary. One object per server, so that pools can compare by identity."""
        self._addresses: dict[tuple[str, int], RedisAddress] = {}
        self._epoch = -1
        self._order = list(deployment.nodes)
        self._checked_at = -CHECK_SECONDS
        self._lock = threading.Lock()

    def connect(
        self, slot: int, open_at: Callable[[RedisAddress], Opened], timeout_seconds: float, failures: Failures
    ) -> Opened:
        """What `open_at` returns for the first server that a sentinel names and that can be opened."""
        give_up_at = time.monotonic() + 2 * timeout_seconds
        problems: list[str] = []
        outdated: list[_Named] = []
        tried: set[tuple[str, int]] = set()
        reached = False

        def opened(named: _Named) -> Opened | None:
            if (named.host, named.port) in tried:
                return None
            tried.add((named.host, named.port))
            try:
                return self._open(named, open_at)
            except failures as error:
                problems.append(f"{named.host}:{named.port}: {error}")
                return None

        for sentinel in tuple(self._order):
            if time.monotonic() >= give_up_at:
                problems.append("timed out")
                break
            try:
                named = self._ask(sentinel, timeout_seconds)
            except RedisError as error:
                problems.append(f"sentinel {sentinel.host}:{sentinel.port} {_problem(error)}")
                self._ask_last(sentinel)
                continue
            reached = True
            if named.epoch < self._epoch:
                outdated.append(named)
            elif (found := opened(named)) is not None:
                return found
            self._ask_last(sentinel)
        for named in outdated:  # the sentinels were replaced, if no other one leads to a primary
            if (found := opened(named)) is not None:
                return found
        raise NoServer(
            "sentinel: no primary known" if reached else "sentinel: no sentinel reachable", "; ".join(problems)
        )

    def check(self, timeout_seconds: float) -> None:
        """Ask one sentinel whether another server is the primary, at most once per `CHECK_SECONDS`. Does not raise."""
        now = time.monotonic()
        if self.primary is None or now - self._checked_at < CHECK_SECONDS:
            return
        self._checked_at = now
        sentinel = self._order[0]
        try:
            named = self._ask(sentinel, timeout_seconds)
        except RedisError:
            self._ask_last(sentinel)
            return
        if named.epoch > self._epoch:
            self._record(named)

    def suspect(self, error: BaseException | None = None) -> None:
        """Each connection asks a sentinel in any case."""

    def _open(self, named: _Named, open_at: Callable[[RedisAddress], Opened]) -> Opened:
        opened = open_at(self._address_of(named))
        self._record(named)
        return opened

    def _record(self, named: _Named) -> None:
        self.primary, self._epoch = self._address_of(named), named.epoch

    def _address_of(self, named: _Named) -> RedisAddress:
        server = named.host, named.port
        return self._addresses.setdefault(server, self.deployment.at(*server))

    def _ask(self, sentinel: RedisAddress, timeout_seconds: float) -> _Named:
        service = self.deployment.service
        # While a failover is in progress, only the first command returns the promoted replica.
        address, state = ask(
            sentinel,
            timeout_seconds,
            ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service),
            ("SENTINEL", "MASTER", service),
        )
        if address is None:
            raise ResponseError("No such master with that name")
        try:
            fields = dict(zip(state[::2], state[1::2], strict=True))
            return _Named(str(address[0]), int(address[1]), int(fields["config-epoch"]))
        except (LookupError, ValueError, TypeError):
            raise ResponseError("the reply is not a sentinel's") from None

    def _ask_last(self, sentinel: RedisAddress) -> None:
        with self._lock:
            self._order.remove(sentinel)
            self._order.append(sentinel)


def _problem(error: RedisError) -> str:
    if isinstance(error, AuthenticationError) or error.status_code in {"NOAUTH", "WRONGPASS", "NOPERM"}:
        return "refused the credentials"
    if isinstance(error, RedisTimeout):
        return "did not reply in time"
    if isinstance(error, ResponseError):
        monitors = "No such master" not in str(error)
        return "returned an error" if monitors else "does not monitor the service"
    return "can't be reached"
