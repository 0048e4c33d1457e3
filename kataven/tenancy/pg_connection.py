"""One connection to PostgreSQL: how it is opened, checked, cut and closed.

It adds a second descriptor of the same socket to psycopg2's connection. With this descriptor, another thread can cut a
connection that hangs (the server enforces statement timeouts, so an unresponsive server does not), and a close can wait
until the backend has exited, so that a cap on connections also holds in `pg_stat_activity`.
"""

import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg2 import Error, InterfaceError
from psycopg2.extensions import connection as Psycopg2Connection  # noqa: N812
from sqlalchemy import URL

# A backend exits within 1 or 2 ms, and within this time on a machine with ten times its normal load. If it takes
# longer, for example because it is frozen, the closing thread waits this long once, and the connection counts until the
# backend has exited.
_LINGER_SECONDS = 1.0

OPTIONS_MARK = "kataven.options"
"""A parameter in the `options` of each direct connection. If the session lacks it, a pooler has dropped the options."""
# The second column is NULL on a server in recovery, which has no current WAL file.
_SESSION = f"pg_is_in_recovery(), current_setting('{OPTIONS_MARK}', true) = 'on', pg_backend_pid()"
_SESSION_WITH_HISTORY = f"""
SELECT (SELECT system_identifier FROM pg_control_system()), substr(
    CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_walfile_name(pg_current_wal_insert_lsn()) END, 1, 8
), pg_postmaster_start_time() AT TIME ZONE 'UTC', {_SESSION}
"""  # noqa: S608 - constants
_CONNECTION_CLASSES = frozenset({"08", "57"})


@dataclass(frozen=True, slots=True)
class ServerInstance:
    """A running server, from its start to its end or to its promotion. Each start has another `started_at`."""

    started_at: str
    """In UTC and in microseconds, such as `2026-01-31 12:00:00.123456+00`."""
    timeline: int


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """A server that accepts writes."""

    history: str
    """The server's system identifier and timeline."""
    instance: ServerInstance


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What a new connection reads about its server and its session, in one round trip."""

    server: ServerFacts | None
    """None if the server does not report this, or is in recovery."""
    in_recovery: bool
    has_options: bool
    """Whether the session has the `options` of `ConnectionSettings`."""
    is_own: bool
    """Whether the session's process is the one that the server named when connecting. Poolers name another."""


class PgConnection(Psycopg2Connection):
    """A psycopg2 connection that can be cut from another thread.

    `lingering` receives the socket of a closed connection whose backend still runs; see `is_closed_by_server`.
    """

    def __init__(self, dsn: str, *, lingering: Callable[[socket.socket], None] | None = None, **options: Any) -> None:
        self._descriptor = -1
        self._lingering = lingering
        self._closing = threading.Lock()  # after a close, the descriptor's number can belong to another file
        self._process = os.getpid()
        self.busy_since: float | None = None  # set and read with the lock of the connection budget held
        super().__init__(dsn, **options)
        self._descriptor = os.dup(self.fileno())

    def is_alive(self) -> bool:
        """Whether the idle connection is still open. One system call and no round trip.

        A server sends nothing on an idle connection, except a termination message or the end of the stream.
        """
        if self.closed:
            return False
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN | select.POLLERR | select.POLLHUP)
        return not poll.poll(0)

    def is_standby(self) -> bool:
        """Whether the server is in recovery. The server reports this when connecting, so it costs no round trip."""
        return bool(self.info.parameter_status("in_hot_standby") == "on")

    def read_facts(self) -> SessionFacts:
        """Facts about the server and the session. Call it in AUTOCOMMIT.

        The control file has the timeline only after the first checkpoint of a promoted server, so the current WAL file
        is used. All roles may call these functions. Some managed services don't provide them.
        """
        try:
            return self._read_facts(_SESSION_WITH_HISTORY)
        except Error as error:
            if error.pgcode is None or error.pgcode[:2] in _CONNECTION_CLASSES:
                raise
        return self._read_facts(f"SELECT NULL, NULL, NULL, {_SESSION}")

    def _read_facts(self, query: str) -> SessionFacts:
        with self.cursor() as cursor:
            cursor.execute(query)
            identifier, timeline, started_at, in_recovery, has_options, pid = cursor.fetchone()
        is_own = pid == self.info.backend_pid
        return SessionFacts(
            _server_facts(identifier, timeline, started_at), bool(in_recovery), bool(has_options), is_own
        )

    def cut(self) -> None:
        """Shut the socket down. A statement that waits on it in another thread fails with a disconnect error."""
        with self._closing:
            if self._descriptor < 0:
                return
            sock = socket.socket(fileno=os.dup(self._descriptor))
        with contextlib.suppress(OSError), sock:
            sock.shutdown(socket.SHUT_RDWR)

    def cursor(self, *args: Any, **options: Any) -> Any:
        """As in psycopg2. Raises InterfaceError in a forked child: two processes must not share a socket."""
        if self._process != os.getpid():
            raise InterfaceError("connection opened by another process")
        return super().cursor(*args, **options)

    def rollback(self) -> None:
        """As in psycopg2. Does nothing in a forked child, because the transaction is the parent's.

        In AUTOCOMMIT no transaction exists, and psycopg2 would release the interpreter lock only to find that out.
        """
        if not self.autocommit and self._process == os.getpid():
            super().rollback()

    def close(self) -> None:
        """Close, and wait up to a second until the server has closed too. Does nothing in a forked child."""
        if self._process != os.getpid():
            return
        super().close()
        with self._closing:
            descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        sock = socket.socket(fileno=descriptor)
        if not is_closed_by_server(sock, _LINGER_SECONDS) and self._lingering is not None:
            self._lingering(sock)
        else:
            sock.close()

    def __del__(self) -> None:
        # Also in a forked child, where this closes the child's copy and does not affect the parent's backend.
        if self._descriptor >= 0:
            os.close(self._descriptor)


