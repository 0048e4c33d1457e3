"""Reads the settings from the environment, once, into a frozen `Settings`. No other module reads the environment.

All problems are reported together, each with the variable's name and the accepted values. Messages never contain a
secret's value. `docs/configuration.md` lists the variables; a test compares that page with this file.
"""

from __future__ import annotations

import importlib.util
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from kataven import validation
from kataven.development_environ import development_environ as development_environ
from kataven.identity.grants import DEFAULT_ROLE_CLAIMS, role_claims_for
from kataven.identity.issuer_connection import check_authorities, check_proxy
from kataven.identity.peppers import PepperRing
from kataven.identity.scopes import checked as checked_scope
from kataven.identity.signing_numbers import read_ring
from kataven.identity.trustworthy_url import is_trustworthy_url
from kataven.loopback import is_loopback
from kataven.redis_url import check_redis_url
from kataven.tenancy.hosts import only_primary
from kataven.tenancy.url_options import check_options

PREFIX = "KATAVEN_"
DEVELOPMENT_PREFIX = "dev"
"""Peppers and signing keys whose id starts with this prefix are rejected in production."""


class SettingsError(Exception):
    """Raised when the environment is invalid. `problems` has a line for each problem."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Traces(StrEnum):
    OFF = "off"
    OTLP = "otlp"


class OnOff(StrEnum):
    ON = "on"
    OFF = "off"


class Environment(StrEnum):
    PRODUCTION = "production"
    DEVELOPMENT = "development"


def _postgresql(url: SecretStr) -> SecretStr:
    try:
        parsed = make_url(url.get_secret_value())
    except (ArgumentError, ValueError):
        raise ValueError(
            "is not a database URL; write postgresql+psycopg2://user:password@host:5432/database, or with several hosts"
            " postgresql+psycopg2://user:password@/database?host=db1:5432&host=db2:5432"
        ) from None
    if parsed.drivername not in {"postgresql", "postgres", "postgresql+psycopg2"}:
        raise ValueError("must be PostgreSQL: postgresql+psycopg2://user:password@host:5432/database")
    if not parsed.database:
        raise ValueError("must name the system database, as in postgresql+psycopg2://host/kataven_system")
    check_options(parsed, url.get_secret_value())
    # SQLAlchemy 2.1 reads a bare `postgresql://` as psycopg 3, which is not installed.
    parsed = only_primary(parsed.set(drivername="postgresql+psycopg2"))
    return SecretStr(parsed.render_as_string(hide_password=False))


def _redis(url: SecretStr) -> SecretStr:
    check_redis_url(url.get_secret_value())
    return url


def _peppers(text: SecretStr) -> SecretStr:
    PepperRing.parse(text.get_secret_value())
    return text


def _signing_keys(text: SecretStr) -> SecretStr:
    read_ring(text.get_secret_value())
    return text


def _proxy(url: SecretStr) -> SecretStr:
    check_proxy(url.get_secret_value())
    return url


DatabaseUrl = Annotated[SecretStr, AfterValidator(_postgresql)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis)]
ScopeName = Annotated[str, AfterValidator(checked_scope)]
Peppers = Annotated[SecretStr, AfterValidator(_peppers)]
SigningKeys = Annotated[SecretStr, AfterValidator(_signing_keys)]
Authorities = Annotated[Path, AfterValidator(check_authorities)]
ProxyUrl = Annotated[SecretStr, AfterValidator(_proxy)]


class Settings(BaseModel):
    """The settings of a process. The field `x` is the variable `KATAVEN_X`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    env: Environment = Field(Environment.PRODUCTION, description="`production` or `development`.")
    database_url: DatabaseUrl = Field(
        description="URL of the system database: `postgresql+psycopg2://…/kataven_system`. With several hosts: "
        "`postgresql+psycopg2://user@/kataven_system?host=db1:5432&host=db2:5432&target_session_attrs=read-write`."
    )
    direct_database_url: DatabaseUrl | None = Field(
        None,
        description="URL of the same database past the connection pooler, if `KATAVEN_DATABASE_URL` leads to a pooler "
        "such as PgBouncer. Locks, DDL, copies and dumps use it. Unset: `KATAVEN_DATABASE_URL` must lead to PostgreSQL "
        "itself.",
    )
    redis_url: RedisUrl = Field(
        description="URL of Redis: `redis://host:6379/0`, `rediss://…`, `unix:///path?db=0`, `redis+sentinel://…` or "
        "`redis+cluster://…`."
    )
    peppers: Peppers | None = Field(
        None,
        description="Pepper ring, `id:base64url,id:base64url`: the current pepper first, at least 32 bytes each. "
        "Required unless `KATAVEN_AUTH_SERVICE` is set; must not be set together with it.",
    )
    auth_service: str | None = Field(
        None,
        min_length=1,
        description="Address of the auth-service: `host:port` or `unix:/path`. Unset: the process itself verifies "
        "credentials.",
    )
    auth_bind: str = Field(
        "127.0.0.1:50051", min_length=1, description="Address that `python -m kataven.authservice` listens on."
    )
    auth_tls_authority: Path | None = Field(
        None,
        description="PEM file of the certificate authority that the auth-service and its clients trust. Unset: no TLS.",
    )
    auth_tls_certificate: Path | None = Field(None, description="PEM file of this process's certificate chain.")
    auth_tls_key: Path | None = Field(None, description="PEM file of this process's private key.")
    oidc_issuer: str = Field(description="Issuer of the JWTs, exactly as in their `iss` claim.")
    oidc_audience: str = Field(min_length=1, description="Required audience of the JWTs (`aud` claim).")
    oidc_role_claims: tuple[str, ...] = Field(
        tuple(DEFAULT_ROLE_CLAIMS),
        min_length=1,
        description="Claims that contain roles by organisation, comma-separated. Unset: the claim of the token's own "
        "project and the claim of the project whose id is the audience.",
    )
    oidc_client_ids: tuple[str, ...] = Field(
        (),
        description="Clients whose access tokens are accepted, by `client_id` or `azp`, comma-separated. Unset: all "
        "clients of the issuer.",
    )
    oidc_ca: Authorities | None = Field(
        None,
        description="PEM file of the certificate authorities to trust for the issuer, instead of those of the system. "
        "It is read at startup. Unset: the authorities of the system.",
    )
    oidc_proxy: ProxyUrl | None = Field(
        None,
        description="URL of the proxy for all requests to the issuer: `http://proxy.example.com:3128`, or "
        "`http://user:password@…`. Unset: direct connections; `HTTPS_PROXY` is not read.",
    )
    oidc_access_tokens: Literal["claims", "at+jwt"] = Field(
        "claims",
        description="How access tokens are distinguished from ID tokens. `at+jwt`: by the type of RFC 9068, which "
        "every token must have. `claims`: tokens without this type must have a `jti` and none of the claims of ID "
        "tokens, as at Zitadel.",
    )
    oidc_introspection_seconds: float | None = Field(
        None,
        ge=10,
        le=86_400,
        description="How long a JWT or a Hub session is accepted after the issuer's last confirmation, in seconds: the "
        "token's `iat`, or a request to the issuer's introspection endpoint (RFC 7662). Unset: tokens are accepted "
        "until they expire.",
    )
    oidc_introspection_grace_seconds: float = Field(
        60.0,
        ge=0,
        le=86_400,
        description="How much longer tokens are accepted while the issuer does not respond. After it, they get 503.",
    )
    oidc_introspection_client_id: str | None = Field(
        None,
        min_length=1,
        description="Client id for the introspection endpoint. Unset: that of the key file, else that of the Hub.",
    )
    oidc_introspection_client_secret: SecretStr | None = Field(
        None,
        min_length=1,
        description="Client secret for the introspection endpoint. Unset: that of the Hub, for the Hub's client id.",
    )
    oidc_introspection_key: Path | None = Field(
        None,
        description="File with the private key of the client for the introspection endpoint (`private_key_jwt`), "
        "instead of a secret: a private JWK, or the key file of a Zitadel API application. It is read at startup.",
    )
    events_audience: str | None = Field(
        None,
        description="Audience of security event tokens (SETs), as configured at the transmitter. Unset: "
        "`/v1/security-events` does not exist.",
    )
    events_issuer: str | None = Field(
        None,
        description="Issuer of security event tokens. Its discovery document names its keys. Unset: the OIDC issuer.",
    )
    events_poll_url: str | None = Field(
        None,
        description="Poll endpoint of the transmitter of security event tokens (RFC 8936), for "
        "`kataven events poll`. Unset: events are only received by push.",
    )
    events_poll_token: SecretStr | None = Field(
        None,
        min_length=1,
        description="Bearer token for `KATAVEN_EVENTS_POLL_URL`. Unset: the poller sends none.",
    )
    blueprints: tuple[str, ...] = Field(
        (),
        description="Blueprints of other installed packages that the API adds, by the name of their entry point in the "
        "group `kataven.blueprints`, comma-separated. Unset: none.",
    )
    scopes: tuple[ScopeName, ...] = Field(
        (),
        description="Scopes of other applications, such as `notes:read,notes:write`, that API keys can have in "
        "addition to those of the API and its blueprints. Applications name them with `requires(scope=…)`, and "
        "gateways with `/v1/verify?scope=…`. Unset: none.",
    )
    public_url: str = Field(
        "https://api.kataven.ai",
        description="Public URL of the API. Browsers load `widget.js` from it, and it is the `iss` claim of visitor "
        "tokens.",
    )
    widget_signing_keys: SigningKeys | None = Field(
        None,
        description="Ring of ES256 keys for visitor tokens, `id:base64url,id:base64url`: the signing key first; the "
        "others are published with it. Unset: visitors are rejected. `flask widget new-key` creates a key.",
    )
    voice_url: str | None = Field(
        None,
        description="URL of the voice service for conversations with visitors, which the widget passes to its page. "
        "Unset: the widget reports that voice is not configured.",
    )
    widget_visits: int = Field(
        100_000,
        ge=100,
        le=10_000_000,
        description="Maximum number of visitor sessions in Redis, over all accounts.",
    )
    widget_account_visits: int = Field(
        20_000,
        ge=2,
        le=10_000_000,
        description="Maximum number of visitor sessions in Redis per account; per widget key, half of it.",
    )
    api_url: str = Field(
        "http://127.0.0.1:8000", description="URL of the API for commands and for the console, which measure it."
    )
    hub_url: str = Field(
        "https://hub.kataven.ai",
        description="URL of the Hub. `wsgi:app` routes requests with this host name to the Hub. Must be https, except "
        "for a development Hub on the same machine.",
    )
    hub_client_id: str = Field(
        "kataven-hub",
        min_length=1,
        description="Client id of the Hub at the issuer. Its redirect URI is `<KATAVEN_HUB_URL>/auth/callback`.",
    )
    hub_client_secret: SecretStr | None = Field(
        None,
        description="Client secret of the Hub at the issuer. Unset: the Hub is a public client, which uses only PKCE.",
    )
    hub_scopes: str = Field(
        "openid profile email offline_access",
        description="Scopes that the Hub requests from the issuer. For Zitadel, add "
        "`urn:zitadel:iam:org:projects:roles` and `urn:zitadel:iam:org:project:id:<project>:aud`, so that access "
        "tokens contain roles and have the API's audience. `{org_id}` in a scope is replaced by the id of the "
        "account's organisation.",
    )
    operators_org_id: str | None = Field(
        None,
        min_length=1,
        description="Id of the Zitadel organisation whose `operator`s can use the console (account `kataven-admin`). "
        "Unset: no user can use it.",
    )
    trusted_proxies: int = Field(
        0,
        ge=0,
        le=10,
        description="Number of proxies in front that append to `X-Forwarded-For`. 0: the client address is that of the "
        "connection.",
    )
    metrics_token: SecretStr | None = Field(
        None,
        min_length=16,
        description="Bearer token for `/metrics`, the details of `/readyz` and `flask revocation measure`. Unset: "
        "production rejects all such requests; development accepts direct requests from the same machine.",
    )
    security_contact: str | None = Field(
        None,
        max_length=500,
        description="Where to report a vulnerability of this deployment: a `mailto:` or `https:` URI, published at "
        "`/.well-known/security.txt` of the API and the Hub. Unset: that path returns 404.",
    )
    security_policy: str | None = Field(
        None,
        max_length=500,
        description="https URL of the disclosure policy, published with `KATAVEN_SECURITY_CONTACT`.",
    )
    traces: Traces = Field(
        Traces.OFF,
        description="`otlp` exports traces with OTLP over HTTP, which requires the `otel` extra; `OTEL_…` variables "
        "configure the exporter. `off`: no spans.",
    )
    head_seconds: float = Field(
        10.0,
        ge=0.5,
        le=60,
        description="Timeout for a request's head, and for the first byte of a new connection.",
    )
    body_seconds: float = Field(
        10.0,
        ge=0.5,
        le=60,
        description="Timeout for a request's body, and for a client to read the next part of its response.",
    )
    body_bytes_per_second: int = Field(
        4096,
        ge=256,
        le=1_048_576,
        description="Minimum rate of a request's body, in bytes per second, after the first 3 s.",
    )
    worker_connections: int = Field(
        1000,
        ge=64,
        le=20_000,
        description="Maximum number of connections per worker; at the maximum, each new connection closes the one that "
        "the worker has waited for the longest.",
    )
    registry_engines: int = Field(
        100, ge=1, le=10_000, description="Maximum number of account databases that a worker keeps open."
    )
    registry_connections: int = Field(
        40, ge=1, le=10_000, description="Maximum number of database connections per worker, over all accounts."
    )
    host_connections: int = Field(
        80,
        ge=1,
        le=10_000,
        description="Maximum number of database connections per host, over all processes and accounts; also during "
        "reloads.",
    )
    host_slots_dir: Path | None = Field(
        None,
        description="Folder of the lock files with which the processes of a host count their connections. "
        "Unset: a folder of the current user in the temporary folder.",
    )
    account_connections: int = Field(
        3, ge=1, le=50, description="Maximum number of connections per worker and account."
    )
    workers: int = Field(
        2,
        ge=1,
        le=1_000,
        description="Number of workers on all hosts. Determines each worker's share of the limits until it has reached "
        "Redis for the first time.",
    )
    lease_seconds: float = Field(
        1.0,
        ge=0.2,
        le=10,
        description="Lease length: how long a worker trusts its cache without a renewal from Redis.",
    )
    revocation_journal_days: int = Field(
        35,
        ge=1,
        le=3650,
        description="How long the revocation journal keeps revoked keys, in days. Must be at least the age of the "
        "oldest backup that you would restore.",
    )
    usage: OnOff = Field(
        OnOff.ON,
        description="`on`: the API records the usage of each account in its database, and logs its latest requests. "
        "`off`: nothing is recorded.",
    )
    usage_days: int = Field(
        90,
        ge=2,
        le=3650,
        description="How long counts by hour, and the last call of each key and user, are kept, in days. Counts by "
        "minute are kept for 48 hours.",
    )
    request_log_hours: int = Field(
        24, ge=1, le=168, description="How long the request log keeps a request, up to about 10,000 for each account."
    )
    request_log_successes: int = Field(
        30,
        ge=0,
        le=600,
        description="Number of successful requests that each worker logs per account and minute, in addition to the "
        "first one of each key, route and address. 0: only refused and failed requests are logged.",
    )
    postgres_programs: Path | None = Field(
        None,
        description="Folder of `pg_dump`, `pg_restore` and `psql`, whose version must be at least that of the newest "
        "server. Unset: the `PATH`.",
    )
    dump_dir: Path = Field(Path("dumps"), description="Folder for the dumps of `flask accounts dump` and `delete`.")
    data_dir: Path = Field(Path(".kataven"), description="Data folder of `make run`; not used in production.")

    @property
    def database_url_past_poolers(self) -> str:
        """The URL of the system database for what a connection pooler would break."""
        return (self.direct_database_url or self.database_url).get_secret_value()

    @property
    def auth_tls(self) -> tuple[Path, Path, Path] | None:
        """Paths of the authority, certificate and key; None without TLS."""
        if self.auth_tls_authority is None or self.auth_tls_certificate is None or self.auth_tls_key is None:
            return None
        return self.auth_tls_authority, self.auth_tls_certificate, self.auth_tls_key

    @property
    def slots_dir(self) -> Path:
        """The folder of this host's connection slots for the current user."""
        return self.host_slots_dir or _default_slots_dir()

    @property
    def hub_host(self) -> str:
        """The host name of `hub_url`."""
        return urlsplit(self.hub_url).hostname or ""

    @property
    def development(self) -> bool:
        return self.env is Environment.DEVELOPMENT


