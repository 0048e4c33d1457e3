"""A connection to PostgreSQL itself. It checks with its first statement that it leads to the expected server instance.

The check is sent in the message of the first statement, so it costs no round trip: PostgreSQL executes several
statements of one message as one transaction, and a failed check prevents the statement. The history of the server is
then read in a separate round trip, and the statement is sent again.

The check compares the start time of the server instead of its system identifier. Reading that from the control file
takes a new backend longer than the round trip. Another server, or a restored one, has another start time.
"""

from collections.abc import Callable, Iterable
from typing import Any

from psycopg2 import Error
from psycopg2.extensions import cursor as Psycopg2Cursor  # noqa: N812
from psycopg2.sql import Composable

from kataven.tenancy.pg_connection import OPTIONS_MARK, PgConnection, ServerInstance
from kataven.tenancy.prepared_statements import PreparedStatements, is_marked, is_outdated

_INVALID_TEXT = "22P02"
_IN_TRANSACTION_BLOCK = "25001"
_OTHER_INSTANCE = "kataven: the server or its history may be another one, which is checked next"

Expected = Callable[[], ServerInstance | None]
"""Returns the instance that the connection should lead to; None if none is known."""


def instance_check(expected: ServerInstance) -> str:
    """A statement that fails if the session is on another instance or timeline, or lacks its options."""
    # The cast fails when the statement is executed, not when it is planned: the condition is no constant.
    return (
        f"SELECT (CASE WHEN pg_is_in_recovery() THEN '{_OTHER_INSTANCE}'"
        f" WHEN left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) = '{expected.timeline:08X}'"
        f" AND pg_postmaster_start_time() = '{expected.started_at}'"
        f" AND current_setting('{OPTIONS_MARK}', true) = 'on' THEN 'on' ELSE '{_OTHER_INSTANCE}' END)::bool; "
    )


class DirectConnection(PgConnection):
    """A connection that is unchecked after `check_with_first_statement`, until a statement succeeds.

    `prepared` contains its prepared statements, and is set once the connection is known to lead to PostgreSQL itself.
    """

    prepared: PreparedStatements | None = None
    _expected: Expected | None = None
    _examine: Callable[[], None]

    def check_with_first_statement(self, expected: Expected, examine: Callable[[], None]) -> None:
        """Check with the first statement. If that fails, `examine` reads the server's history. It is called in
        AUTOCOMMIT, and its exceptions propagate from the statement."""
        self._expected, self._examine = expected, examine

    def cursor(self, *args: Any, **options: Any) -> Any:
        """As in psycopg2. For cursors of other classes and server-side cursors, the connection is checked first."""
        if not args and not options:
            return super().cursor(cursor_factory=DirectCursor)
        self.check_now()
        return super().cursor(*args, **options)

    def check_now(self) -> None:
        """Read the server's history in a round trip, if the connection is unchecked and not in a transaction."""
        if self._expected is None:
            return
        self._expected = None
        was_autocommit = self.autocommit
        try:
            self.autocommit = True
            self._examine()
            self.autocommit = was_autocommit
        except BaseException:
            self.close()
            raise

    def take_check(self) -> str | None:
        """The check to send with a statement; None if the connection was checked."""
        if self._expected is None:
            return None
        expected = self._expected()
        if expected is None:
            self.check_now()
            return None
        return instance_check(expected)

    def passed(self) -> None:
        """The check was executed together with a statement."""
        self._expected = None


class DirectCursor(Psycopg2Cursor):
    """Sends the connection's check with its first statement, and prepares marked statements. The results are the
    statement's."""

    connection: DirectConnection

    def execute(self, query: str | bytes | Composable, vars: Any = None) -> None:  # noqa: A002 - psycopg2's name
        """As in psycopg2."""
        statements = self.connection.prepared
        if statements is None or not isinstance(query, str) or not is_marked(query, vars):
            self._execute_checked(query, vars)
            return
        prepared = statements.find(query)
        try:
            self._execute_checked(prepared.message, vars)
        except Error as error:
            if not is_outdated(error):
                raise
            statements.forget(query)
            if not self.connection.autocommit:
                raise
            self._execute_checked(query, vars)
        else:
            statements.executed(query, prepared)

    def _execute_checked(self, query: str | bytes | Composable, values: Any) -> None:
        check = self.connection.take_check()
        if check is None:
            super().execute(query, values)
            return
        text = query.as_string(self) if isinstance(query, Composable) else query
        try:
            super().execute(check.encode() + text if isinstance(text, bytes) else check + text, values)
        except Error as error:
            if not _must_be_sent_alone(error):
                raise  # the next statement is sent with the check again: after a syntax error, none was executed
        else:
            self.connection.passed()
            return
        if not self.connection.autocommit:
            self.connection.rollback()  # only this statement was executed in the transaction
        self.connection.check_now()
        super().execute(query, values)

    def executemany(self, query: str | bytes | Composable, vars_list: Iterable[Any]) -> None:
        """As in psycopg2."""
        self.connection.check_now()
        super().executemany(query, vars_list)

    def callproc(self, *args: Any, **options: Any) -> Any:
        """As in psycopg2."""
        self.connection.check_now()
        return super().callproc(*args, **options)

    def copy_expert(self, *args: Any, **options: Any) -> None:
        """As in psycopg2, also for `copy_from` and `copy_to`."""
        self.connection.check_now()
        super().copy_expert(*args, **options)


def _must_be_sent_alone(error: Error) -> bool:
    """Whether the check failed, or the statement can't be executed together with another one, such as VACUUM."""
    if error.pgcode == _INVALID_TEXT:
        return _OTHER_INSTANCE in (error.diag.message_primary or "")
    return error.pgcode == _IN_TRANSACTION_BLOCK
