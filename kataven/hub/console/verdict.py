"""The state of the installation for an operator on call: what is wrong, in words, before the details.

Reads Redis, the system database and the background probes of the servers. Never queries a database server itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from redis.exceptions import RedisError
from sqlalchemy import make_url
from sqlalchemy.orm import Session

from kataven.hub.console.lists import server_states
from kataven.hub.formatting import pluralize
from kataven.hub.page_blueprint import HubRequest
from kataven.hub.server_watch import ServerState
from kataven.operations import migration_runs
from kataven.operations.migration_runs import RunStatus
from kataven.revocation.coordination import Member
from kataven.system import accounts, servers
from kataven.system.models import RegisteredServer, RunState
from kataven.web import health

LATE_SHARE = 0.5
"""A lease that is older than this share of its length was not renewed in time: four renewals fit into a lease."""
NEARLY_FULL = 0.9
"""The share of a server's connections from which it is reported."""


class Severity(StrEnum):
    """How urgent a finding is."""

    FAILING = "failing"
    """Requests fail, or will fail."""
    DEGRADED = "degraded"
    """Requests are served, but slower or with less protection."""


class DependencyState(StrEnum):
    """The state of a dependency."""

    OK = "ok"
    OFF = "off"
    """Not configured: a choice, not a problem."""
    ON = "on"
    """Configured. The check does not verify more."""
    UNKNOWN = "unknown"
    DEGRADED = "degraded"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class HealthFinding:
    """Something that is wrong."""

    severity: Severity
    text: str
    path: str
    """Where to read more."""


@dataclass(frozen=True, slots=True)
class DependencyRow:
    """A dependency of this process."""

    label: str
    state: DependencyState
    detail: str
    meaning: str
    """What it is for."""


@dataclass(frozen=True, slots=True)
class ServerRow:
    """A database server."""

    name: str
    host: str
    draining: bool
    accounts: int
    open_breakers: int
    """Accounts with an open circuit breaker in this process of the Hub."""
    state: ServerState

    @property
    def is_nearly_full(self) -> bool:
        used, limit = self.state.connections, self.state.connections_limit
        return used is not None and limit is not None and used >= NEARLY_FULL * limit


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker, and how old its lease is."""

    host: str
    pid: int
    age: float
    """Seconds since the last renewal."""
    lease: float
    """The length of the lease in seconds. An older one has expired."""

    @property
    def state(self) -> str:
        """`good`, `late` or `expired`."""
        if self.age >= self.lease:
            return "expired"
        return "late" if self.age >= LATE_SHARE * self.lease else "good"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Everything that the health page and the wall show first."""

    findings: Sequence[HealthFinding]
    """Failing ones first."""
    dependencies: Sequence[DependencyRow]
    servers: Sequence[ServerRow]
    workers: Sequence[WorkerRow] | None
    """None if Redis is unavailable."""
    run: RunStatus | None
    """The latest migration run."""

    @property
    def is_well(self) -> bool:
        return not self.findings

    @property
    def redis(self) -> DependencyRow:
        return next(row for row in self.dependencies if row.label == LABELS["redis"][0])


LABELS: Mapping[str, tuple[str, str]] = {
    "system_database": (
        "System database",
        "Lists the accounts, their servers and limits. Without it, requests of accounts that are not cached fail.",
    ),
    "pooler": ("Connection pooler", "Whether connections of workers go through a pooler such as PgBouncer."),
    "migrations": ("Account schemas", "Accounts at a revision that this release doesn't support return 503."),
    "auth_service": ("Auth-service", "Verifies credentials in a separate process. Off: this process verifies them."),
    "redis": (
        "Redis",
        "Counts rate limits, and notifies workers of revocations. Without it, revocations wait for leases to expire.",
    ),
    "limits": ("Rate limits", "Ok: counted in Redis, over all workers. Degraded: each worker allows its share."),
    "lease": (
        "Cache lease",
        "With a valid lease, a worker may accept cached credentials. Without it, it verifies each: slower, but safe.",
    ),
    "issuer": ("OIDC issuer", "Signs the tokens of users. Without its keys, users are refused; API keys work."),
    "widget": ("Widget", "Whether visitors can use the widget. Off: no signing keys are set."),
}
"""The name of each check, and what it means for an operator on call."""