def load(environ: Mapping[str, str]) -> Settings:
    """Settings from `KATAVEN_…` variables; an empty value counts as unset. Raises SettingsError with all problems."""
    values: dict[str, Any] = {
        name: environ[PREFIX + name.upper()] for name in Settings.model_fields if environ.get(PREFIX + name.upper())
    }
    for name in ("oidc_role_claims", "oidc_client_ids", "blueprints", "scopes"):
        if name in values:
            values[name] = [entry.strip() for entry in values[name].split(",") if entry.strip()]
    if "oidc_role_claims" not in values and "oidc_audience" in values:
        values["oidc_role_claims"] = role_claims_for(values["oidc_audience"])
    checks = (
        _pooler_problems,
        _pepper_problems,
        _tls_problems,
        _slots_problems,
        _issuer_problems,
        _client_problems,
        _introspection_problems,
        _event_problems,
        _url_problems,
        _security_problems,
        _traces_problems,
        _production_problems,
    )
    problems = [problem for check in checks for problem in check(values)]
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_field_problems(error) + problems) from None
    if problems:
        raise SettingsError(problems)
    return settings


def _pooler_problems(values: Mapping[str, str]) -> Iterator[str]:
    if "database_url" not in values or "direct_database_url" not in values:
        return
    try:
        pooled, direct = make_url(values["database_url"]), make_url(values["direct_database_url"])
    except (ArgumentError, ValueError):
        return  # reported for the field
    if "options" in pooled.query:
        yield (
            "KATAVEN_DATABASE_URL: has `options`, which poolers refuse; remove them, and set the parameters with ALTER "
            "ROLE"
        )
    if pooled.database and direct.database and pooled.database != direct.database:
        yield "KATAVEN_DIRECT_DATABASE_URL: must name the same database as KATAVEN_DATABASE_URL"


