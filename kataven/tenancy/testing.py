"""For tests of whatever is built on this room: is anything left open, and is this database the one we think it is?"""

from sqlalchemy import Connection, text

from kataven.tenancy.errors import WrongTenant
from kataven.tenancy.serving.registry import EngineRegistry
from kataven.tenancy.serving.session import OWNER, TenantSession


def plant_canary(connection: Connection, account: str) -> None:
    """Write into the database itself whose it is; in a schema apart, so that it is no drift from the models."""
    connection.execute(text("CREATE SCHEMA tenancy_canary"))
    connection.execute(text("CREATE TABLE tenancy_canary.owner (account text PRIMARY KEY)"))
    connection.execute(text("INSERT INTO tenancy_canary.owner VALUES (:account)"), {"account": account})


def check_canary(session: TenantSession) -> None:
    """Raise WrongTenant if the database behind `session` is not its account's."""
    found = session.execute(text("SELECT account FROM tenancy_canary.owner")).scalar_one()
    if found != session.account:
        raise WrongTenant(session.account, found)


def account_of(row: object) -> str | None:
    """The account that `row` was loaded for or added to; None for a row that never met a session."""
    owner: str | None = vars(row).get(OWNER)
    return owner


def assert_no_leaks(registry: EngineRegistry) -> None:
    """Raise AssertionError if any session of `registry` still holds a connection, or any count is off its limit."""
    metrics = registry.metrics()
    if metrics.connections_in_use:
        raise AssertionError(f"{metrics.connections_in_use} connections are still out")
    if not 0 <= metrics.connections <= metrics.connections_limit or metrics.engines > metrics.engines_limit:
        raise AssertionError(f"counts are off their limits: {metrics}")
