"""The engines of one process: one per account, built on first use. The least recently used engine is evicted first.

An engine in use is pinned and never evicted. The connection budget's lock guards all state here. Engines are built and
connections are closed without holding the lock.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg2
from sqlalchemy import Engine

from kataven.tenancy.dialect import EngineFactory, server_key
from kataven.tenancy.direct_connection import DirectConnection
from kataven.tenancy.directory import Tenant
from kataven.tenancy.errors import RegistryClosed, TenantUnavailable
from kataven.tenancy.pg_connection import ConnectionSettings, PgConnection, ServerFacts
from kataven.tenancy.pooled_connection import PooledConnection, transaction_prefix
from kataven.tenancy.pooler_check import NEEDS_DIRECT_URL, refuses_options
from kataven.tenancy.prepared_statements import PreparedStatements
from kataven.tenancy.serving.breaker import Breaker
from kataven.tenancy.serving.histories import ServerHistories
from kataven.tenancy.serving.metrics import PoolMetrics
from kataven.tenancy.serving.pool import BulkheadPool, ConnectionBudget, NoConnection
from kataven.tenancy.serving.pool_limits import PoolLimits


@dataclass(slots=True, eq=False)
class PinnedEngine:
    """One account's engine. `pins` counts the sessions that use it or are about to."""

    tenant: Tenant
    engine: Engine
    breaker: Breaker
    used_at: float
    pins: int = 0

    @property
    def pool(self) -> BulkheadPool:
        """The engine's pool. Raises TypeError if it is not a BulkheadPool."""
        pool = self.engine.pool
        if not isinstance(pool, BulkheadPool):
            raise TypeError("this engine's pool has been replaced")
        return pool


