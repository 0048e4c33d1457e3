"""Parses a Redis URL for every Redis client. Imports no other module of the project.

    redis://, rediss://, unix://           one server
    redis+sentinel://, rediss+sentinel://  the primary that these sentinels name
    redis+cluster://, rediss+cluster://    a cluster with these nodes

redis-py parses URLs differently: it passes every query parameter to its connections, so a URL could change timeouts or
disable the verification of certificates. The limiter has its own client. Both get the addresses from this module, so a
URL means the same for all clients, and an invalid URL stops the process at startup.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit


class Topology(StrEnum):
    """How Redis is deployed."""

    PLAIN = "plain"
    """One server, or an address that leads to one."""
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


SCHEMES: Final = {
    "redis": Topology.PLAIN,
    "rediss": Topology.PLAIN,
    "unix": Topology.PLAIN,
    "redis+sentinel": Topology.SENTINEL,
    "rediss+sentinel": Topology.SENTINEL,
    "redis+cluster": Topology.CLUSTER,
    "rediss+cluster": Topology.CLUSTER,
}
DEFAULT_PORT: Final = 6379
DEFAULT_SENTINEL_PORT: Final = 26379
EXAMPLES: Final = {
    Topology.PLAIN: "redis://host:6379/0",
    Topology.SENTINEL: "redis+sentinel://host1:26379,host2:26379/service/0",
    Topology.CLUSTER: "redis+cluster://host1:6379,host2:6379",
}
TLS_OPTIONS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile")
SENTINEL_OPTIONS: Final = ("sentinel_password", "sentinel_username")
OPTIONS: Final = ("client_name", "db", "password", *SENTINEL_OPTIONS, *TLS_OPTIONS, "username")
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


@dataclass(frozen=True, slots=True)
class RedisDeployment:
    """What a URL names: one server, or the nodes that know where the data is."""

    topology: Topology
    server: RedisAddress
    """The server. With Sentinel or a cluster: the credentials and TLS files for every server that is discovered."""
    nodes: tuple[RedisAddress, ...] = ()
    """The sentinels, or the cluster's nodes to start from. Empty for one server."""
    service: str = ""
    """The name under which the sentinels monitor the primary."""

    def at(self, host: str, port: int) -> RedisAddress:
        """The address of a discovered server."""
        return replace(self.server, host=host, port=port)


