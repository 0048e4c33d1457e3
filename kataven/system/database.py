"""The connection to the system database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from kataven.system.errors import SystemDatabaseUnavailable

CONNECT_TIMEOUT_SECONDS = 3
STATEMENT_TIMEOUT_SECONDS = 5
POOL_WAIT_SECONDS = 2


class SystemDatabase:
    """Sessions on the system database; connects on first use, so it may be built before a fork and used after it."""

    def __init__(self, url: str, pool_size: int = 2) -> None:
        self.url: URL = make_url(url)
        self._pool_size = pool_size
        self._engine = self._new_engine()

    def _new_engine(self) -> Engine:
        return create_engine(
            self.url,
            pool_size=self._pool_size,
            max_overflow=0,
            pool_timeout=POOL_WAIT_SECONDS,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={
                "connect_timeout": CONNECT_TIMEOUT_SECONDS,
                "application_name": "kataven system",
                "options": f"-c statement_timeout={STATEMENT_TIMEOUT_SECONDS}s -c timezone=UTC",
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
            _reachable(),
            self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
            Session(connection, expire_on_commit=False) as session,
        ):
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session in one transaction. Raises SystemDatabaseUnavailable."""
        with _reachable(), Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        self._engine.dispose()


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except (OperationalError, PoolTimeout) as error:
        raise SystemDatabaseUnavailable from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise SystemDatabaseUnavailable from error
        raise