class Engines:
    """Up to `limits.engines` engines that share one connection budget."""

    def __init__(
        self,
        limits: PoolLimits,
        settings: ConnectionSettings,
        budget: ConnectionBudget,
        histories: ServerHistories | None = None,
    ) -> None:
        self._histories = histories
        self._settings = settings
        self._limits = limits
        self._budget = budget
        self._resident: OrderedDict[str, PinnedEngine] = OrderedDict()  # least recently used first
        self._building: set[str] = set()
        self._retired: list[PinnedEngine] = []
        self._servers = EngineFactory(settings)
        self._closed = False
        self._builds = self._evictions = 0
        self._build_seconds = self._slowest_build_seconds = 0.0

    def pin(self, tenant: Tenant) -> PinnedEngine:
        """The tenant's engine, which is not evicted until `unpin`.

        Raises TenantUnavailable if its breaker is open or if every engine is in use, RegistryClosed after `close`.
        """
        self._budget.session_starts()
        with self._budget.changed:
            found = self._find_or_reserve(tenant)
            if found is not None:
                return self._pinned(found)
        built = None
        try:
            built = self._build(tenant)
        finally:
            with self._budget.changed:
                self._building.discard(tenant.account)
                if built is not None:
                    self._resident[tenant.account] = built
                    self._pinned(built)
                    if self._closed:  # closed while the engine was being built: it serves only this session
                        self._retired.append(self._resident.pop(tenant.account))
                self._budget.changed.notify_all()
            self._close_retired()
        return built

    def reached(self, pinned: PinnedEngine) -> None:
        """A connection succeeded: close the breaker now, without waiting for the end of this session."""
        if pinned.breaker.is_open:
            with self._budget.changed:
                pinned.breaker.succeeded()

    def unpin(self, pinned: PinnedEngine, responded: bool | None) -> None:
        """Release the engine and record whether its database responded; None if it was not contacted."""
        with self._budget.changed:
            pinned.pins -= 1
            if responded is None:
                pinned.breaker.unsettled()
            elif responded:
                pinned.breaker.succeeded()
            else:
                pinned.breaker.failed(self._budget.clock())
            if not pinned.pins:
                self._budget.changed.notify_all()

    def forget(self, account: str) -> None:
        """Retire the account's engine. Sessions in progress finish first."""
        with self._budget.changed:
            if account in self._resident:
                self._retired.append(self._resident.pop(account))
        self._close_retired()

    def forget_server(self, tenant: Tenant) -> None:
        """Retire all engines of the tenant's server, because it is not the primary any more."""
        server = server_key(tenant.url)
        with self._budget.changed:
            for account, pinned in list(self._resident.items()):
                if server_key(pinned.tenant.url) == server:
                    self._retired.append(self._resident.pop(account))
        self._close_retired()

    def forget_unused_since(self, moment: float) -> None:
        """Retire every engine that has not been used since `moment`."""
        with self._budget.changed:
            for account, pinned in list(self._resident.items()):
                if not pinned.pins and pinned.used_at < moment:
                    self._retired.append(self._resident.pop(account))
        self._close_retired()

    def close(self) -> None:
        """Retire all engines and reject new sessions."""
        with self._budget.changed:
            self._closed = True
            self._retired.extend(self._resident.values())
            self._resident.clear()
            self._budget.changed.notify_all()
        self._close_retired()

    def metrics(self) -> PoolMetrics:
        """Current gauges and counters since the process started."""
        budget = self._budget
        with budget.changed:
            return PoolMetrics(
                engines=len(self._resident),
                engines_limit=self._limits.engines,
                connections=budget.open,
                connections_in_use=budget.open - len(budget.idle),
                connections_limit=budget.limit,
                host_connections_limit=None if budget.host_slots is None else budget.host_slots.limit,
                waits=budget.waits,
                waited_seconds=budget.waited_seconds,
                builds=self._builds,
                build_seconds=self._build_seconds,
                slowest_build_seconds=self._slowest_build_seconds,
                evictions=self._evictions,
                displaced_connections=budget.displaced,
                cut_connections=budget.cut,
                open_breakers=tuple(name for name, pinned in self._resident.items() if pinned.breaker.is_open),
            )

    def _find_or_reserve(self, tenant: Tenant) -> PinnedEngine | None:
        """The tenant's engine, or None if the caller must build it. Called with the lock held."""
        clock, account = self._budget.clock, tenant.account
        deadline = clock() + self._limits.wait
        while True:
            if self._closed:
                raise RegistryClosed("the registry is closed")
            resident = self._resident.get(account)
            if resident is not None and _same_address(resident.tenant, tenant):
                return resident
            if account not in self._building:
                if resident is not None:  # the database has moved
                    self._retired.append(self._resident.pop(account))
                if self._reserve_capacity():
                    self._building.add(account)
                    return None
            if not self._budget.changed.wait(max(0.0, deadline - clock())):
                raise TenantUnavailable(account, "every engine is in use", self._limits.breaker_pause)

    def _reserve_capacity(self) -> bool:
        if len(self._resident) + len(self._building) < self._limits.engines:
            return True
        for account, pinned in self._resident.items():
            if not pinned.pins:
                self._retired.append(self._resident.pop(account))
                self._evictions += 1
                return True
        return False

    def _pinned(self, engine: PinnedEngine) -> PinnedEngine:
        now = self._budget.clock()
        if pause := engine.breaker.admit(now):
            raise TenantUnavailable(engine.tenant.account, "its circuit breaker is open", pause)
        engine.pins += 1
        engine.used_at = now
        self._resident.move_to_end(engine.tenant.account)
        return engine

    def _build(self, tenant: Tenant) -> PinnedEngine:
        limits, budget = self._limits, self._budget
        started = budget.clock()
        engine = self._servers.create_engine(
            tenant.url,
            self._pooled_connector(tenant) if tenant.pooled else self._connector(tenant),
            pooled=tenant.pooled,
            poolclass=BulkheadPool,
            budget=budget,
            size=limits.connections_per_account,
            wait_seconds=limits.wait,
            pool_pre_ping=True,  # no round trip with this dialect
        )
        breaker = Breaker(limits.breaker_failures, limits.breaker_pause, limits.breaker_longest_pause)
        self._count_build(budget.clock() - started)
        return PinnedEngine(tenant, engine, breaker, used_at=started)

    def _connector(self, tenant: Tenant) -> Callable[..., PgConnection]:
        """The connection factory of the tenant's engine. It refuses standbys.

        It reads the server's history, which is one round trip. If the running server is known, the connection checks
        this with its first statement instead.
        """

        def connect(dsn: str, **options: Any) -> PgConnection:
            try:
                connection = self._budget.connect(dsn, DirectConnection, **options)
            except psycopg2.OperationalError as error:
                if refuses_options(error):
                    raise NoConnection(NEEDS_DIRECT_URL) from error
                raise
            try:
                if connection.is_standby():
                    raise NoConnection("the server is a standby")
                connection.autocommit = True
                self._check_history(tenant, connection, self._histories)
            except BaseException:
                connection.close()
                raise
            return connection

        return connect

    def _check_history(self, tenant: Tenant, connection: DirectConnection, histories: ServerHistories | None) -> None:
        if histories is None:
            return
        if histories.instance_of(tenant) is None:
            self._examine(tenant, connection)
        else:
            connection.check_with_first_statement(
                lambda: histories.instance_of(tenant), lambda: self._examine(tenant, connection)
            )
        connection.prepared = PreparedStatements()

    def _examine(self, tenant: Tenant, connection: PgConnection) -> None:
        """Read the history. A connection without its timeouts leads to a pooler, and is refused."""
        facts = connection.read_facts()
        if not facts.has_options:
            raise NoConnection(NEEDS_DIRECT_URL)
        self._observe(tenant, facts.server)

    def _pooled_connector(self, tenant: Tenant) -> Callable[..., PgConnection]:
        """The same through a pooler. What is checked here, each transaction checks again on its own server."""

        def connect(dsn: str, **options: Any) -> PgConnection:
            connection = self._budget.connect(dsn, PooledConnection, **options)
            try:
                connection.autocommit = True
                facts = connection.read_facts()
                if facts.in_recovery:  # the pooler reports the state of the server that it connected to first
                    raise NoConnection("the server is a standby")
                connection.prefix = transaction_prefix(self._settings, facts.server)
            except BaseException:
                connection.close()
                raise
            self._observe(tenant, facts.server)
            return connection

        return connect

    def _observe(self, tenant: Tenant, server: ServerFacts | None) -> None:
        if self._histories is None or server is None:
            return
        if self._histories.observe(tenant, server.history, server.instance):
            self.forget_server(tenant)  # its other connections may lead to the old primary

    def _count_build(self, seconds: float) -> None:
        with self._budget.changed:
            self._builds += 1
            self._build_seconds += seconds
            self._slowest_build_seconds = max(self._slowest_build_seconds, seconds)

    def _close_retired(self) -> None:
        with self._budget.changed:
            retired, self._retired = self._retired, []
        for pinned in retired:
            pinned.pool.retire()


def _same_address(tenant: Tenant, other: Tenant) -> bool:
    return tenant.url == other.url and tenant.pooled == other.pooled
