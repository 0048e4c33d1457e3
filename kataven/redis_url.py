"""Parses a Redis URL for every Redis client. Imports no other module of the project.

redis-py parses URLs differently: it passes every query parameter to its connections, so a URL could change timeouts or
disable the verification of certificates. The limiter has its own client. Both get the address from this module, so a
URL means the same for all clients, and an invalid URL stops the process at startup.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

SCHEMES: Final = ("redis", "rediss", "unix")
DEFAULT_PORT: Final = 6379
TLS_OPTIONS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile")
OPTIONS: Final = ("client_name", "db", "password", *TLS_OPTIONS, "username")
"""The accepted query parameters."""


@dataclass(frozen=True, slots=True)
class RedisTls:
    """PEM files: the authorities that the server's certificate is verified with (None: the system's), and the client's
    certificate chain and private key, if the server requires them.
    """

    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    """None if the key is in `certfile`."""


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """The address and credentials of one server. `path` is that of a Unix socket; `host` is then unused."""

    host: str = "localhost"
    port: int = DEFAULT_PORT
    path: str | None = None
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    client_name: str | None = None
    tls: RedisTls | None = None

    def tls_context(self) -> ssl.SSLContext | None:
        """The TLS context, which always verifies the server's certificate and host name; None without TLS.

        Raises OSError if a file can't be used.
        """
        return None if self.tls is None else _context(self.tls)


def read_redis_url(url: str) -> RedisAddress:
    """The address in `url`. Raises ValueError with the correction unless the URL names exactly one server.

    The message never contains the URL, which may contain a password.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("is not a URL; write redis://host:6379/0") from None
    if parts.scheme not in SCHEMES:
        raise ValueError("must start with redis://, rediss:// or unix://")
    options = _options(parts)
    username = unquote(parts.username) if parts.username else options.get("username")
    password = unquote(parts.password) if parts.password else options.get("password")
    client_name = options.get("client_name")
    if parts.scheme == "unix":
        if not parts.path or parts.netloc.rpartition("@")[2]:
            raise ValueError("must contain the absolute path of the socket, as in unix:///run/redis/redis.sock?db=0")
        return RedisAddress(
            path=unquote(parts.path),
            db=int(options.get("db", "0")),
            username=username,
            password=password,
            client_name=client_name,
        )
    return RedisAddress(
        host=unquote(parts.hostname or "localhost"),
        port=_port(parts),
        db=_database(parts, options),
        username=username,
        password=password,
        client_name=client_name,
        tls=_tls(options) if parts.scheme == "rediss" else None,
    )


def check_redis_url(url: str) -> None:
    """Raise ValueError with the correction unless clients can connect with `url`. Reads its TLS files."""
    try:
        read_redis_url(url).tls_context()
    except OSError as error:  # ssl.SSLError is one
        why = error.strerror if error.filename is None and error.strerror else "a file can't be read"
        why = "no usable PEM content" if isinstance(error, ssl.SSLError) else why
        raise ValueError(
            f"names a TLS file that can't be used ({why}); ssl_ca_certs, ssl_certfile and ssl_keyfile must be PEM "
            "files that this process can read, and the key must not have a passphrase"
        ) from None


def _options(parts: SplitResult) -> dict[str, str]:
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    given = dict(pairs)
    for name in sorted(given):
        if name not in OPTIONS:
            raise ValueError(f"has the unknown option {name!r}; the options are {', '.join(OPTIONS)}")
        if not given[name]:
            raise ValueError(f"has the option {name!r} without a value; write ?{name}=… or omit it")
        if [one for one, _ in pairs].count(name) > 1:
            raise ValueError(f"has the option {name!r} twice; write it once")
        if name in TLS_OPTIONS and parts.scheme != "rediss":
            raise ValueError(f"has the option {name!r}, which requires TLS; start the URL with rediss://")
    if not given.get("db", "0").isdecimal():
        raise ValueError("has a 'db' that is not a database number; write ?db=0")
    return given


def _port(parts: SplitResult) -> int:
    if "," in parts.netloc.rpartition("@")[2]:
        raise ValueError(
            "names several servers; a client connects to one. Use the address of the primary, or of a TCP proxy in "
            "front of it, as in redis://redis.internal:6379/0"
        )
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("has a port that is not a number from 1 to 65535; write redis://host:6379/0")
    return DEFAULT_PORT if port is None else port


def _database(parts: SplitResult, options: dict[str, str]) -> int:
    if parts.path in {"", "/"}:
        return int(options.get("db", "0"))
    if not parts.path[1:].isdecimal():
        raise ValueError("has a path that is not a database number; write redis://host:6379/0")
    return int(options.get("db", parts.path[1:]))


def _tls(options: dict[str, str]) -> RedisTls:
    if options.get("ssl_check_hostname", "true").lower() not in {"true", "yes", "1"}:
        raise ValueError(
            "disables 'ssl_check_hostname', which is always enabled; use a host name that the server's certificate "
            "contains"
        )
    if "ssl_keyfile" in options and "ssl_certfile" not in options:
        raise ValueError("has the option 'ssl_keyfile' without 'ssl_certfile'; add the certificate of the key")
    return RedisTls(options.get("ssl_ca_certs"), options.get("ssl_certfile"), options.get("ssl_keyfile"))


@lru_cache(maxsize=4)
def _context(tls: RedisTls) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca_certs)
    if tls.certfile is not None:
        # With an empty passphrase, OpenSSL rejects an encrypted key. Without one, it prompts on the terminal.
        context.load_cert_chain(tls.certfile, tls.keyfile, password="")
    return context
