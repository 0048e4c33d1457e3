"""Migrations as SQL text: rendered once by Alembic, replayed on any number of databases from any number of threads.

One step is one revision. Its text goes to a database in one round trip, in one transaction with the check that the
database is where the step starts and with the new version, so a step is applied exactly once, whoever else tries.
"""

import contextlib
from dataclasses import dataclass

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from kataven.tenancy.errors import AccountBusy, MigrationError, RevisionMoved
from kataven.tenancy.schema import Schema

_LOCK = text("SELECT pg_try_advisory_lock(hashtextextended('tenancy migration', 0))")
_BEGIN = "BEGIN; SELECT version_num FROM alembic_version FOR UPDATE"
_AS_IS = {"no_parameters": True}  # a percent sign in the text is a percent sign


@dataclass(frozen=True, slots=True)
class Step:
    """From `start` to `revision`. Without `sql` it needs Python: Alembic itself has to run it, in another process."""

    start: str | None
    revision: str
    sql: str | None


def render(schema: Schema, start: str | None, end: str) -> dict[str, Step]:
    """The steps from `start` to `end` by their revisions. Raises MigrationError for one that can't be rendered."""
    steps = {}
    for revision in schema.path(start, end):
        steps[revision] = _render(schema, start, revision)
        start = revision
    return steps


def script(steps: dict[str, Step], lock_timeout_seconds: float) -> str:
    """The steps as text for people: what `--sql` shows. They wait for a lock as long as a run of ours does."""
    begin = f"BEGIN;\n\nSET LOCAL lock_timeout = '{lock_timeout_seconds:g}s';\n\n"
    return "\n".join(f"{begin}{step.sql}COMMIT;\n" if step.sql else _placeholder(step) for step in steps.values())


def lock(connection: Connection) -> None:
    """Keep other runs off this database until the connection closes. Raises AccountBusy if one is there already."""
    locked = connection.execute(_LOCK).scalar_one()
    connection.rollback()
    if not locked:
        raise AccountBusy("another run is migrating this account")


def replay(connection: Connection, step: Step) -> None:
    """Apply a rendered step in one transaction, on a connection in AUTOCOMMIT: two round trips instead of four.

    Raises RevisionMoved if the database is not where the step starts.
    """
    try:
        have = connection.exec_driver_sql(_BEGIN).scalar_one_or_none()
        if have != step.start:
            raise RevisionMoved(f"the database is at {have or 'no revision'}, not at {step.start}")
        connection.exec_driver_sql(f"{step.sql}COMMIT", execution_options=_AS_IS)
    except BaseException:
        with contextlib.suppress(DBAPIError):
            connection.exec_driver_sql("ROLLBACK")
        raise


def _render(schema: Schema, start: str | None, revision: str) -> Step:
    if schema.needs_python(revision):
        return Step(start, revision, None)
    try:
        sql = schema.render(start, revision)
    except Exception as error:
        raise MigrationError(
            f"revision {revision} can't be rendered as SQL; if it reads data, it has to say needs_python = True"
        ) from error
    if "COMMIT;" in sql.splitlines():  # an autocommit_block, as for CREATE INDEX CONCURRENTLY
        return Step(start, revision, None)
    return Step(start, revision, sql)


def _placeholder(step: Step) -> str:
    return f"-- Running upgrade {step.start} -> {step.revision}: run by Alembic, in Python\n"
