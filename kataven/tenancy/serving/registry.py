"""Sessions on the databases of many accounts. A fault in one database doesn't affect the other accounts.

    with registry.reading(tenant) as session: ...   # AUTOCOMMIT, read-only: one round trip per statement
    with registry.writing(tenant) as session: ...   # one transaction: committed at the end, rolled back on an error
    with registry.autocommit(tenant) as session: ...  # AUTOCOMMIT, may write: each statement commits itself
    rows = registry.rows(tenant, query, values)       # the rows of a compiled SELECT, without a session

All raise TenantUnavailable if the account's database is unavailable, SchemaMismatch if this code does not serve its
schema or a statement needs a newer one, NoTenant without a tenant, RegistryClosed after `close()`.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from weakref import WeakSet

import psycopg2
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from kataven.background import BackgroundLoop
from kataven.tenancy.directory import Tenant
from kataven.tenancy.error_classification import Fault, fault_of, in_words, is_demoted, may_be_about_schema
from kataven.tenancy.errors import BehindSchema, NoTenant, SchemaMismatch, TenantUnavailable
from kataven.tenancy.pg_connection import ConnectionSettings
from kataven.tenancy.serving.engines import Engines, PinnedEngine
from kataven.tenancy.serving.histories import ServerHistories
from kataven.tenancy.serving.metrics import PoolMetrics
from kataven.tenancy.serving.pool import ConnectionBudget, NoConnection
from kataven.tenancy.serving.pool_limits import PoolLimits
from kataven.tenancy.serving.rows import RowQuery, Rows, connect
from kataven.tenancy.serving.session import TenantSession
from kataven.tenancy.serving.slots import HostSlots

logger = logging.getLogger(__name__)

IsolationLevel = Literal["AUTOCOMMIT", "READ COMMITTED"]
AS_CONNECTED: IsolationLevel = "AUTOCOMMIT"
"""The isolation level of pooled connections. Setting it again would cost three calls into libpq."""


class ServedSchema(Protocol):
    """What the registry needs of a schema: the revisions that this code serves, and the revision of a database."""

    @property
    def served(self) -> str:
        """The revisions that this code serves, as text for a message."""

    @property
    def head(self) -> str:
        """The newest revision, at which every statement of this code works."""

    def serves(self, revision: str | None) -> bool:
        """Whether this code can work on a database at `revision`."""

    def revision_of(self, connection: Connection) -> str | None:
        """The revision recorded in the database; None if it has no schema yet."""


class EngineRegistry:
    """The engines and connections of one process. Thread-safe and fork-safe: a forked child starts empty.

    `schema` enables the check of revisions; `histories` that of the servers' timelines; `host_slots` caps the
    connections of all processes of the host; `session_options` are SQLAlchemy's options for every session.
    """

    def __init__(
        self,
        limits: PoolLimits | None = None,
        connection_settings: ConnectionSettings | None = None,
        *,
        schema: ServedSchema | None = None,
        host_slots: HostSlots | None = None,
        histories: ServerHistories | None = None,
        session_factory: type[TenantSession] = TenantSession,
        session_options: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits or PoolLimits()
        self._settings = connection_settings or ConnectionSettings()
        self._schema = schema
        self._histories = histories
        self._session_factory = session_factory
        self._session_options = dict(session_options or {})
        self._clock = clock
        self._reset(host_slots)
        _registries.add(self)

    def reading(self, tenant: Tenant) -> AbstractContextManager[TenantSession]:
        """A read-only session without a transaction: no BEGIN and no ROLLBACK, which saves two round trips."""
        return self._session(tenant, "AUTOCOMMIT", read_only=True)

    def writing(self, tenant: Tenant) -> AbstractContextManager[TenantSession]:
        """A session in one READ COMMITTED transaction, committed at the end of the block, rolled back on an error."""
        return self._session(tenant, "READ COMMITTED", read_only=False)

    def autocommit(self, tenant: Tenant) -> AbstractContextManager[TenantSession]:
        """A session whose statements commit themselves, so that a paused or killed process holds no lock."""
        return self._session(tenant, "AUTOCOMMIT", read_only=False)

    def rows(self, tenant: Tenant, query: RowQuery, values: Mapping[str, Any]) -> Rows:
        """The rows of `query`, in one round trip. For lists: see `RowQuery`."""
        with self._visit(tenant) as visit:
            engine = visit.pinned.engine
            if not self._is_served(tenant):
                with engine.connect() as connection:
                    self._check_directory(tenant, connection)
            raw = connect(engine)
            visit.reached()
            try:
                return query.read(raw, engine.dialect, values)
            except DBAPIError as error:
                self._after(error, visit)
                if may_be_about_schema(error):
                    with engine.connect() as connection:
                        self._check_after(error, tenant, connection)
                raise

    def forget(self, account: str) -> None:
        """Retire the account's engine, for example when its database moves. Sessions in progress finish first."""
        self._engines.forget(account)

    def metrics(self) -> PoolMetrics:
        """Current gauges and counters since the registry was created."""
        return self._engines.metrics()

    def sweep(self) -> None:
        """Cut connections held for too long. Close those idle for too long, or all idle ones if slots are needed."""
        budget, now = self._budget, self._clock()
        slots_needed = budget.host_slots is not None and budget.host_slots.has_waiters()
        unused_since = now if slots_needed else now - self._limits.idle
        with budget.changed:
            budget.cut_overdue(now - self._limits.hold)
            budget.release_slots()
            idle = budget.idle_before(unused_since)
        budget.discard(idle)
        self._engines.forget_unused_since(unused_since)

    def start(self) -> None:
        """Sweep from a background thread until `stop()`. Starting twice does nothing. Call it after a fork."""
        self._sweeper.start()

    def stop(self) -> None:
        """End the background thread of `start()`, if it runs."""
        self._sweeper.stop()

    def close(self) -> None:
        """Reject new sessions and retire every engine. Sessions in progress finish, then their connections close."""
        self.stop()
        self._engines.close()

    def after_fork(self) -> None:
        """Start empty and leave the parent's connections open. Runs automatically in the child of an `os.fork()`."""
        host_slots = self._budget.host_slots
        self._reset(host_slots.after_fork() if host_slots is not None else None)

    def _reset(self, host_slots: HostSlots | None) -> None:
        self._budget = ConnectionBudget(self._limits.connections, host_slots, self._clock)
        self._engines = Engines(self._limits, self._settings, self._budget, self._histories)
        # Also new: another thread may have held the locks of the previous one at the fork.
        self._sweeper = BackgroundLoop("tenancy-sweep", self.sweep, lambda: self._limits.sweep, run_at_start=False)

    @contextlib.contextmanager
    def _session(self, tenant: Tenant, isolation_level: IsolationLevel, *, read_only: bool) -> Iterator[TenantSession]:
        with self._visit(tenant) as visit, visit.pinned.engine.connect() as connection:
            visit.reached()
            self._check_directory(tenant, connection)
            try:
                if isolation_level != AS_CONNECTED:
                    connection.execution_options(isolation_level=isolation_level)
                with self._opened(tenant, connection, read_only=read_only) as session:
                    yield session
            except DBAPIError as error:
                self._after(error, visit)
                self._check_after(error, tenant, connection)
                raise

    @contextlib.contextmanager
    def _visit(self, tenant: Tenant) -> Iterator["_Visit"]:
        """Pins the tenant's engine, and tells its breaker whether the database responded."""
        if not isinstance(tenant, Tenant):
            raise NoTenant("a session needs a tenant")
        engines = self._engines  # the same until the end, even if a fork replaces them
        visit = _Visit(engines, tenant, engines.pin(tenant))
        try:
            yield visit
        except NoConnection as error:
            raise self._unavailable(tenant, Fault(str(error), is_down=False)) from error
        except DBAPIError as error:
            fault = fault_of(error)
            if fault is None:
                raise
            visit.responded = not fault.is_down
            raise self._unavailable(tenant, fault) from error
        except psycopg2.Error as error:  # SQLAlchemy does not translate errors from setting the isolation level
            visit.responded = False
            raise self._unavailable(tenant, Fault("the connection was lost", is_down=True)) from error
        finally:
            engines.unpin(visit.pinned, visit.responded)

    @staticmethod
    def _after(error: DBAPIError, visit: "_Visit") -> None:
        if is_demoted(error):
            visit.engines.forget_server(visit.tenant)  # this connection closes when it is returned

    @contextlib.contextmanager
    def _opened(self, tenant: Tenant, connection: Connection, *, read_only: bool) -> Iterator[TenantSession]:
        session = self._session_factory(tenant.account, connection, read_only=read_only, **self._session_options)
        try:
            yield session
            if not read_only:
                session.commit()
        finally:
            session.close()

    def _is_served(self, tenant: Tenant) -> bool:
        """Whether this code serves the revision that the directory has for the account, as far as that is known."""
        return self._schema is None or tenant.revision is None or self._schema.serves(tenant.revision)

    def _check_directory(self, tenant: Tenant, connection: Connection) -> None:
        """If the directory has a revision that this code does not serve, check the database, which is authoritative."""
        if self._schema is not None and not self._is_served(tenant):
            self._check_schema(tenant, connection, self._schema)

    def _check_after(self, error: DBAPIError, tenant: Tenant, connection: Connection) -> None:
        """If the schema may have caused the error, check whether the database was at an older revision than the head.

        A migration may have finished between the statement and this check. In that case the directory entry, which was
        read before the statement, still has the revision that the statement ran at.
        """
        if self._schema is None or not may_be_about_schema(error):
            return
        have = self._check_schema(tenant, connection, self._schema)
        found = next((one for one in (have, tenant.revision) if one not in (None, self._schema.head)), None)
        if found is not None:
            logger.warning("account %s at schema %s: %s", tenant.account, found, in_words(error))
            raise BehindSchema(tenant.account, found, self._schema.head) from error

    @staticmethod
    def _check_schema(tenant: Tenant, connection: Connection, schema: ServedSchema) -> str | None:
        with connection.begin():
            have = schema.revision_of(connection)
        if not schema.serves(have):
            raise SchemaMismatch(tenant.account, have, schema.served)
        return have

    def _unavailable(self, tenant: Tenant, fault: Fault) -> TenantUnavailable:
        # Once a database is down, its breaker opens after a few warnings. A busy database would log without end.
        level = logging.WARNING if fault.is_down else logging.INFO
        logger.log(level, "database %s unavailable: %s", tenant.account, fault.reason)
        return TenantUnavailable(tenant.account, fault.reason, self._limits.breaker_pause)


@dataclass(slots=True)
class _Visit:
    """One use of an account's engine, from `pin` to `unpin`. `responded` is None if the database was not contacted."""

    engines: Engines
    tenant: Tenant
    pinned: PinnedEngine
    responded: bool | None = None

    def reached(self) -> None:
        """A connection succeeded: closes the breaker now, without waiting for the end of this use."""
        self.responded = True
        self.engines.reached(self.pinned)


_registries: WeakSet[EngineRegistry] = WeakSet()


def _reset_registries() -> None:
    for registry in list(_registries):
        registry.after_fork()


os.register_at_fork(after_in_child=_reset_registries)