def read_redis_url(url: str) -> RedisDeployment:
    """The deployment in `url`. Raises ValueError with the correction if the URL is invalid.

    The message never contains the URL, which may contain a password.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"is not a URL; write {EXAMPLES[Topology.PLAIN]}") from None
    topology = SCHEMES.get(parts.scheme)
    if topology is None:
        raise ValueError(
            "must start with redis://, rediss:// or unix://; for Sentinel with redis+sentinel:// or "
            "rediss+sentinel://; for a cluster with redis+cluster:// or rediss+cluster://"
        )
    options = _options(parts, topology)
    user, _, hosts = parts.netloc.rpartition("@")
    username, _, password = user.partition(":")
    server = RedisAddress(
        username=unquote(username) or options.get("username"),
        password=unquote(password) or options.get("password"),
        client_name=options.get("client_name"),
        tls=_tls(options) if parts.scheme.startswith("rediss") else None,
    )
    if parts.scheme == "unix":
        if not parts.path or hosts:
            raise ValueError("must contain the absolute path of the socket, as in unix:///run/redis/redis.sock?db=0")
        return RedisDeployment(topology, replace(server, path=unquote(parts.path), db=int(options.get("db", "0"))))
    if topology is Topology.PLAIN:
        host, port = _only_server(hosts)
        db = _database(parts.path[1:], options, topology)
        return RedisDeployment(topology, replace(server, host=host, port=port, db=db))
    if topology is Topology.SENTINEL:
        return _sentinel(parts, options, server, hosts)
    if _database(parts.path[1:], options, topology) != 0:
        raise ValueError("selects a database, but a cluster has only database 0; omit the path and 'db'")
    nodes = tuple(replace(server, host=host, port=port) for host, port in _servers(hosts, topology, DEFAULT_PORT))
    return RedisDeployment(topology, server, nodes)


def _sentinel(parts: SplitResult, options: dict[str, str], server: RedisAddress, hosts: str) -> RedisDeployment:
    service, _, database = parts.path[1:].partition("/")
    if not service:
        raise ValueError(f"doesn't name the service that the sentinels monitor; write {EXAMPLES[Topology.SENTINEL]}")
    sentinel = RedisAddress(
        username=options.get("sentinel_username"),
        password=options.get("sentinel_password"),
        tls=server.tls,
    )
    return RedisDeployment(
        Topology.SENTINEL,
        replace(server, db=_database(database, options, Topology.SENTINEL)),
        tuple(
            replace(sentinel, host=host, port=port)
            for host, port in _servers(hosts, Topology.SENTINEL, DEFAULT_SENTINEL_PORT)
        ),
        unquote(service),
    )


def check_redis_url(url: str) -> None:
    """Raise ValueError with the correction unless clients can connect with `url`. Reads its TLS files."""
    try:
        read_redis_url(url).server.tls_context()
    except OSError as error:  # ssl.SSLError is one
        why = error.strerror if error.filename is None and error.strerror else "a file can't be read"
        why = "no usable PEM content" if isinstance(error, ssl.SSLError) else why
        raise ValueError(
            f"names a TLS file that can't be used ({why}); ssl_ca_certs, ssl_certfile and ssl_keyfile must be PEM "
            "files that this process can read, and the key must not have a passphrase"
        ) from None


def _options(parts: SplitResult, topology: Topology) -> dict[str, str]:
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    given = dict(pairs)
    for name in sorted(given):
        if name not in OPTIONS:
            raise ValueError(f"has the unknown option {name!r}; the options are {', '.join(OPTIONS)}")
        if not given[name]:
            raise ValueError(f"has the option {name!r} without a value; write ?{name}=… or omit it")
        if [one for one, _ in pairs].count(name) > 1:
            raise ValueError(f"has the option {name!r} twice; write it once")
        if name in TLS_OPTIONS and not parts.scheme.startswith("rediss"):
            secured = f"rediss{parts.scheme.removeprefix('redis')}" if parts.scheme != "unix" else "rediss"
            raise ValueError(f"has the option {name!r}, which requires TLS; start the URL with {secured}://")
        if name in SENTINEL_OPTIONS and topology is not Topology.SENTINEL:
            raise ValueError(f"has the option {name!r}, which requires Sentinel; write {EXAMPLES[Topology.SENTINEL]}")
    if not given.get("db", "0").isdecimal():
        raise ValueError("has a 'db' that is not a database number; write ?db=0")
    return given


def _only_server(hosts: str) -> tuple[str, int]:
    if "," in hosts:
        raise ValueError(
            "names several servers, but redis:// and rediss:// connect to one. For Sentinel, write "
            f"{EXAMPLES[Topology.SENTINEL]}; for a cluster, write {EXAMPLES[Topology.CLUSTER]}"
        )
    return _server(hosts, Topology.PLAIN, DEFAULT_PORT)


def _servers(hosts: str, topology: Topology, default_port: int) -> list[tuple[str, int]]:
    found = [_server(one, topology, default_port) for one in hosts.split(",")]
    if not all(hosts.split(",")):
        raise ValueError(f"has an empty host name; write {EXAMPLES[topology]}")
    if len(set(found)) < len(found):
        raise ValueError("names a server twice; write it once")
    return found


# An address in brackets (IPv6) or a name without a colon, and an optional port.
_SERVER = re.compile(r"(?:\[(?P<literal>[^\[\]]+)\]|(?P<name>[^\[\]:]*))(?::(?P<port>[^:]*))?")


def _server(text: str, topology: Topology, default_port: int) -> tuple[str, int]:
    found = _SERVER.fullmatch(text)
    if found is None:
        raise ValueError(
            f"has a host that can't be parsed; write {EXAMPLES[topology]}, with IPv6 addresses in brackets"
        )
    host, port = unquote(found["literal"] or found["name"]).lower() or "localhost", found["port"]
    if port and not (port.isascii() and port.isdecimal() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise ValueError(f"has a port that is not a number from 1 to 65535; write {EXAMPLES[topology]}")
    return host, int(port) if port else default_port


def _database(text: str, options: dict[str, str], topology: Topology) -> int:
    if not text:
        return int(options.get("db", "0"))
    if not text.isdecimal():
        raise ValueError(f"has a path that is not a database number; write {EXAMPLES[topology]}")
    return int(options.get("db", text))


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
