"""Settings that are valid, and unsafe or incomplete in production."""

from __future__ import annotations

import stat
from collections.abc import Iterator

from sqlalchemy import make_url

from kataven.loopback import is_loopback
from kataven.operations.diagnosis.findings import CheckResult, ok, warning
from kataven.redis_url import read_redis_url
from kataven.settings import Settings
from kataven.tenancy.hosts import hosts_of

VERIFIED = {"verify-full", "verify-ca"}


def check_settings(settings: Settings) -> Iterator[CheckResult]:
    """Warnings for a production installation; for development, one line."""
    if settings.development:
        yield warning(
            "environment",
            "KATAVEN_ENV=development accepts development peppers, and issuers and URLs without TLS",
            "Set KATAVEN_ENV=production, unless this is a development machine.",
        )
        return
    found = [*_connections(settings), *_access(settings), *_files(settings)]
    yield from found or [ok("production settings", "no unsafe setting found")]


def _connections(settings: Settings) -> Iterator[CheckResult]:
    database = make_url(settings.database_url.get_secret_value())
    remote = [host for host, _ in hosts_of(database) if not host.startswith("/") and not _is_local(host)]
    if remote and database.query.get("sslmode") not in VERIFIED:
        yield warning(
            "KATAVEN_DATABASE_URL",
            "does not verify the server's certificate",
            "Add sslmode=verify-full, and sslrootcert=FILE for a private authority.",
        )
    redis = read_redis_url(settings.redis_url.get_secret_value())
    addresses = redis.nodes or (redis.server,)
    if redis.server.tls is None and any(one.path is None and not _is_local(one.host) for one in addresses):
        yield warning("KATAVEN_REDIS_URL", "has no TLS", "Use rediss:// on a network that others can read.")
    if redis.server.password is None and any(one.path is None and not _is_local(one.host) for one in addresses):
        yield warning("KATAVEN_REDIS_URL", "has no password", "Set a password or an ACL user in Redis and in the URL.")
    service = settings.auth_service
    if service is not None and settings.auth_tls is None and not service.startswith("unix:"):
        host = service.rpartition(":")[0].strip("[]")
        if not _is_local(host):
            yield warning(
                "KATAVEN_AUTH_SERVICE",
                "is used without TLS: keys are sent in clear text",
                "Set KATAVEN_AUTH_TLS_AUTHORITY, KATAVEN_AUTH_TLS_CERTIFICATE and KATAVEN_AUTH_TLS_KEY on both sides.",
            )


def _is_local(host: str) -> bool:
    return is_loopback(host, subdomains=True)


def _access(settings: Settings) -> Iterator[CheckResult]:
    if settings.metrics_token is None:
        yield warning(
            "KATAVEN_METRICS_TOKEN",
            "is not set: Prometheus and the revocation canary are rejected",
            "Set the same random value of at least 16 characters for all processes.",
        )
    if settings.trusted_proxies == 0:
        yield warning(
            "KATAVEN_TRUSTED_PROXIES",
            "is 0: behind a proxy, all clients share the proxy's address and its limits",
            "Set it to the number of proxies that append to X-Forwarded-For. Keep 0 if clients connect directly.",
        )


def _files(settings: Settings) -> Iterator[CheckResult]:
    folder = settings.dump_dir
    if folder.is_dir() and folder.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield warning("KATAVEN_DUMP_DIR", "other users can open the folder", f"Run: chmod 700 {folder.absolute()}")
