"""A connection through a pooler such as PgBouncer, which gives each transaction another session.

What belongs to a session is lost: the timeouts of the `options`, and the checks made when connecting, because the
pooler can lead the same connection to another server. So each transaction carries both, in the message of its first
statement: it has its own timeouts, and it fails before that statement if the server is a standby or has another
timeline. This costs no round trip: PostgreSQL executes several statements of one message as one transaction.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any

from psycopg2 import Error, InterfaceError, OperationalError
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from psycopg2.extensions import cursor as Psycopg2Cursor  # noqa: N812
from psycopg2.sql import Composable

from kataven.tenancy.pg_connection import ConnectionSettings, PgConnection, ServerFacts

logger = logging.getLogger(__name__)

_INVALID_PARAMETER_VALUE = "22023"
_STANDBY = "kataven: the pooler now leads to a standby"
_TIMELINE = "kataven: the pooler now leads to a server with another timeline"


def transaction_prefix(settings: ConnectionSettings, server: ServerFacts | None) -> str:
    """The statements before the first one of each transaction. `server` is that of `SessionFacts`."""
    parameters = {**settings.timeouts(), "timezone": "UTC"}
    statement_timeout = parameters.pop("statement_timeout")
    # A database that Kataven has made read-only must remain so, so the check is not `SET TRANSACTION READ WRITE`.
    checks = f"WHEN pg_is_in_recovery() THEN '{_STANDBY}' "
    if server is not None:
        timeline = f"{server.instance.timeline:08X}"
        checks += f"WHEN left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) <> '{timeline}' THEN '{_TIMELINE}' "
    return (
        "SET LOCAL transaction_isolation = 'read committed'; "  # can't be changed after a query
        # A text that is no timeout ends the transaction with an error that quotes it.
        f"SELECT set_config('statement_timeout', CASE {checks}ELSE '{statement_timeout}' END, true)"
        + "".join(f", set_config('{name}', '{value}', true)" for name, value in parameters.items())
        + "; "
    )


class PooledConnection(PgConnection):
    """A connection whose transactions start with `prefix`, as soon as it is set."""

    prefix = ""

    def cursor(self, *args: Any, **options: Any) -> Any:
        """As in psycopg2, without server-side cursors."""
        if (args and args[0] is not None) or options.get("name") is not None:
            raise InterfaceError("a server-side cursor can't be used through a pooler")
        return super().cursor(*args, **{"cursor_factory": PooledCursor, **options})


class PooledCursor(Psycopg2Cursor):
    """Sends the connection's prefix with the first statement of each transaction. The results are the statement's."""

    connection: PooledConnection

    def execute(self, query: str | bytes | Composable, vars: Any = None) -> None:  # noqa: A002 - psycopg2's name
        """As in psycopg2."""
        self._run(super().execute, query, vars)

    def executemany(self, query: str | bytes | Composable, vars_list: Iterable[Any]) -> None:
        """As in psycopg2. Without a transaction, each execution has the prefix."""
        self._run(super().executemany, query, vars_list)

    def _run(self, execute: Callable[[Any, Any], None], query: str | bytes | Composable, values: Any) -> None:
        prefix = self.connection.prefix
        if prefix and self.connection.get_transaction_status() == TRANSACTION_STATUS_IDLE:
            text = query.as_string(self) if isinstance(query, Composable) else query
            query = prefix.encode() + text if isinstance(text, bytes) else prefix + text
        try:
            execute(query, values)
        except Error as error:
            reason = _other_server(error)
            if reason is None:
                raise
            logger.warning("%s; the connection is closed", reason)
            self.connection.close()  # its next user connects again, which reads the server's history
            raise OperationalError(reason) from None


def _other_server(error: Error) -> str | None:
    """Which check of the prefix has failed. The message is in the server's language, and quotes the text."""
    if error.pgcode != _INVALID_PARAMETER_VALUE:
        return None
    message = error.diag.message_primary or ""
    return next((text for text in (_STANDBY, _TIMELINE) if text in message), None)
