"""Creates redis-py clients for a Redis URL. Of the project, it imports only the URL parser.

A pooled connection can lead to a server that is no longer the primary: after a planned failover, the old primary keeps
its clients and returns `READONLY` errors. redis-py treats this as an ordinary error and returns the connection to its
pool, where the next call uses it again. The clients of this module close the connection and send the command once more
on a new one. This is safe for every command, because the server reported that it did not execute the command.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, TypeVar

from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.connection import SSLConnection, UnixDomainSocketConnection
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from kataven.redis_url import read_redis_url

T = TypeVar("T")

NOT_PRIMARY: Final = frozenset({"READONLY", "NOREPLICAS", "LOADING", "MASTERDOWN", "MOVED"})
"""Error codes of a server that did not execute the command, and whose successor may."""

# A rejected write in a script. Redis 7 returns the error code of the write; Redis 6 returns it after other text.
_IN_SCRIPT = re.compile(rf"@user_script.*-({'|'.join(sorted(NOT_PRIMARY))})\b")


def redis_client(url: str, *, timeout_seconds: float, decode_responses: bool = False, resend: bool = False) -> Redis:
    """A client with a pool. It connects on first use, so it can be created before a fork.

    `timeout_seconds` applies to connecting and to each reply. `resend`: whether a command is sent again if the
    connection is lost before its reply; the command may then run twice. Raises ValueError as `read_redis_url` does.
    """
    return Redis.from_pool(
        redis_pool(
            url,
            timeout_seconds=timeout_seconds,
            decode_responses=decode_responses,
            retry=retry_on_new_connection(resend=resend),
        )
    )


def redis_pool(
    url: str, *, timeout_seconds: float, retry: Retry, decode_responses: bool = False, protocol: int | None = None
) -> ConnectionPool:
    """A pool of connections with the given retries. `protocol`: RESP2 or 3; redis-py's default if omitted.

    Raises ValueError as `read_redis_url` does.
    """
    address = read_redis_url(url)
    options: dict[str, Any] = {
        "username": address.username,
        "password": address.password,
        "client_name": address.client_name,
        "db": address.db,
        "decode_responses": decode_responses,
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "retry": retry,
    }
    if protocol is not None:
        options["protocol"] = protocol
    if address.path is not None:
        return ConnectionPool(UnixDomainSocketConnection, path=address.path, **options)
    options |= {"host": address.host, "port": address.port}
    tls = address.tls_context()
    return ConnectionPool(_TlsConnection, tls_context=tls, **options) if tls else ConnectionPool(**options)


def retry_on_new_connection(*, resend: bool) -> Retry:
    """The retries of `redis_client`, for code that creates its own pool or connection."""
    return _RetryOnNewConnection(NoBackoff(), int(resend))


def is_not_primary(error: Exception) -> bool:
    """Whether a Redis error means that this server is not the primary."""
    if not isinstance(error, RedisError):
        return False
    return error.status_code in NOT_PRIMARY or (isinstance(error, ResponseError) and says_not_primary(str(error)))


def says_not_primary(message: str) -> bool:
    """The same for an error message from Redis, such as `READONLY You can't write against …`."""
    return message.partition(" ")[0] in NOT_PRIMARY or _IN_SCRIPT.search(message) is not None


class _TlsConnection(SSLConnection):
    """Uses one TLS context. redis-py creates one per connection, which trusts the system's authorities as well."""

    def __init__(self, *, tls_context: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self._tls_context = tls_context

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> ssl.SSLSocket:
        return self._tls_context.wrap_socket(sock, server_hostname=self.host)


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
