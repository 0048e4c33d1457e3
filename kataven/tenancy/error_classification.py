"""Tells temporary PostgreSQL errors from errors in the code, and removes customers' data from error messages."""

import re
from typing import NamedTuple

import psycopg2
from sqlalchemy.exc import DBAPIError, OperationalError

from kataven.tenancy.errors import TenancyError

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_BY_CODE = {
    "25006": "it is read-only",  # a standby that has not been promoted yet
    "55P03": "a lock was not available in time",
    "57014": "a statement took too long",
}
_BY_CLASS = {
    "08": "the connection failed",
    "40": "a conflict with another transaction",
    "53": "its server is out of resources",
    "57": "it is stopping or starting",
}
# Not 57P01: an operator may terminate one session. A server that shuts down closes its connections, which is detected
# before their next use.
_DEMOTED = frozenset({"25006", "57P02"})
_UNDEFINED = frozenset({"3F000", "42P01", "42703", "42704", "42883"})  # schema, table, column, type or index, function
# Other errors of a statement that was written for another schema: no unique constraint for its ON CONFLICT, another
# type, a value that an enumeration, a NOT NULL or a CHECK of that schema does not allow.
_UNFIT = frozenset({"42P10", "42804", "22P02", "23502", "23514"})
_QUOTED = re.compile(r'".*"', re.DOTALL)


class Fault(NamedTuple):
    """Why a database is unavailable. `is_down` if it could not be reached; only this counts toward the breaker."""

    reason: str
    is_down: bool


def fault_of(error: DBAPIError) -> Fault | None:
    """Why the database is unavailable, or None if the statement caused `error`.

    For a database that does not exist, or that was just dropped, psycopg2 raises an OperationalError without a code.
    """
    if error.connection_invalidated:
        return Fault("the connection was lost", is_down=True)
    code = _code_of(error)
    if code is None:
        return Fault("no connection", is_down=True) if isinstance(error, OperationalError) else None
    reason = _BY_CODE.get(code) or _BY_CLASS.get(code[:2])
    return Fault(reason, is_down=False) if reason else None


def is_demoted(error: DBAPIError) -> bool:
    """Whether the server is read-only or has crashed, so that no connection to it should be used any more."""
    return _code_of(error) in _DEMOTED


def is_about_schema(error: DBAPIError) -> bool:
    """Whether the statement names something that does not exist, as when schema and code have different releases."""
    return _code_of(error) in _UNDEFINED


def may_be_about_schema(error: DBAPIError) -> bool:
    """Whether the statement may have failed only because schema and code have different releases."""
    return _code_of(error) in _UNDEFINED | _UNFIT


def in_words(error: BaseException) -> str:
    """The message of `error` for an operator, without the statement and without the values in PostgreSQL's details."""
    if isinstance(error, DBAPIError):
        return _without_values(error.orig)
    return str(error) if isinstance(error, TenancyError) else f"{type(error).__name__}: {error}"


def _code_of(error: DBAPIError) -> str | None:
    code: str | None = getattr(error.orig, "pgcode", None)
    return code


def leave_values_out(*errors: BaseException | None) -> None:
    """Reduce the messages of PostgreSQL errors to the text of `in_words`, wherever they are shown later.

    PostgreSQL adds lines that contain customers' data: `DETAIL: Key (name)=(…) already exists`, `DETAIL: Failing row
    contains (…)`, `CONTEXT: COPY …`, and the `LINE` of a statement with the parameters that psycopg2 inserted. Without
    this, every logged or printed traceback contains them. `pgcode` and `diag`, which code reads, remain.
    """
    for error in errors:
        if isinstance(error, DBAPIError) and isinstance(error.orig, psycopg2.Error):
            kind = type(error.orig)
            error.args = (f"({kind.__module__}.{kind.__qualname__}) {_without_values(error.orig)}",)
    for error in errors:
        if isinstance(error, psycopg2.Error) and error.args:
            error.args = (_without_values(error),)


def _without_values(original: BaseException | None) -> str:
    primary: str | None = getattr(getattr(original, "diag", None), "message_primary", None)
    code: str | None = getattr(original, "pgcode", None)
    if not primary or not code:  # not from the server, such as a failed connection
        return str(original).strip().partition("\n")[0]
    if code.startswith("22"):  # data exceptions quote the value: invalid input syntax for type uuid: "…"
        primary = _QUOTED.sub('"…"', primary)
    return f"{primary} ({code})"