def read(hub_request: HubRequest, session: Session) -> Verdict:
    """`session` is on the system database."""
    services = hub_request.services
    registered = servers.listing(session)
    open_breakers = accounts.count_by_server(session, services.registry.metrics().open_breakers)
    run = migration_runs.latest(session)
    rows = _servers(hub_request, registered, open_breakers)
    dependencies = [_dependency(name, text) for name, text in health.checks_of(services).items()]
    workers = _workers(hub_request)
    findings = [
        *_of_dependencies(dependencies),
        *_of_servers(rows),
        *_of_workers(workers),
        *_of_run(run),
    ]
    return Verdict(
        sorted(findings, key=lambda finding: finding.severity is not Severity.FAILING), dependencies, rows, workers, run
    )


def _dependency(name: str, text: str) -> DependencyRow:
    label, meaning = LABELS[name]
    state, _, detail = text.partition(":")
    known = DependencyState(state) if state in set(DependencyState) else DependencyState.UNKNOWN
    return DependencyRow(label, known, detail.strip(), meaning)


def _servers(
    hub_request: HubRequest, registered: Sequence[tuple[RegisteredServer, int]], open_breakers: Mapping[str, int]
) -> list[ServerRow]:
    states = server_states(hub_request, [server for server, _ in registered])
    default = hub_request.services.directory.database.url
    return [
        ServerRow(
            server.name,
            servers.host_of(make_url(server.url) if server.url else default) or "",
            server.draining,
            count,
            open_breakers.get(server.name, 0),
            states[server.name],
        )
        for server, count in registered
    ]


def _workers(hub_request: HubRequest) -> list[WorkerRow] | None:
    try:
        found: list[Member] = hub_request.services.revocation.workers()
    except RedisError:
        return None
    return [WorkerRow(one.host, one.pid, max(0.0, one.confirmed_seconds_ago), one.lease_seconds) for one in found]


def _of_dependencies(rows: Sequence[DependencyRow]) -> list[HealthFinding]:
    severities = {DependencyState.FAILING: Severity.FAILING, DependencyState.DEGRADED: Severity.DEGRADED}
    return [
        HealthFinding(severities[row.state], f"{row.label}: {row.detail or row.state}", "/console/health#dependencies")
        for row in rows
        if row.state in severities
    ]


def _of_servers(rows: Sequence[ServerRow]) -> list[HealthFinding]:
    found = []
    for row in rows:
        if row.state.responds is False:
            affected = pluralize(row.accounts, "account")
            text = f"Server {row.name} is not responding. It has {affected}, which return 503."
            found.append(HealthFinding(Severity.FAILING, text, "/console/health#servers"))
        elif row.is_nearly_full:
            text = f"Server {row.name} uses {row.state.connections} of {row.state.connections_limit} connections."
            found.append(HealthFinding(Severity.DEGRADED, text, "/console/health#servers"))
        elif row.open_breakers:
            text = (
                f"{pluralize(row.open_breakers, 'account')} on server {row.name} could not be reached by this process."
            )
            found.append(HealthFinding(Severity.DEGRADED, text, "/console/health#servers"))
    return found


def _of_workers(rows: Sequence[WorkerRow] | None) -> list[HealthFinding]:
    if rows is None:
        return []  # Redis is a dependency, which is reported already
    if not rows:
        return [HealthFinding(Severity.FAILING, "No worker is running.", "/console/health#workers")]
    late = [row for row in rows if row.state != "good"]
    text = f"{len(late)} of {pluralize(len(rows), 'worker')} did not renew the lease in time."
    return [HealthFinding(Severity.DEGRADED, text, "/console/health#workers")] if late else []


def _of_run(run: RunStatus | None) -> list[HealthFinding]:
    if run is None or run.live or run.state not in {RunState.FAILED, RunState.STOPPED}:
        return []
    text = "The last migration run was interrupted."
    if run.state == RunState.FAILED:
        text = f"The last migration run finished with {pluralize(run.failed, 'failure')}."
    return [HealthFinding(Severity.DEGRADED, text, "/console/migrations")]
