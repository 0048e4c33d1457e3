"""Helpers for tests and benchmarks: checks for leaked connections, and that a session has the right database."""

from sqlalchemy import Connection, text

from kataven.tenancy.errors import WrongTenant
from kataven.tenancy.serving.registry import EngineRegistry
from kataven.tenancy.serving.session import OWNER, TenantSession


def plant_canary(connection: Connection, account: str) -> None:
    """Write the account's name into its database, in a separate schema, so that it does not count as drift."""
    connection.execute(text("CREATE SCHEMA tenancy_canary"))
    connection.execute(text("CREATE TABLE tenancy_canary.owner (account text PRIMARY KEY)"))
    connection.execute(text("INSERT INTO tenancy_canary.owner VALUES (:account)"), {"account": account})


def check_canary(session: TenantSession) -> None:
    """Raise WrongTenant if the database of `session` belongs to another account."""
    found = session.execute(text("SELECT account FROM tenancy_canary.owner")).scalar_one()
    if found != session.account:
        raise WrongTenant(session.account, found)


def account_of(row: object) -> str | None:
    """The account that `row` was loaded for or added to; None for a row that was never in a session."""
    owner: str | None = vars(row).get(OWNER)
    return owner


def assert_no_leaks(registry: EngineRegistry) -> None:
    """Raise AssertionError if a session of `registry` still holds a connection, or a count exceeds its limit."""
    metrics = registry.metrics()
    if metrics.connections_in_use:
        raise AssertionError(f"{metrics.connections_in_use} connections are still in use")
    if not 0 <= metrics.connections <= metrics.connections_limit or metrics.engines > metrics.engines_limit:
        raise AssertionError(f"counts exceed their limits: {metrics}")
