"""One reading of a Redis URL, and the clients that are made from it. A leaf: it imports nothing of ours.

A pooled connection can lead to a server that no longer is the primary: after a planned failover the old primary keeps
its clients and answers them `READONLY`. redis-py takes that for an ordinary answer and puts the connection back into
its pool, where the next call finds it. The clients made here close such a connection and send the command once more on
a new one. That is safe for every command: the server said that it did nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import SplitResult, parse_qsl, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

T = TypeVar("T")

SCHEMES: Final = ("redis", "rediss", "unix")
NOT_PRIMARY: Final = frozenset({"READONLY", "NOREPLICAS", "LOADING", "MASTERDOWN", "MOVED"})
"""The error codes with which a server says that it did nothing, and that another server might."""

# A script's refused write. Redis 7 answers with the code of the write; Redis 6 puts it behind words of its own.
_WITHIN_A_SCRIPT = re.compile(rf"@user_script.*-({'|'.join(sorted(NOT_PRIMARY))})\b")
_OPTIONS: Final = ("client_name", "db", "password", "ssl_ca_certs", "username")
"""What a URL may say behind `?`. An option of the URL wins over an argument, so a timeout there would end a promise."""


def redis_client(url: str, *, timeout_seconds: float, decode_responses: bool = False, resend: bool = False) -> Redis:
    """A client with a pool. It connects on first use, so it may be made before a fork.

    `timeout_seconds`: the longest wait for a connection, and for an answer. `resend`: whether a command whose
    connection broke before its answer came is sent once more; it may then run twice. Raises ValueError as
    `check_redis_url` does.
    """
    check_redis_url(url)
    return Redis.from_url(
        url,
        decode_responses=decode_responses,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=retry_on_new_connection(resend=resend),
    )


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


def check_redis_url(url: str) -> None:
    """Raise ValueError, with what to write instead, unless `url` names one server that a client can be made for.

    The text never repeats the URL, which may hold a password.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("is not a URL; write redis://host:6379/0") from None
    if parts.scheme not in SCHEMES:
        raise ValueError("must begin with redis://, rediss:// or unix://")
    if parts.scheme == "unix":
        if not parts.path or parts.netloc.rpartition("@")[2]:
            raise ValueError("must name the socket by its whole path, as in unix:///run/redis/redis.sock?db=0")
    else:
        _check_server(parts)
    _check_options(parts.query)


def _check_server(parts: SplitResult) -> None:
    if "," in parts.netloc.rpartition("@")[2]:
        raise ValueError(
            "names several servers, and a client connects to one; name the address that leads to the primary, "
            "such as a TCP proxy's, as in redis://redis.internal:6379/0"
        )
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("has a port that is not a number from 1 to 65535; write redis://host:6379/0")
    if parts.path not in {"", "/"} and not parts.path[1:].isdecimal():
        raise ValueError("has a path that is not the number of a database; write redis://host:6379/0")


def _check_options(query: str) -> None:
    given = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(set(given).difference(_OPTIONS))
    if unknown:
        raise ValueError(f"has the option {unknown[0]!r}; the options are {', '.join(_OPTIONS)}")
    if not given.get("db", "0").isdecimal():
        raise ValueError("has a 'db' that is not the number of a database; write ?db=0")


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
