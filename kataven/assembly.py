"""Builds the objects that every process of the product needs. Building them opens no connections."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from kataven import __version__
from kataven.identity.issuer import LocalIssuer
from kataven.identity.issuer_connection import IssuerConnection
from kataven.identity.peppers import PepperRing
from kataven.revocation.revocation import Revocation
from kataven.settings import Settings, SettingsError, Traces
from kataven.system.database import SystemDatabase
from kataven.system.directory import Directory
from kataven.system.fallback_channel import SystemFallbackChannel
from kataven.system.recent_revocations import RecentRevocations
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.system.sessions import AccountSessions
from kataven.tenancy.error_classification import in_words
from kataven.tenancy.errors import PoolerUnsuitable
from kataven.tenancy.serving.histories import ServerHistories
from kataven.tenancy.serving.pool_limits import PoolLimits
from kataven.tenancy.serving.registry import EngineRegistry
from kataven.tenancy.serving.rows import RowQuery
from kataven.tenancy.serving.slots import HostSlots

if TYPE_CHECKING:
    from kataven.identity.client_assertion import ClientAuthentication
    from kataven.identity.jwks import JwksClient
    from kataven.identity.jwt import JwtVerifier
    from kataven.identity.verifier import LocalVerifier
    from kataven.telemetry.spans import Telemetry

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Foundation:
    """The objects of every process: revocation, the account directory, and sessions on the accounts' databases."""

    revocation: Revocation
    directory: Directory
    registry: EngineRegistry
    sessions: AccountSessions
    histories: ServerHistories


def foundation(settings: Settings) -> Foundation:
    """The objects for any process."""
    histories = ServerHistories()
    database = system_database(settings, histories)
    revocation = Revocation(
        settings.redis_url.get_secret_value(),
        lease_seconds=settings.lease_seconds,
        fallback=SystemFallbackChannel(database, settings.revocation_journal_days),
    )
    histories.subscribe(revocation.guard.clear)
    recent = RecentRevocations(revocation, histories)
    directory = Directory(database, revocation.guard, is_recently_revoked=recent.covers)
    registry = EngineRegistry(
        PoolLimits(
            engines=settings.registry_engines,
            connections=settings.registry_connections,
            connections_per_account=settings.account_connections,
        ),
        schema=ACCOUNT_SCHEMA,
        host_slots=HostSlots(settings.slots_dir, settings.host_connections),
        histories=histories,
    )
    return Foundation(revocation, directory, registry, AccountSessions(directory, registry), histories)


def telemetry(settings: Settings, service: str, count: Callable[[str, int], None]) -> Telemetry | None:
    """The export of this process's spans; None, and no OpenTelemetry module is loaded, if traces are off.

    Call it before `foundation`: clients of Redis keep references to the methods that this replaces.
    """
    if settings.traces is Traces.OFF:
        return None
    # Commands use this module as well, and need none of these.
    from redis import Redis

    from kataven.authservice import codec
    from kataven.authservice.client import AuthServiceChannel
    from kataven.ratelimit.redis_socket import RedisSocket
    from kataven.redis_clients.cluster_client import ClusterClient
    from kataven.telemetry import instruments, spans

    calls = (
        instruments.sqlalchemy,
        instruments.rows(RowQuery),
        instruments.packed_redis(RedisSocket),
        instruments.redis_py(Redis, ClusterClient),
        instruments.grpc_client(AuthServiceChannel, codec.SERVICE),
    )
    return spans.Telemetry(service, __version__, count, calls)


def system_database(settings: Settings, histories: ServerHistories | None = None) -> SystemDatabase:
    """The system database, by its two addresses."""
    direct = settings.direct_database_url
    return SystemDatabase(
        settings.database_url.get_secret_value(),
        direct_url=None if direct is None else direct.get_secret_value(),
        histories=histories,
    )


def require_usable_pooler(settings: Settings) -> None:
    """Check at startup how the settings lead to the system database. The connections are closed again.

    Raises SettingsError if a connection pooler would lose a guarantee. A database that can't be reached is no reason
    not to start.
    """
    database = system_database(settings)
    try:
        database.check_pooler()
    except PoolerUnsuitable as error:
        name = "KATAVEN_DATABASE_URL" if settings.direct_database_url is None else "KATAVEN_DIRECT_DATABASE_URL"
        raise SettingsError([f"{name}: {error}"]) from None
    except DBAPIError as error:
        _log.warning("the system database can't be checked at startup: %s", in_words(error))


def peppers(settings: Settings) -> PepperRing:
    """The pepper ring. Raises RuntimeError in a process without peppers."""
    if settings.peppers is None:
        raise RuntimeError("this process has no peppers; the auth-service has them")
    return PepperRing.parse(settings.peppers.get_secret_value())


def issuer_connection(settings: Settings) -> IssuerConnection:
    """How this process connects to the OIDC issuer."""
    proxy = settings.oidc_proxy
    return IssuerConnection(settings.oidc_ca, None if proxy is None else proxy.get_secret_value())


def issuer_keys(settings: Settings) -> JwksClient:
    """The public keys of the OIDC issuer."""
    # Like the two functions below, for processes that verify credentials. Commands don't load an HTTP client for it.
    from kataven.identity.fetch import HttpFetcher
    from kataven.identity.jwks import JwksClient

    fetcher = HttpFetcher(issuer_connection(settings))
    return JwksClient(settings.oidc_issuer, fetcher, allow_loopback_http=settings.development)


def access_tokens(settings: Settings, keys: JwksClient) -> JwtVerifier:
    """The verifier of users' access tokens."""
    from kataven.identity.jwt import JwtVerifier
    from kataven.identity.jwt_use import AccessTokens

    use = AccessTokens(
        settings.oidc_client_ids,
        requires_type=settings.oidc_access_tokens == "at+jwt",
        sign_in_client=settings.hub_client_id,
    )
    return JwtVerifier(keys, settings.oidc_issuer, settings.oidc_audience, time.time, use)


def introspection_client(settings: Settings) -> ClientAuthentication:
    """How this process authenticates at the issuer's introspection endpoint."""
    from kataven.identity.client_assertion import ClientKey, ClientSecret, read_key_file

    client_id = settings.oidc_introspection_client_id
    if settings.oidc_introspection_key is not None:
        key = read_key_file(settings.oidc_introspection_key)
        client_id = client_id or key.client_id or settings.hub_client_id
        return ClientKey(client_id, settings.oidc_issuer, key.key_id, key.private)
    secret = settings.oidc_introspection_client_secret or settings.hub_client_secret
    if secret is None:
        raise RuntimeError("no secret for the introspection endpoint is configured")
    return ClientSecret(client_id or settings.hub_client_id, secret.get_secret_value())


def local_verifier(settings: Settings, parts: Foundation, keys: JwksClient | None = None) -> LocalVerifier:
    """A verifier for a process with peppers. `keys`: the issuer's keys, for callers that monitor them."""
    from kataven.account.key_store import SqlKeyStore
    from kataven.identity.verifier import LocalVerifier

    return LocalVerifier(
        parts.directory,
        SqlKeyStore(parts.sessions.rows_at, parts.sessions.recording_usage_at, parts.directory.journalled_secret),
        peppers(settings),
        access_tokens(settings, keys or issuer_keys(settings)),
        settings.oidc_role_claims,
    )


def local_issuer(settings: Settings) -> LocalIssuer:
    """An issuer for a process with peppers."""
    return LocalIssuer(peppers(settings))
