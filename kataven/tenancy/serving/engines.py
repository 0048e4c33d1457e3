"""The engines of one process: one per account, built by whoever needs it first, the least recently used given up.

An engine in use is pinned, and never evicted. Everything here is guarded by the ledger's lock; engines are built, and
connections closed, outside of it.
"""

from collections import OrderedDict
from dataclasses import dataclass

from sqlalchemy import Engine

from kataven.tenancy.dialect import EngineFactory
from kataven.tenancy.directory import Tenant
from kataven.tenancy.errors import RegistryClosed, TenantUnavailable
from kataven.tenancy.pg_connection import ConnectionSettings
from kataven.tenancy.serving.breaker import Breaker
from kataven.tenancy.serving.metrics import PoolMetrics
from kataven.tenancy.serving.pool import BulkheadPool, ConnectionBudget
from kataven.tenancy.serving.pool_limits import PoolLimits


@dataclass(slots=True, eq=False)
class PinnedEngine:
    """One account's engine. `pins` counts the sessions that are on it, or on their way to it."""

    tenant: Tenant
    engine: Engine
    breaker: Breaker
    used_at: float
    pins: int = 0

    @property
    def pool(self) -> BulkheadPool:
        """Where its connections are."""
        pool = self.engine.pool
        if not isinstance(pool, BulkheadPool):
            raise TypeError("this engine's pool has been replaced")
        return pool


class Engines:
    """Up to `limits.engines` engines over `ledger`."""

    def __init__(self, limits: PoolLimits, settings: ConnectionSettings, budget: ConnectionBudget) -> None:
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
        """The tenant's engine, kept until `unpin`.

        Raises TenantUnavailable if it failed a moment ago, or if every engine is in use; RegistryClosed after `close`.
        """
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
                    if self._closed:  # while it was being built: it serves this one session
                        self._retired.append(self._resident.pop(tenant.account))
                self._budget.changed.notify_all()
            self._close_retired()
        return built

    def reached(self, pinned: PinnedEngine) -> None:
        """Its database let us in: who was turned away by the breaker need not wait until this session ends."""
        if pinned.breaker.is_open:
            with self._budget.changed:
                pinned.breaker.succeeded()

    def unpin(self, pinned: PinnedEngine, answered: bool | None) -> None:
        """Let go of it, and say whether its database answered; None if it was not asked."""
        with self._budget.changed:
            pinned.pins -= 1
            if answered is None:
                pinned.breaker.unsettled()
            elif answered:
                pinned.breaker.succeeded()
            else:
                pinned.breaker.failed(self._budget.clock())
            if not pinned.pins:
                self._budget.changed.notify_all()

    def forget(self, account: str) -> None:
        """Give up the account's engine; sessions in flight finish first."""
        with self._budget.changed:
            if account in self._resident:
                self._retired.append(self._resident.pop(account))
        self._close_retired()

    def forget_unused_since(self, moment: float) -> None:
        """Give up every engine that nobody has used since `moment`."""
        with self._budget.changed:
            for account, pinned in list(self._resident.items()):
                if not pinned.pins and pinned.used_at < moment:
                    self._retired.append(self._resident.pop(account))
        self._close_retired()

    def close(self) -> None:
        """Give up all, and refuse new ones."""
        with self._budget.changed:
            self._closed = True
            self._retired.extend(self._resident.values())
            self._resident.clear()
            self._budget.changed.notify_all()
        self._close_retired()

    def metrics(self) -> PoolMetrics:
        """What there is now, and what happened so far."""
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
        """The tenant's engine, or None when the caller is the one to build it. The lock is held."""
        clock, account = self._budget.clock, tenant.account
        deadline = clock() + self._limits.wait
        while True:
            if self._closed:
                raise RegistryClosed("the registry is closed")
            resident = self._resident.get(account)
            if resident is not None and resident.tenant.url == tenant.url:
                return resident
            if account not in self._building:
                if resident is not None:  # the database has moved
                    self._retired.append(self._resident.pop(account))
                if self._make_room():
                    self._building.add(account)
                    return None
            if not self._budget.changed.wait(max(0.0, deadline - clock())):
                raise TenantUnavailable(account, "every engine is in use", self._limits.breaker_pause)

    def _make_room(self) -> bool:
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
            raise TenantUnavailable(engine.tenant.account, "it failed a moment ago", pause)
        engine.pins += 1
        engine.used_at = now
        self._resident.move_to_end(engine.tenant.account)
        return engine

    def _build(self, tenant: Tenant) -> PinnedEngine:
        limits, budget = self._limits, self._budget
        began = budget.clock()
        engine = self._servers.create_engine(
            tenant.url,
            budget.connect,
            poolclass=BulkheadPool,
            budget=budget,
            size=limits.connections_per_account,
            wait_seconds=limits.wait,
            pool_pre_ping=True,  # costs no round trip with this dialect
        )
        breaker = Breaker(limits.breaker_failures, limits.breaker_pause, limits.breaker_longest_pause)
        self._count_build(budget.clock() - began)
        return PinnedEngine(tenant, engine, breaker, used_at=began)

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
