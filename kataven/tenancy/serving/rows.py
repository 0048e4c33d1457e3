"""Reads rows without a session and without entities: lists that a request returns as they are, and what verifies a key.

A `RowQuery` is compiled once. Executing it costs psycopg2's own time: no session, no compiled-cache look-up, no
entities. Errors are those of SQLAlchemy, so that the registry handles them as in a session.
"""

from collections import namedtuple
from collections.abc import Mapping
from typing import Any, Protocol

import psycopg2
from sqlalchemy import Dialect, Engine, Select, TextualSelect
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import PoolProxiedConnection

from kataven.tenancy.error_classification import leave_values_out

Rows = list[tuple[Any, ...]]


class RowQuery:
    """A SELECT with parameters for psycopg2. Its rows have psycopg2's types: cast a `uuid` to text to read a string.

    Every bound parameter must have a value in the statement or in `values` of `read`. Raises ValueError for a parameter
    whose number of values changes the text, such as `in_([…])`: use `= ANY(…)`, with a list.
    """

    def __init__(self, statement: Select[*tuple[Any, ...]] | TextualSelect) -> None:
        compiled = statement.compile(dialect=PGDialect_psycopg2())  # type: ignore[no-untyped-call]
        self.text = str(compiled)
        if "POSTCOMPILE" in self.text:
            raise ValueError("the statement has a parameter with a variable number of values")
        self._values: Mapping[str, Any] = dict(compiled.params)
        self.columns: tuple[str, ...] = tuple(statement.selected_columns.keys())
        self._record = namedtuple("Record", self.columns)  # type: ignore[misc]  # names known at runtime

    def first(self, rows: Rows) -> Any | None:
        """The first row, with its columns as attributes; None if no row was found."""
        return self._record(*rows[0]) if rows else None

    def read(self, connection: PoolProxiedConnection, dialect: Dialect, values: Mapping[str, Any]) -> Rows:
        """All rows. Returns the connection to its pool. Raises DBAPIError."""
        try:
            cursor = connection.cursor()
            cursor.execute(self.text, {**self._values, **values})
            rows: Rows = cursor.fetchall()  # type: ignore[assignment]  # psycopg2's rows are tuples
            cursor.close()
        except psycopg2.Error as error:
            lost = dialect.is_disconnect(error, connection, None)  # type: ignore[arg-type]  # as in SQLAlchemy
            if lost:
                connection.invalidate(error)  # not used again
            raise _translated(error, self.text, lost=lost) from error
        except BaseException as error:  # such as an exit between the statement and its result
            connection.invalidate(error)
            raise
        finally:
            connection.close()
        return rows


def connect(engine: Engine) -> PoolProxiedConnection:
    """A connection of the pool. Raises DBAPIError, and the errors of the pool."""
    try:
        return engine.raw_connection()
    except psycopg2.Error as error:
        raise _translated(error, "", lost=False) from error


def _translated(error: psycopg2.Error, text: str, *, lost: bool) -> DBAPIError:
    """`error` as SQLAlchemy raises it in a session, without the values of the statement."""
    raised = DBAPIError.instance(text, None, error, psycopg2.Error, hide_parameters=True, connection_invalidated=lost)
    leave_values_out(raised, error)
    if not isinstance(raised, DBAPIError):
        raise TypeError("SQLAlchemy does not know psycopg2's errors any more")
    return raised


class ReadRows(Protocol):
    """Reads the rows of a query from one account's database. `context.rows` is one."""

    def __call__(self, query: RowQuery, values: Mapping[str, Any]) -> Rows:
        """Raises TenancyError."""
