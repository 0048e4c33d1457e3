"""Checks the system database and the database servers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import URL, text
from sqlalchemy.exc import DBAPIError

from kataven.identity.errors import VerifierUnavailable
from kataven.operations.diagnosis.findings import CheckResult, clock, failed, ok, warning
from kataven.operations.operator import Operator
from kataven.system import accounts, schema, servers
from kataven.system.addresses import addresses
from kataven.system.suitability import Replication
from kataven.tenancy.error_classification import in_words
from kataven.tenancy.pg_connection import ConnectionSettings
from kataven.tenancy.server import DatabaseServer

SLOW_MS = 50.0
PROBE = ConnectionSettings(application_name="kataven doctor", connect_timeout_seconds=3, statement_timeout_seconds=3.0)
_STATE = text("""
SELECT extract(epoch FROM clock_timestamp())::float AS at, current_setting('server_version') AS version,
       pg_is_in_recovery() AS standby,
       (SELECT count(*) FROM pg_stat_replication) AS standbys,
       (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')) AS synchronous,
       current_setting('synchronous_standby_names') AS names, current_setting('synchronous_commit') AS commits,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
       current_setting('max_connections')::int AS most,
       current_setting('superuser_reserved_connections')::int AS reserved
""")


def check_system(operator: Operator) -> Iterator[CheckResult]:
    """Whether the system database can be read, and whether this release serves its schema."""
    began = time.perf_counter()
    try:
        with operator.system.reading() as session:
            have = schema.system_revision(session)
            counts = accounts.count_by_revision(session)
    except VerifierUnavailable:
        yield failed(
            "system database",
            "unreachable",
            "Check KATAVEN_DATABASE_URL and the server. Requests are served from memory for 30 s, then return 503.",
        )
        return
    yield ok("system database", f"reachable, first query after {(time.perf_counter() - began) * 1000:.0f} ms")
    needed = schema.SYSTEM_SCHEMA
    upgrade = "Run: kataven migrations upgrade --system"
    if not needed.serves(have):
        yield failed("system schema", f"at {have or 'no revision'}; this release serves {needed.served}", upgrade)
    elif have != needed.head:
        yield warning("system schema", f"at {have}; the newest revision is {needed.head}", upgrade)
    else:
        yield ok("system schema", f"at {have}")
    yield _revisions(counts)


def _revisions(counts: Any) -> CheckResult:
    known = {revision: count for revision, count in counts.items() if revision is not None}
    window, head = schema.ACCOUNT_SCHEMA.window, schema.ACCOUNT_SCHEMA.head
    outside = sum(count for revision, count in known.items() if revision not in window)
    behind = sum(count for revision, count in known.items() if revision != head)
    fix = "Run: kataven migrations upgrade --all. Before that, `kataven migrations status` shows each account."
    if outside:
        return failed("account schemas", f"{outside} accounts have a schema that this release can't serve", fix)
    if behind:
        return warning("account schemas", f"{behind} accounts are not at {head}", fix)
    return ok("account schemas", f"{sum(known.values())} accounts are at {head}")


@dataclass(frozen=True, slots=True)
class HostConnections:
    """How many connections the processes of the product may open: per host, and on how many hosts workers run."""

    per_host: int
    hosts: int


def check_servers(operator: Operator, budget: HostConnections) -> Iterator[CheckResult]:
    """Every database server: reachable, latency, clock, replication, and connections against `max_connections`."""
    try:
        with operator.system.reading() as session:
            registered = servers.listing(session)
            reached_at = addresses(session, operator.system)
    except VerifierUnavailable:
        return  # `check_system` reports it
    if not registered:
        yield failed("servers", "no server is listed", "Run: kataven migrations upgrade --system")
        return
    if all(server.draining for server, _ in registered):
        yield failed(
            "servers", "no server accepts new accounts", "Run: kataven servers resume NAME, or kataven servers add NAME"
        )
    for server, count in registered:
        url = reached_at[server.name].past_pooler
        yield from check_server(f"server {server.name}", url, count, budget)


def check_server(check: str, url: URL, accounts_there: int, budget: HostConnections) -> Iterator[CheckResult]:
    """One server. `url` is that of its maintenance database, past a connection pooler."""
    try:
        with DatabaseServer(url, PROBE).connect("postgres") as connection:
            began = time.perf_counter()
            before = time.time()
            state = connection.execute(_STATE).one()
            ms = (time.perf_counter() - began) * 1000
            local = (before + time.time()) / 2
    except DBAPIError as error:
        yield failed(
            check,
            f"unreachable: {in_words(error)}",
            "Check the server, pg_hba.conf, and its line in the file that PGPASSFILE names on this host. Requests of"
            f" its {accounts_there} accounts return 503.",
        )
        return
    found = f"PostgreSQL {state.version}, {accounts_there} accounts, query took {ms:.0f} ms"
    slow = "Run the workers in the same region and network as their database servers."
    yield ok(check, found) if ms <= SLOW_MS else warning(check, found, slow)
    yield clock(f"{check}: clock", state.at - local)
    if state.standby:
        yield failed(
            f"{check}: role", "read-only standby", "List all hosts of the server in its URL: see docs/scaling.md"
        )
    yield _replication(f"{check}: replication", state)
    yield _connections(f"{check}: connections", state, budget)


def _replication(check: str, state: Any) -> CheckResult:
    replication = Replication(state.standbys, state.names, state.commits)
    if replication.warning is not None:
        return warning(
            check, replication.warning, "Set synchronous_standby_names and synchronous_commit=on: see docs/scaling.md"
        )
    if replication.synchronous and not state.synchronous:
        return failed(
            check,
            f"synchronous_standby_names is {state.names!r}, and no standby is synchronous: commits wait for one",
            "Restore a standby that the setting names, or change the setting.",
        )
    if not replication.standbys:
        return ok(check, "no standbys")
    return ok(check, f"{state.synchronous} of {state.standbys} standbys are synchronous")


def _connections(check: str, state: Any, budget: HostConnections) -> CheckResult:
    available, wanted = state.most - state.reserved, budget.per_host * max(1, budget.hosts)
    found = f"{state.connections} of {available} in use"
    if state.connections >= available:
        return failed(check, found, "Raise max_connections, or lower KATAVEN_HOST_CONNECTIONS.")
    if wanted > available:
        return warning(
            check,
            f"{found}; {max(1, budget.hosts)} hosts may open {budget.per_host} each",
            "Raise max_connections, lower KATAVEN_HOST_CONNECTIONS, or place accounts on more servers: see"
            " docs/scaling.md, Sizing connections.",
        )
    return ok(check, found)
