"""The connection to the system database."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

import psycopg2
from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from kataven.system.errors import SystemDatabaseUnavailable
from kataven.system.watch import Watch
from kataven.tenancy.dialect import DRIVER, SharedServerState
from kataven.tenancy.error_classification import fault_of
from kataven.tenancy.serving.breaker import Breaker

CONNECT_TIMEOUT_SECONDS = 2
STATEMENT_TIMEOUT_SECONDS = 3
POOL_WAIT_SECONDS = 2
PATIENCE_SECONDS = STATEMENT_TIMEOUT_SECONDS + 1
"""A server that says nothing for so long, and lets its own timeout pass, is given up on."""
BREAKER_FAILURES, BREAKER_PAUSE_SECONDS, BREAKER_LONGEST_PAUSE_SECONDS = 3, 0.25, 2.0


class SystemDatabase:
    """Sessions on the system database; connects on first use. A forked child leaves its parent's connections alone.

    When it could not be reached a few times in a row, requests are refused at once for a moment, so that they don't
    hold the threads of those that need nothing from it.
    """

    def __init__(self, url: str, pool_size: int = 2) -> None:
        self.url: URL = make_url(url)
        self._pool_size = pool_size
        self._begin()
        _databases.add(self)

    def _begin(self) -> None:
        self._watch = Watch(PATIENCE_SECONDS)
        self._breaker = Breaker(BREAKER_FAILURES, BREAKER_PAUSE_SECONDS, BREAKER_LONGEST_PAUSE_SECONDS)
        self._breaking = threading.Lock()
        self._engine = self._new_engine()

    def after_fork(self) -> None:
        """Start anew. Runs by itself in the child of an `os.fork()`."""
        self._begin()

    def _new_engine(self) -> Engine:
        # Tenancy's dialect: in and out of AUTOCOMMIT, and the look whether a connection is alive, without a round trip.
        return create_engine(
            self.url.set(drivername=DRIVER),
            server=SharedServerState(),
            pool_size=self._pool_size,
            max_overflow=0,
            pool_timeout=POOL_WAIT_SECONDS,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={
                "connection_factory": self._watch.connect,
                "connect_timeout": CONNECT_TIMEOUT_SECONDS,
                "application_name": "kataven system",
                "options": f"-c statement_timeout={STATEMENT_TIMEOUT_SECONDS}s -c timezone=UTC "
                r"-c default_transaction_isolation=read\ committed",
                # A server that is gone without a word is noticed by the kernel, not only by our patience.
                "tcp_user_timeout": CONNECT_TIMEOUT_SECONDS * 1000,
            },
        )

    @property
    def engine(self) -> Engine:
        return self._engine

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session in AUTOCOMMIT. Raises SystemDatabaseUnavailable."""
        with (
            self._reachable(),
            self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
            Session(connection, expire_on_commit=False) as session,
        ):
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session in one transaction. Raises SystemDatabaseUnavailable."""
        with self._reachable(), Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        with self._breaking:
            if self._breaker.admit(time.monotonic()):
                raise SystemDatabaseUnavailable
        answered: bool | None = None
        try:
            yield
            answered = True
        except PoolTimeout as error:
            raise SystemDatabaseUnavailable from error
        except DBAPIError as error:
            fault = fault_of(error)
            answered = fault is None or not fault.is_down
            if fault is not None:
                raise SystemDatabaseUnavailable from error
            raise
        except psycopg2.Error as error:  # SQLAlchemy sets the isolation level outside of what it translates
            answered = False
            raise SystemDatabaseUnavailable from error
        finally:
            self._settle(answered)

    def _settle(self, answered: bool | None) -> None:
        with self._breaking:
            if answered is None:
                self._breaker.unsettled()
            elif answered:
                self._breaker.succeeded()
            else:
                self._breaker.failed(time.monotonic())


_databases: WeakSet[SystemDatabase] = WeakSet()


def _renew_databases() -> None:
    for database in list(_databases):
        database.after_fork()


os.register_at_fork(after_in_child=_renew_databases)
