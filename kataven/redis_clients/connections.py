"""Connections of redis-py to one address, and the retries of clients."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, TypeVar

from redis import ConnectionPool
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import RedisError
from redis.retry import Retry

from kataven.redis_clients.not_primary import is_not_primary
from kataven.redis_clients.servers import NotPrimary, OneServer, RedisServers
from kataven.redis_url import RedisAddress

T = TypeVar("T")

NO_RETRY: Final = Retry(NoBackoff(), 0)


def retry_on_new_connection(*, resend: bool) -> Retry:
    """The retries of `redis_client`, for code that creates its own pool or connection."""
    return _RetryOnNewConnection(NoBackoff(), int(resend))


def connection_to(address: RedisAddress, **options: Any) -> Any:
    """A connection to one server, not connected yet. `options` are redis-py's, which does not type its connections."""
    kind, given = _class_and_options(address)
    return kind(**given, **options)


def pool_of(servers: RedisServers, **options: Any) -> ConnectionPool:
    """A pool of connections to one server, or to the primary that sentinels name."""
    kind, given = _class_and_options(servers.deployment.server)
    if isinstance(servers, OneServer):
        return ConnectionPool(kind, **given, **options)
    primary = _PrimaryTlsConnection if issubclass(kind, _TlsConnection) else _PrimaryConnection
    return _PrimaryPool(primary, servers=servers, **given, **options)


def pool_to(address: RedisAddress, **options: Any) -> ConnectionPool:
    """A pool of connections to one server."""
    kind, given = _class_and_options(address)
    return ConnectionPool(kind, **given, **options)


def ask(address: RedisAddress, timeout_seconds: float, *commands: tuple[str, ...]) -> list[Any]:
    """The replies to commands over a connection that is closed afterwards. Raises redis.RedisError."""
    connection = connection_to(
        address, **timeouts(timeout_seconds), retry=NO_RETRY, protocol=2, driver_info=None, decode_responses=True
    )
    try:
        connection.connect()
        for command in commands:
            connection.send_command(*command)
        return [connection.read_response() for _ in commands]
    finally:
        connection.disconnect()


def timeouts(seconds: float) -> dict[str, float]:
    """redis-py's options for one timeout for connecting and for each reply."""
    return {"socket_timeout": seconds, "socket_connect_timeout": seconds}


def verify_primary(connection: Any) -> None:
    """Raise NotPrimary, and close the connection, unless its server is a primary."""
    connection.send_command("ROLE")
    role = connection.read_response()
    if not role or role[0] not in {b"master", "master"}:
        connection.disconnect()
        raise NotPrimary("the server is not the primary")


def _class_and_options(address: RedisAddress) -> tuple[type[AbstractConnection], dict[str, Any]]:
    options: dict[str, Any] = {
        "username": address.username,
        "password": address.password,
        "client_name": address.client_name,
        "db": address.db,
    }
    if address.path is not None:
        return UnixDomainSocketConnection, {**options, "path": address.path}
    options |= {"host": address.host, "port": address.port}
    tls = address.tls_context()
    return (_TlsConnection, {**options, "tls_context": tls}) if tls else (Connection, options)


class _TlsConnection(SSLConnection):
    """Uses one TLS context. redis-py creates one per connection, which trusts the system's authorities as well."""

    def __init__(self, *, tls_context: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self._tls_context = tls_context

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> ssl.SSLSocket:
        return self._tls_context.wrap_socket(sock, server_hostname=self.host)


class _ToPrimary:
    """Asks the sentinels for the primary whenever it connects, and checks that the server has this role."""

    def __init__(self, *, servers: RedisServers, **options: Any) -> None:
        super().__init__(**options)
        self._servers = servers
        self.address: RedisAddress | None = None

    def connect(self) -> None:
        if self._sock is not None:  # type: ignore[attr-defined]
            return
        timeout = self.socket_connect_timeout  # type: ignore[attr-defined]
        self.address = self._servers.connect(0, self._connect_to, timeout, (RedisError,))

    def _connect_to(self, address: RedisAddress) -> RedisAddress:
        self.host, self.port = address.host, address.port
        super().connect()  # type: ignore[misc]
        verify_primary(self)
        return address


class _PrimaryConnection(_ToPrimary, Connection):
    """Without TLS."""


class _PrimaryTlsConnection(_ToPrimary, _TlsConnection):
    """With TLS."""


class _PrimaryPool(ConnectionPool):
    """Reconnects idle connections that lead to another server than the latest known primary."""

    def __init__(self, kind: type[Connection], servers: RedisServers, **options: Any) -> None:
        super().__init__(kind, servers=servers, **options)
        self._servers = servers

    def get_connection(self, *arguments: Any, **options: Any) -> Any:
        connection: Any = super().get_connection(*arguments, **options)
        if connection.address is not self._servers.primary:
            try:
                connection.disconnect()
                connection.connect()
            except BaseException:
                self.release(connection)
                raise
        return connection


class _RetryOnNewConnection(Retry):
    """Retries like redis-py, and once more on a new connection if the server is not the primary.

    redis-py's `fail` closes the connection, and `do` reconnects if it is closed.
    """

    def call_with_retry(
        self,
        do: Callable[[], T],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> T:
        def retryable(error: Exception) -> bool:
            return not is_not_primary(error) and (is_retryable is None or is_retryable(error))

        def call() -> T:
            try:
                return super(_RetryOnNewConnection, self).call_with_retry(do, fail, retryable, with_failure_count)
            except RedisError as error:
                if is_not_primary(error):
                    fail(error, 1) if with_failure_count else fail(error)
                raise

        try:
            return call()
        except RedisError as error:
            if not is_not_primary(error):
                raise
        return call()
