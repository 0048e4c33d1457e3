"""Migrations as SQL text: rendered once by Alembic, replayed on any number of databases from any number of threads.

One step is one revision. Its SQL is sent to a database in one round trip. The same transaction checks that the database
is at the step's starting revision and writes the new one, so concurrent processes apply each step exactly once.
"""

import contextlib
from dataclasses import dataclass

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from kataven.tenancy.errors import AccountBusy, MigrationError, RevisionMoved
from kataven.tenancy.schema import Schema

_LOCK = text("SELECT pg_try_advisory_lock(hashtextextended('tenancy migration', 0))")
_BEGIN = "BEGIN; SELECT version_num FROM alembic_version FOR UPDATE"
_AS_IS = {"no_parameters": True}  # a percent sign is literal


@dataclass(frozen=True, slots=True)
class Step:
    """The step from `start` to `revision`. Without `sql` it needs Python: Alembic runs it in another process."""

    start: str | None
    revision: str
    sql: str | None


def render(schema: Schema, start: str | None, end: str) -> dict[str, Step]:
    """The steps from `start` to `end` by revision. Raises MigrationError if one can't be rendered."""
    steps = {}
    for revision in schema.path(start, end):
        steps[revision] = _render(schema, start, revision)
        start = revision
    return steps


def script(steps: dict[str, Step], lock_timeout_seconds: float) -> str:
    """The steps as a readable script, for `--sql`. It has the lock timeout of a migration run."""
    begin = f"BEGIN;\n\nSET LOCAL lock_timeout = '{lock_timeout_seconds:g}s';\n\n"
    return "\n".join(f"{begin}{step.sql}COMMIT;\n" if step.sql else _placeholder(step) for step in steps.values())


def lock(connection: Connection) -> None:
    """Lock this database against other runs until the connection closes. Raises AccountBusy if it is locked."""
    locked = connection.execute(_LOCK).scalar_one()
    connection.rollback()
    if not locked:
        raise AccountBusy("another migration run holds the lock on this account")


def replay(connection: Connection, step: Step) -> None:
    """Apply a rendered step in one transaction, on a connection in AUTOCOMMIT: two round trips instead of four.

    Raises RevisionMoved if the database is not at the step's starting revision.
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
            f"revision {revision} can't be rendered as SQL; if it reads data, set needs_python = True in it"
        ) from error
    if "COMMIT;" in sql.splitlines():  # an autocommit_block, as for CREATE INDEX CONCURRENTLY
        return Step(start, revision, None)
    return Step(start, revision, sql)


def _placeholder(step: Step) -> str:
    return f"-- Running upgrade {step.start} -> {step.revision}: run by Alembic, in Python\n"
