"""The primary that Redis Sentinel names.

A sentinel can be down, and it can be wrong: a sentinel that was paused or partitioned names the primary from before.
Therefore each new connection is checked with `ROLE`, and if the server is not a primary, the next sentinel is asked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from kataven.redis_clients.connections import ask
from kataven.redis_clients.servers import Failures, NoServer, Opened
from kataven.redis_url import RedisAddress, RedisDeployment


class Sentinels:
    """The sentinels of one service. No connection to a sentinel is kept."""

    def __init__(self, deployment: RedisDeployment) -> None:
        self.deployment = deployment
        self.primary: RedisAddress | None = None
        """The primary that the newest connection leads to."""
        self._order = list(deployment.nodes)
        self._lock = threading.Lock()

    def connect(
        self, slot: int, open_at: Callable[[RedisAddress], Opened], timeout_seconds: float, failures: Failures
    ) -> Opened:
        """What `open_at` returns for the first server that a sentinel names and that can be opened."""
        give_up_at = time.monotonic() + 2 * timeout_seconds
        named: set[tuple[str, int]] = set()
        problems: list[str] = []
        reached = False
        for sentinel in tuple(self._order):
            if time.monotonic() >= give_up_at:
                problems.append("timed out")
                break
            try:
                found = self._ask(sentinel, timeout_seconds)
            except RedisError as error:
                problems.append(f"{sentinel.host}:{sentinel.port} {_problem(error)}")
                self._ask_last(sentinel)
                continue
            reached = True
            if found is None:
                problems.append(f"{sentinel.host}:{sentinel.port} does not monitor the service")
            elif found not in named:
                named.add(found)
                try:
                    return self._open(found, open_at)
                except failures as error:
                    problems.append(f"{found[0]}:{found[1]}, named by {sentinel.host}:{sentinel.port}: {error}")
            self._ask_last(sentinel)
        raise NoServer(
            "sentinel: no primary known" if reached else "sentinel: no sentinel reachable", "; ".join(problems)
        )

    def suspect(self, error: BaseException | None = None) -> None:
        """Each connection asks a sentinel in any case."""

    def _open(self, found: tuple[str, int], open_at: Callable[[RedisAddress], Opened]) -> Opened:
        known = self.primary
        # The same object for the same server, so that pools can compare by identity.
        address = known if known is not None and (known.host, known.port) == found else self.deployment.at(*found)
        opened = open_at(address)
        self.primary = address
        return opened

    def _ask(self, sentinel: RedisAddress, timeout_seconds: float) -> tuple[str, int] | None:
        (reply,) = ask(sentinel, timeout_seconds, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.deployment.service))
        return None if reply is None else (str(reply[0]), int(reply[1]))

    def _ask_last(self, sentinel: RedisAddress) -> None:
        with self._lock:
            self._order.remove(sentinel)
            self._order.append(sentinel)


def _problem(error: RedisError) -> str:
    if isinstance(error, AuthenticationError) or error.status_code in {"NOAUTH", "WRONGPASS", "NOPERM"}:
        return "refused the credentials"
    if isinstance(error, RedisTimeout):
        return "did not reply in time"
    return "returned an error" if isinstance(error, ResponseError) else "can't be reached"
