"""One connection to PostgreSQL: how it is opened, checked, cut and closed.

It adds to psycopg2's connection a second descriptor of the same socket. Through it, another thread can cut a
connection that hangs (a statement timeout is the server's, so it is silent when the server is), and a close can wait
until the backend is gone, so that a cap on connections is also true in `pg_stat_activity`.
"""

import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from psycopg2 import InterfaceError
from psycopg2.extensions import connection as Psycopg2Connection  # noqa: N812
from sqlalchemy import URL

# A backend exits within a millisecond or two, and within this on a machine that is ten times overloaded. One that takes
# longer, since it is frozen, say, holds up whoever closes it for so long, once, and is then counted until it is gone.
_LINGER_SECONDS = 1.0


class PgConnection(Psycopg2Connection):
    """A psycopg2 connection that can be cut from another thread.

    `outlived` is given the socket of a connection that is closed while its backend lives on; see `is_over`.
    """

    def __init__(self, dsn: str, *, outlived: Callable[[socket.socket], None] | None = None, **options: Any) -> None:
        self._descriptor = -1
        self._outlived = outlived
        self._handover = threading.Lock()  # a descriptor's number is somebody else's as soon as it is closed
        self._process = os.getpid()
        self.busy_since: float | None = None  # set and read under the lock of the pool's ledger
        super().__init__(dsn, **options)
        self._descriptor = os.dup(self.fileno())

    def is_quiet(self) -> bool:
        """Whether nothing has arrived while nothing was asked. Costs one system call and no round trip.

        An idle server has nothing to say: what can be read is its farewell, or the end of the stream.
        """
        if self.closed:
            return False
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN | select.POLLERR | select.POLLHUP)
        return not poll.poll(0)

    def cut(self) -> None:
        """Shut the socket down under whoever waits on it: its statement fails as a disconnect."""
        with self._handover:
            if self._descriptor < 0:
                return
            wire = socket.socket(fileno=os.dup(self._descriptor))
        with contextlib.suppress(OSError), wire:
            wire.shutdown(socket.SHUT_RDWR)

    def cursor(self, *args: Any, **options: Any) -> Any:
        """As in psycopg2. Raises InterfaceError in a forked child: two processes must not talk on one socket."""
        if self._process != os.getpid():
            raise InterfaceError("connection opened by another process")
        return super().cursor(*args, **options)

    def rollback(self) -> None:
        """As in psycopg2; in a forked child, nothing, since the transaction is the parent's.

        In AUTOCOMMIT there is none to roll back, and psycopg2 would hand over the interpreter to find that out.
        """
        if not self.autocommit and self._process == os.getpid():
            super().rollback()

    def close(self) -> None:
        """Say goodbye and wait, not for long, until the server has let go; in a forked child, nothing."""
        if self._process != os.getpid():
            return
        super().close()
        with self._handover:
            descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        wire = socket.socket(fileno=descriptor)
        if not is_over(wire, _LINGER_SECONDS) and self._outlived is not None:
            self._outlived(wire)
        else:
            wire.close()

    def __del__(self) -> None:
        # Also in a forked child, where this closes the child's copy and says nothing to the parent's backend.
        if self._descriptor >= 0:
            os.close(self._descriptor)


def is_over(wire: socket.socket, seconds: float = 0.0) -> bool:
    """Whether the other side has let go of `wire`, within this time."""
    wire.settimeout(seconds)
    try:
        while wire.recv(4096):
            pass
    except (BlockingIOError, TimeoutError):
        return False
    except OSError:  # reset, or given up on by the kernel
        return True
    return True


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """What every connection of a registry asks of the server, and how it names itself in `pg_stat_activity`.

    A transaction that says nothing is ended before somebody who waits for its locks gives up: a process that was
    stopped in the middle of one must not keep the others from revoking the key that it was writing about.
    """

    application_name: str = "kataven"
    connect_timeout_seconds: int = 2  # libpq takes whole seconds, and reads 1 as 2
    statement_timeout_seconds: float = 5.0
    lock_timeout_seconds: float = 3.0
    idle_in_transaction_timeout_seconds: float = 2.0

    def connect_args(self, url: URL) -> dict[str, Any]:
        """libpq's parameters, to go beside those in `url`; `options` that the URL brings are kept, after ours."""
        timeouts = {
            "statement_timeout": self.statement_timeout_seconds,
            "lock_timeout": self.lock_timeout_seconds,
            "idle_in_transaction_session_timeout": self.idle_in_transaction_timeout_seconds,
        }
        ours = r"-c timezone=UTC -c default_transaction_isolation=read\ committed " + " ".join(
            f"-c {name}={round(seconds * 1000)}" for name, seconds in timeouts.items()
        )
        theirs = url.query.get("options", "")
        return {
            "application_name": self.application_name,
            "connect_timeout": self.connect_timeout_seconds,
            "options": f"{ours} {theirs if isinstance(theirs, str) else ' '.join(theirs)}".strip(),
            # A host that is gone says nothing at all: give up on unacknowledged data after this long.
            "tcp_user_timeout": round(self.statement_timeout_seconds * 2000),
            "keepalives_idle": 30,
        }