def _pepper_problems(values: Mapping[str, str]) -> Iterator[str]:
    if "auth_service" in values and "peppers" in values:
        yield "KATAVEN_PEPPERS: must not be set together with KATAVEN_AUTH_SERVICE; only the auth-service has peppers"
    if "auth_service" not in values and "peppers" not in values:
        yield "KATAVEN_PEPPERS: is missing; set it, or set KATAVEN_AUTH_SERVICE to an auth-service that has it"


def _tls_problems(values: Mapping[str, str]) -> Iterator[str]:
    names = ("auth_tls_authority", "auth_tls_certificate", "auth_tls_key")
    if any(name in values for name in names):
        for name in names:
            if name not in values:
                yield f"{PREFIX}{name.upper()}: is missing; mutual TLS requires all three files"
            elif not Path(values[name]).is_file():
                yield f"{PREFIX}{name.upper()}: the file does not exist"


def _slots_problems(values: Mapping[str, str]) -> Iterator[str]:
    folder = Path(values["host_slots_dir"]) if "host_slots_dir" in values else _default_slots_dir()
    if (folder.exists() or folder.is_symlink()) and not _is_owned_folder(folder):
        yield f"KATAVEN_HOST_SLOTS_DIR: {folder} is not a folder that belongs to the user of this process"


