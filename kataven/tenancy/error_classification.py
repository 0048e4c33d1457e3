"""Which of PostgreSQL's errors mean that the database can't answer now, rather than that the code is wrong."""

import re
from typing import NamedTuple

import psycopg2
from sqlalchemy.exc import DBAPIError, OperationalError

from kataven.tenancy.errors import TenancyError

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_BY_CODE = {
    "25006": "it only reads at the moment",  # a standby that has not been promoted yet
    "55P03": "a lock was not free in time",
    "57014": "a statement took too long",
}
_BY_CLASS = {
    "08": "the connection failed",
    "40": "transactions collided",
    "53": "its server is out of resources",
    "57": "it is stopping or starting",
}
_UNDEFINED = frozenset({"3F000", "42P01", "42703", "42704", "42883"})  # schema, table, column, type or index, function
# What else a statement meets at a schema that it was not written for: no such unique constraint for its ON CONFLICT,
# another type, a value that an enumeration, a NOT NULL or a CHECK of that schema does not allow.
_UNFIT = frozenset({"42P10", "42804", "22P02", "23502", "23514"})
_QUOTED = re.compile(r'".*"', re.DOTALL)


class Fault(NamedTuple):
    """Why a database can't answer. `is_down` if it could not be reached at all, which the breaker counts."""

    reason: str
    is_down: bool


def fault_of(error: DBAPIError) -> Fault | None:
    """What `error` says about the database, or None if it is about the statement.

    A database that does not exist, or that has just been dropped, reaches us as an OperationalError without a code.
    """
    if error.connection_invalidated:
        return Fault("the connection was lost", is_down=True)
    code = _code_of(error)
    if code is None:
        return Fault("no connection", is_down=True) if isinstance(error, OperationalError) else None
    reason = _BY_CODE.get(code) or _BY_CLASS.get(code[:2])
    return Fault(reason, is_down=False) if reason else None


def is_about_schema(error: DBAPIError) -> bool:
    """Whether something that the statement names is not there, as when schema and code are of different releases."""
    return _code_of(error) in _UNDEFINED


def may_be_about_schema(error: DBAPIError) -> bool:
    """Whether the statement may have failed only because schema and code are of different releases."""
    return _code_of(error) in _UNDEFINED | _UNFIT


def in_words(error: BaseException) -> str:
    """What an operator needs to read of `error`: not the statement, nor the values that PostgreSQL adds as details."""
    if isinstance(error, DBAPIError):
        return _without_values(error.orig)
    return str(error) if isinstance(error, TenancyError) else f"{type(error).__name__}: {error}"


def _code_of(error: DBAPIError) -> str | None:
    code: str | None = getattr(error.orig, "pgcode", None)
    return code


def leave_values_out(*errors: BaseException | None) -> None:
    """Reduce the text of PostgreSQL's errors to what `in_words` says, wherever it is shown from now on.

    PostgreSQL adds lines with what customers wrote: `DETAIL: Key (name)=(…) already exists`, `DETAIL: Failing row
    contains (…)`, `CONTEXT: COPY …`, and the `LINE` of a statement into which psycopg2 has put its parameters. They
    would be in every traceback that is logged or printed. What programs ask for, `pgcode` and `diag`, stays.
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
    if not primary or not code:  # not the server's, such as a connection that could not be made
        return str(original).strip().partition("\n")[0]
    if code.startswith("22"):  # data exceptions quote the value: invalid input syntax for type uuid: "…"
        primary = _QUOTED.sub('"…"', primary)
    return f"{primary} ({code})"
