"""Sessions on the system database, which is served like an account's database: one registry, one engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from sqlalchemy import URL, make_url
from sqlalchemy.orm import Session

from kataven.system.errors import SystemDatabaseUnavailable
from kataven.tenancy.directory import DRIVER, Tenant
from kataven.tenancy.errors import TenantUnavailable
from kataven.tenancy.names import SYSTEM_DATABASE
from kataven.tenancy.pg_connection import ConnectionSettings
from kataven.tenancy.pooler_check import NEEDS_DIRECT_URL, require_no_pooler, require_usable
from kataven.tenancy.serving.histories import ServerHistories
from kataven.tenancy.serving.pool_limits import PoolLimits
from kataven.tenancy.serving.registry import EngineRegistry
from kataven.tenancy.serving.rows import RowQuery, Rows

STATEMENT_TIMEOUT_SECONDS = 3.0
WAIT_SECONDS = 1.0
"""The longest wait for a connection."""
SESSION_SECONDS = WAIT_SECONDS + STATEMENT_TIMEOUT_SECONDS
"""The longest that a session may take, with its wait. An unresponsive server can't enforce its own timeout."""
BREAKER_FAILURES = 3

_CONNECTION = ConnectionSettings(
    application_name="kataven system",
    statement_timeout_seconds=STATEMENT_TIMEOUT_SECONDS,
    lock_timeout_seconds=STATEMENT_TIMEOUT_SECONDS,
    idle_in_transaction_timeout_seconds=SESSION_SECONDS,
)


def pooler_problem(error: BaseException) -> str | None:
    """Why the system database can't be used, if the reason is a connection pooler; otherwise None."""
    cause = error.__cause__
    return cause.reason if isinstance(cause, TenantUnavailable) and cause.reason == NEEDS_DIRECT_URL else None


def _pool_limits(pool_size: int) -> PoolLimits:
    return PoolLimits(
        engines=1,
        # Twice the pool: a connection that was closed counts until the server has closed it too, and a proxy in front
        # of a dead server may keep it open. Such connections must not use up the pool.
        connections=pool_size * 2,
        connections_per_account=pool_size,
        wait=WAIT_SECONDS,
        hold=SESSION_SECONDS,
        idle=math.inf,
        sweep=SESSION_SECONDS / 10,
        breaker_failures=BREAKER_FAILURES,
        breaker_pause=0.25,
        breaker_longest_pause=2.0,
    )


class SystemDatabase:
    """Sessions on the system database. Connects on first use; a forked child opens its own connections.

    If `url` leads to a connection pooler, `direct_url` leads past it; otherwise it is None.

    After several connection failures in a row, a circuit breaker rejects sessions for a short time, so that requests
    that need the system database don't occupy the threads of requests that don't.
    """

    def __init__(
        self,
        url: str,
        pool_size: int = 2,
        *,
        direct_url: str | None = None,
        histories: ServerHistories | None = None,
    ) -> None:
        self.url: URL = make_url(url)
        self._direct_url = None if direct_url is None else make_url(direct_url)
        self._tenant = Tenant(
            SYSTEM_DATABASE,
            self.url.set(drivername=DRIVER),
            direct_url=None if self._direct_url is None else self._direct_url.set(drivername=DRIVER),
        )
        self._registry = EngineRegistry(
            _pool_limits(pool_size), _CONNECTION, histories=histories, session_options={"expire_on_commit": False}
        )

    @property
    def pooled(self) -> bool:
        """Whether sessions go through a connection pooler."""
        return self._direct_url is not None

    @property
    def direct_url(self) -> URL:
        """The URL of the database past any pooler: for locks, DDL and copies, which a pooler would break."""
        return self._direct_url or self.url

    def check_pooler(self) -> None:
        """Check how the URLs lead to the server. Raises PoolerUnsuitable, or DBAPIError if it can't be reached."""
        if self._direct_url is not None:
            require_usable(self.url, self._direct_url, _CONNECTION)
        else:
            require_no_pooler(self.url, _CONNECTION)

    def reading(self) -> AbstractContextManager[Session]:
        """A read-only session in AUTOCOMMIT. Raises SystemDatabaseUnavailable, and ReadOnlySession for a write."""
        return self._session(self._registry.reading)

    def autocommit(self) -> AbstractContextManager[Session]:
        """A session in AUTOCOMMIT: each statement commits itself. Raises SystemDatabaseUnavailable."""
        return self._session(self._registry.autocommit)

    def writing(self) -> AbstractContextManager[Session]:
        """A session in one transaction. Raises SystemDatabaseUnavailable."""
        return self._session(self._registry.writing)

    def rows(self, query: RowQuery, values: Mapping[str, Any]) -> Rows:
        """The rows of `query`, without a session. Raises SystemDatabaseUnavailable, and DBAPIError as in a session."""
        self._registry.start()
        try:
            return self._registry.rows(self._tenant, query, values)
        except TenantUnavailable as error:
            raise SystemDatabaseUnavailable from error

    def close(self) -> None:
        """Close idle connections, and those in use when their sessions end. The next session connects again."""
        self._registry.stop()
        self._registry.forget(SYSTEM_DATABASE)

    @contextmanager
    def _session(self, opened: Callable[[Tenant], AbstractContextManager[Session]]) -> Iterator[Session]:
        self._registry.start()
        try:
            with opened(self._tenant) as session:
                yield session
        except TenantUnavailable as error:
            if error.account != SYSTEM_DATABASE:  # raised in the block, by a session on an account's database
                raise
            raise SystemDatabaseUnavailable from error