def _server_facts(identifier: int | None, timeline: str | None, started_at: datetime | None) -> ServerFacts | None:
    if identifier is None or timeline is None or started_at is None:
        return None
    number = int(timeline, 16)
    return ServerFacts(f"{identifier}/{number}", ServerInstance(f"{started_at.isoformat(' ')}+00", number))


def is_closed_by_server(sock: socket.socket, seconds: float = 0.0) -> bool:
    """Whether the server closes the connection within this time."""
    sock.settimeout(seconds)
    try:
        while sock.recv(4096):
            pass
    except (BlockingIOError, TimeoutError):
        return False
    except OSError:  # reset, or timed out in the kernel
        return True
    return True


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """Timeouts of every connection of a registry, and its name in `pg_stat_activity`.

    The server ends an idle transaction before a process that waits for its locks times out: a process that is paused
    within a transaction must not prevent other processes from revoking the key whose row it has locked.
    """

    application_name: str = "kataven"
    connect_timeout_seconds: int = 2  # libpq takes whole seconds, and reads 1 as 2
    statement_timeout_seconds: float = 5.0
    lock_timeout_seconds: float = 3.0
    idle_in_transaction_timeout_seconds: float = 2.0

    def connect_args(self, url: URL, *, pooled: bool = False) -> dict[str, Any]:
        """libpq's parameters, in addition to those in `url`. `options` in the URL follow these, and take precedence.

        Poolers refuse or drop `options`. With `pooled`, they are omitted, and each statement carries the timeouts: see
        `PooledConnection`.
        """
        return {
            "application_name": self.application_name,
            "connect_timeout": self.connect_timeout_seconds,
            **({} if pooled else {"options": self._options(url)}),
            # A host that is down acknowledges nothing: the kernel closes the connection after this time.
            "tcp_user_timeout": round(self.statement_timeout_seconds * 2000),
            "keepalives_idle": 30,
        }

    def timeouts(self) -> dict[str, int]:
        """PostgreSQL's timeout parameters, in milliseconds."""
        timeouts = {
            "statement_timeout": self.statement_timeout_seconds,
            "lock_timeout": self.lock_timeout_seconds,
            "idle_in_transaction_session_timeout": self.idle_in_transaction_timeout_seconds,
        }
        return {name: round(seconds * 1000) for name, seconds in timeouts.items()}

    def _options(self, url: URL) -> str:
        ours = rf"-c {OPTIONS_MARK}=on -c timezone=UTC -c default_transaction_isolation=read\ committed " + " ".join(
            f"-c {name}={value}" for name, value in self.timeouts().items()
        )
        theirs = url.query.get("options", "")
        return f"{ours} {theirs if isinstance(theirs, str) else ' '.join(theirs)}".strip()
