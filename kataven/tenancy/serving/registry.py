"""Sessions on the databases of many accounts, none of which can hurt another.

    with registry.reading(tenant) as session: ...   # AUTOCOMMIT: one round trip per statement, nothing may be written
    with registry.writing(tenant) as session: ...   # one transaction: committed at the end, rolled back on an error
    with registry.recording_usage(tenant) as session: ...    # AUTOCOMMIT, and may write: each statement is its own transaction

All raise TenantUnavailable if this account's database can't answer, SchemaMismatch if its schema is not one that this
code serves or lacks what a statement needs, NoTenant without a tenant, RegistryClosed after `close()`.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol
from weakref import WeakSet

import psycopg2
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from kataven.tenancy.directory import Tenant
from kataven.tenancy.error_classification import Fault, fault_of, in_words, may_be_about_schema
from kataven.tenancy.errors import BehindSchema, NoTenant, SchemaMismatch, TenantUnavailable
from kataven.tenancy.pg_connection import ConnectionSettings
from kataven.tenancy.serving.engines import Engines
from kataven.tenancy.serving.metrics import PoolMetrics
from kataven.tenancy.serving.pool import ConnectionBudget, NoConnection
from kataven.tenancy.serving.pool_limits import PoolLimits
from kataven.tenancy.serving.session import TenantSession
from kataven.tenancy.serving.slots import HostSlots

logger = logging.getLogger(__name__)

IsolationLevel = Literal["AUTOCOMMIT", "READ COMMITTED"]
AS_CONNECTED: IsolationLevel = "AUTOCOMMIT"
"""What connections come from the pool in. Asking for it again would cost three calls into libpq."""


class ServedSchema(Protocol):
    """What the registry wants to know of schemas: which revisions this code serves, and which one a database has."""

    @property
    def served(self) -> str:
        """The revisions that this code serves, in words."""

    @property
    def head(self) -> str:
        """The newest of them: the one at which every statement of this code works."""

    def serves(self, revision: str | None) -> bool:
        """Whether this code can work on a database at `revision`."""

    def revision_of(self, connection: Connection) -> str | None:
        """The revision that the database itself names; None if it has no schema yet."""


class EngineRegistry:
    """The databases of one process. Safe across threads, and across a fork: the child starts empty.

    `schema` turns on the check of revisions; `host_slots` caps connections over all processes of the host;
    `session_options` are SQLAlchemy's, for every session.
    """

    def __init__(
        self,
        limits: PoolLimits | None = None,
        connection_settings: ConnectionSettings | None = None,
        *,
        schema: ServedSchema | None = None,
        host_slots: HostSlots | None = None,
        session_factory: type[TenantSession] = TenantSession,
        session_options: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits or PoolLimits()
        self._settings = connection_settings or ConnectionSettings()
        self._schema = schema
        self._session_factory = session_factory
        self._session_options = dict(session_options or {})
        self._clock = clock
        self._stopping = threading.Event()
        self._sweeper: threading.Thread | None = None
        self._begin(host_slots)
        _registries.add(self)

    def reading(self, tenant: Tenant) -> AbstractContextManager[TenantSession]:
        """A session that only reads, without a transaction: no BEGIN and no ROLLBACK, two round trips saved."""
        return self._session(tenant, "AUTOCOMMIT", read_only=True)

    def writing(self, tenant: Tenant) -> AbstractContextManager[TenantSession]:
        """A session in one READ COMMITTED transaction, committed if the block ends well, else rolled back."""
        return self._session(tenant, "READ COMMITTED", read_only=False)

    def recording_usage(self, tenant: Tenant) -> AbstractContextManager[TenantSession]:
        """A session whose every statement is committed with it, so that no lock outlives it, whatever becomes of us."""
        return self._session(tenant, "AUTOCOMMIT", read_only=False)

    def forget(self, account: str) -> None:
        """Give up the account's engine, as when its database moves or goes; sessions in flight finish first."""
        self._engines.forget(account)

    def metrics(self) -> PoolMetrics:
        """What there is now, and what happened so far."""
        return self._engines.metrics()

    def sweep(self) -> None:
        """Cut what has been out for too long; close what is idle for too long, or at all while the host is short."""
        budget, now = self._budget, self._clock()
        is_short = budget.host_slots is not None and budget.host_slots.is_short()
        unused_since = now if is_short else now - self._limits.idle
        with budget.changed:
            budget.cut_overdue(now - self._limits.hold)
            budget.settle()
            idle = budget.idle_before(unused_since)
        budget.discard(idle)
        self._engines.forget_unused_since(unused_since)

    def start(self) -> None:
        """Sweep from a thread of its own until `stop()`. Call it after a fork, not before."""
        self._stopping.clear()
        self._sweeper = threading.Thread(target=self._sweep_until_stopped, name="tenancy-sweep", daemon=True)
        self._sweeper.start()

    def stop(self) -> None:
        """End the thread that `start()` began, if it did."""
        self._stopping.set()
        if self._sweeper is not None:
            self._sweeper.join()
            self._sweeper = None

    def close(self) -> None:
        """Refuse new sessions and give up every engine; sessions in flight finish, then their connections close."""
        self.stop()
        self._engines.close()

    def after_fork(self) -> None:
        """Start empty, leaving the parent's connections alone. Runs by itself in the child of an `os.fork()`."""
        host_slots = self._budget.host_slots
        self._stopping = threading.Event()
        self._sweeper = None
        self._begin(host_slots.renewed() if host_slots is not None else None)

    def _begin(self, host_slots: HostSlots | None) -> None:
        self._budget = ConnectionBudget(self._limits.connections, host_slots, self._clock)
        self._engines = Engines(self._limits, self._settings, self._budget)

    @contextlib.contextmanager
    def _session(self, tenant: Tenant, isolation_level: IsolationLevel, *, read_only: bool) -> Iterator[TenantSession]:
        if not isinstance(tenant, Tenant):
            raise NoTenant("a session belongs to a tenant")
        engines = self._engines  # ours until the end, even if a fork puts others in their place
        pinned = engines.pin(tenant)
        answered: bool | None = None
        try:
            with pinned.engine.connect() as connection:
                answered = True
                engines.reached(pinned)
                self._check_directory(tenant, connection)
                try:
                    if isolation_level != AS_CONNECTED:
                        connection.execution_options(isolation_level=isolation_level)
                    with self._opened(tenant, connection, read_only=read_only) as session:
                        yield session
                except DBAPIError as error:
                    self._check_after(error, tenant, connection)
                    raise
        except NoConnection as error:
            raise self._unavailable(tenant, Fault(str(error), is_down=False)) from error
        except DBAPIError as error:
            fault = fault_of(error)
            if fault is None:
                raise
            answered = not fault.is_down
            raise self._unavailable(tenant, fault) from error
        except psycopg2.Error as error:  # SQLAlchemy sets the isolation level outside of what it translates
            answered = False
            raise self._unavailable(tenant, Fault("the connection was lost", is_down=True)) from error
        finally:
            engines.unpin(pinned, answered)

    @contextlib.contextmanager
    def _opened(self, tenant: Tenant, connection: Connection, *, read_only: bool) -> Iterator[TenantSession]:
        session = self._session_factory(tenant.account, connection, read_only=read_only, **self._session_options)
        try:
            yield session
            if not read_only:
                session.commit()
        finally:
            session.close()

    def _check_directory(self, tenant: Tenant, connection: Connection) -> None:
        """If the directory names a revision that this code does not serve, ask the database, which knows better."""
        if self._schema is not None and tenant.revision is not None and not self._schema.serves(tenant.revision):
            self._check_schema(tenant, connection, self._schema)

    def _check_after(self, error: DBAPIError, tenant: Tenant, connection: Connection) -> None:
        """If that can be why the statement failed, see whether the database is at another revision than the head.

        A migration may have ended between the two. Then the directory, as it was read before the statement, still names
        the revision that the statement met.
        """
        if self._schema is None or not may_be_about_schema(error):
            return
        have = self._check_schema(tenant, connection, self._schema)
        met = next((one for one in (have, tenant.revision) if one not in (None, self._schema.head)), None)
        if met is not None:
            logger.warning("account %s at schema %s: %s", tenant.account, met, in_words(error))
            raise BehindSchema(tenant.account, met, self._schema.head) from error

    @staticmethod
    def _check_schema(tenant: Tenant, connection: Connection, schema: ServedSchema) -> str | None:
        with connection.begin():
            have = schema.revision_of(connection)
        if not schema.serves(have):
            raise SchemaMismatch(tenant.account, have, schema.served)
        return have

    def _unavailable(self, tenant: Tenant, fault: Fault) -> TenantUnavailable:
        # A database that is down says so a few times, then its breaker opens; one that is busy would not stop.
        level = logging.WARNING if fault.is_down else logging.INFO
        logger.log(level, "database of account %s unavailable: %s", tenant.account, fault.reason)
        return TenantUnavailable(tenant.account, fault.reason, self._limits.breaker_pause)

    def _sweep_until_stopped(self) -> None:
        while not self._stopping.wait(self._limits.sweep):
            try:
                self.sweep()
            except Exception:
                logger.exception("sweeping failed; it goes on")


_registries: WeakSet[EngineRegistry] = WeakSet()


def _renew_registries() -> None:
    for registry in list(_registries):
        registry.after_fork()


os.register_at_fork(after_in_child=_renew_registries)