def _default_slots_dir() -> Path:
    return Path(tempfile.gettempdir()) / f"kataven-slots-{os.geteuid()}"


def _is_owned_folder(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and folder.stat().st_uid == os.geteuid()


def _issuer_problems(values: Mapping[str, str]) -> Iterator[str]:
    if "oidc_issuer" not in values:
        return
    development = values.get("env") == Environment.DEVELOPMENT
    if not is_trustworthy_url(values["oidc_issuer"], allow_loopback_http=development):
        yield "KATAVEN_OIDC_ISSUER: must be an https URL; http is accepted only for a local issuer in development"
    elif not development and is_loopback(urlsplit(values["oidc_issuer"]).hostname or "", subdomains=True):
        yield "KATAVEN_OIDC_ISSUER: is on this machine; production rejects development issuers"


def _client_problems(values: Mapping[str, Any]) -> Iterator[str]:
    if "oidc_client_ids" not in values:
        return
    if not values["oidc_client_ids"]:
        yield "KATAVEN_OIDC_CLIENT_IDS: lists no client; unset it to accept tokens of all clients"
    elif values.get("hub_client_id", values["oidc_client_ids"][0]) not in values["oidc_client_ids"]:
        yield "KATAVEN_OIDC_CLIENT_IDS: must contain KATAVEN_HUB_CLIENT_ID, which the Hub needs"


def _introspection_problems(values: Mapping[str, Any]) -> Iterator[str]:
    prefix = "oidc_introspection_"
    given = {name.removeprefix(prefix) for name in values if name.startswith(prefix)}
    if given and "seconds" not in given:
        yield "KATAVEN_OIDC_INTROSPECTION_SECONDS: is missing; the other settings of introspection have no effect"
    if {"key", "client_secret"} <= given:
        yield "KATAVEN_OIDC_INTROSPECTION_KEY: must not be set together with a client secret"
    if "key" in given:
        from kataven.identity.client_assertion import read_key_file  # loads cryptography

        try:
            key = read_key_file(Path(values["oidc_introspection_key"]))
        except ValueError as error:
            yield f"KATAVEN_OIDC_INTROSPECTION_KEY: {error}"
        else:
            if "client_id" in given and key.client_id not in (None, values["oidc_introspection_client_id"]):
                yield "KATAVEN_OIDC_INTROSPECTION_CLIENT_ID: is not the client of KATAVEN_OIDC_INTROSPECTION_KEY"
    elif "seconds" in given and "client_secret" not in given:
        own_client = values.get("oidc_introspection_client_id") in (None, values.get("hub_client_id", "kataven-hub"))
        if not own_client or "hub_client_secret" not in values:
            yield (
                "KATAVEN_OIDC_INTROSPECTION_CLIENT_SECRET: is missing; introspection endpoints accept only clients "
                "with a secret or a key"
            )


def _event_problems(values: Mapping[str, str]) -> Iterator[str]:
    development = values.get("env") == Environment.DEVELOPMENT
    for name in ("events_issuer", "events_poll_url"):
        if name in values and not is_trustworthy_url(values[name], allow_loopback_http=development):
            yield f"{PREFIX}{name.upper()}: must be an https URL; http is accepted only for this machine in development"
    if "events_audience" not in values:
        for name in ("events_poll_url", "events_poll_token", "events_issuer"):
            if name in values:
                yield f"KATAVEN_EVENTS_AUDIENCE: is missing; {PREFIX}{name.upper()} has no effect without it"


_WEB, _ANY = ("https", "http"), ("https", "http", "wss", "ws")
_URLS = {"public_url": _WEB, "hub_url": _WEB, "voice_url": _ANY}
_ONE_WORD = re.compile(r"[^\s\x00-\x1f\x7f-\x9f]+")
_ORIGINS = frozenset({"public_url", "hub_url"})


def _url_problems(values: Mapping[str, str]) -> Iterator[str]:
    development = values.get("env") == Environment.DEVELOPMENT
    for name, schemes in _URLS.items():
        if name not in values:
            continue
        if not _ONE_WORD.fullmatch(values[name]):  # urlsplit would remove a line break
            yield f"{PREFIX}{name.upper()}: contains a space or a control character; remove it"
            continue
        try:
            url = urlsplit(values[name])
            _ = url.port  # raises ValueError if it is not a port
        except ValueError:
            url = urlsplit("")
        local = development and is_loopback(url.hostname or "", subdomains=True)
        if url.scheme not in schemes or not url.hostname or (url.scheme in {"http", "ws"} and not local):
            rule = "without TLS only for this machine, in development"
            yield f"{PREFIX}{name.upper()}: must be an {schemes[0]} URL; {rule}"
        elif name in _ORIGINS and (url.path or url.query or url.fragment or "@" in url.netloc):
            yield f"{PREFIX}{name.upper()}: must contain only a scheme and a host, as in https://api.example.com"


_MAIL_ADDRESS = re.compile(r"mailto:[!-?A-~]+@[!-?A-~]+")
_HTTPS_URL = re.compile(r"https://[!-~]+")


def _security_problems(values: Mapping[str, str]) -> Iterator[str]:
    contact, policy = values.get("security_contact"), values.get("security_policy")
    # The patterns accept no space and no line break: each value is one line of a file whose lines are fields.
    if contact is not None and not (_MAIL_ADDRESS.fullmatch(contact) or _HTTPS_URL.fullmatch(contact)):
        yield "KATAVEN_SECURITY_CONTACT: must be a URI, as in mailto:security@example.com or https://example.com/report"
    if policy is not None and not _HTTPS_URL.fullmatch(policy):
        yield "KATAVEN_SECURITY_POLICY: must be an https URL, as in https://example.com/security"
    if policy is not None and contact is None:
        yield "KATAVEN_SECURITY_CONTACT: is missing; KATAVEN_SECURITY_POLICY is published together with it"


def _traces_problems(values: Mapping[str, str]) -> Iterator[str]:
    if values.get("traces") != Traces.OTLP:
        return
    try:
        installed = importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:  # a package above it is missing
        installed = False
    if not installed:
        yield "KATAVEN_TRACES: requires the `otel` extra; install requirements/otel.txt, or unset the setting"


def _production_problems(values: Mapping[str, str]) -> Iterator[str]:
    if values.get("env", Environment.PRODUCTION) != Environment.PRODUCTION:
        return
    pepper_ids = (pepper.strip().partition(":")[0] for pepper in values.get("peppers", "").split(","))
    key_ids = (key.strip().partition(":")[0] for key in values.get("widget_signing_keys", "").split(","))
    if any(key_id.startswith(DEVELOPMENT_PREFIX) for key_id in key_ids):
        yield "KATAVEN_WIDGET_SIGNING_KEYS: contains a development key (id starts with 'dev'); production rejects it"
    if any(pepper_id.startswith(DEVELOPMENT_PREFIX) for pepper_id in pepper_ids):
        yield "KATAVEN_PEPPERS: contains a development pepper (id starts with 'dev'); production rejects it"


def _field_problems(error: ValidationError) -> list[str]:
    problems = []
    for item in validation.errors_of(error):
        message = "is missing" if item["type"] == "missing" else validation.in_words(item)
        if item["loc"]:
            message = f"{PREFIX}{str(item['loc'][0]).upper()}: {message}"
        problems.extend(message.splitlines())
    return problems
