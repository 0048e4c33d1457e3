"""The clients that redis-py makes for a Redis URL. A leaf: it imports nothing of ours but how URLs are read.

A pooled connection can lead to a server that no longer is the primary: after a planned failover the old primary keeps
its clients and answers them `READONLY`. redis-py takes that for an ordinary answer and puts the connection back into
its pool, where the next call finds it. The clients made here close such a connection and send the command once more on
a new one. That is safe for every command: the server said that it did nothing.
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
"""The error codes with which a server says that it did nothing, and that another server might."""

# A script's refused write. Redis 7 answers with the code of the write; Redis 6 puts it behind words of its own.
_WITHIN_A_SCRIPT = re.compile(rf"@user_script.*-({'|'.join(sorted(NOT_PRIMARY))})\b")


def redis_client(url: str, *, timeout_seconds: float, decode_responses: bool = False, resend: bool = False) -> Redis:
    """A client with a pool. It connects on first use, so it may be made before a fork.

    `timeout_seconds`: the longest wait for a connection, and for an answer. `resend`: whether a command whose
    connection broke before its answer came is sent once more; it may then run twice. Raises ValueError as
    `read_redis_url` does.
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
    """A pool of connections that retry as `retry` says. `protocol`: RESP2 or 3, as redis-py chooses if left out.

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
    """What `redis_client` gives to redis-py, for code that makes a pool or a connection of its own."""
    return _RetryOnNewConnection(NoBackoff(), int(resend))


def is_not_primary(error: Exception) -> bool:
    """Whether a Redis error says that this server is not the one to ask."""
    if not isinstance(error, RedisError):
        return False
    return error.status_code in NOT_PRIMARY or (isinstance(error, ResponseError) and says_not_primary(str(error)))


def says_not_primary(answer: str) -> bool:
    """The same for an error's text as Redis sends it, such as `READONLY You can't write against …`."""
    return answer.partition(" ")[0] in NOT_PRIMARY or _WITHIN_A_SCRIPT.search(answer) is not None


class _TlsConnection(SSLConnection):
    """redis-py's own builds a context for each connection, which trusts the system's authorities beside a given one."""

    def __init__(self, *, tls_context: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self._tls_context = tls_context

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> ssl.SSLSocket:
        return self._tls_context.wrap_socket(sock, server_hostname=self.host)


class _RetryOnNewConnection(Retry):
    """Retries as redis-py's own does, and once more, on a new connection, where the server is not the primary.

    `fail`, redis-py's own, closes the connection; `do` opens it again when it is closed.
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
