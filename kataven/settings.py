"""One frozen Settings, read once from the environment; the only reader of it.

Every problem is reported at once, each with the variable's name and what it takes. No secret's value is ever repeated.
`docs/configuration.md` lists the variables; a test holds that page to this file.
"""

from __future__ import annotations

import ipaddress
import os
import tempfile
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from kataven import validation
from kataven.identity.grants import DEFAULT_ROLE_CLAIMS, role_claims_for
from kataven.identity.jwks import is_trustworthy_url
from kataven.identity.peppers import PepperRing
from kataven.identity.signing import SigningRing
from kataven.redis_url import check_redis_url

PREFIX = "KATAVEN_"
DEVELOPMENT_PREFIX = "dev"
"""Peppers and signing keys whose id begins like this are refused in production."""


class SettingsError(Exception):
    """The environment can't be used; `problems` has a line for each reason."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Environment(StrEnum):
    PRODUCTION = "production"
    DEVELOPMENT = "development"


def _postgresql(url: SecretStr) -> SecretStr:
    try:
        parsed = make_url(url.get_secret_value())
    except ArgumentError:
        raise ValueError(
            "is not a database URL; write postgresql+psycopg2://user:password@host:5432/database"
        ) from None
    if parsed.drivername not in {"postgresql", "postgres", "postgresql+psycopg2"}:
        raise ValueError("must be PostgreSQL: postgresql+psycopg2://user:password@host:5432/database")
    if not parsed.database:
        raise ValueError("must name the system database, as in postgresql+psycopg2://host/kataven_system")
    # SQLAlchemy 2.1 reads a bare `postgresql://` as psycopg 3, which is not installed.
    return SecretStr(parsed.set(drivername="postgresql+psycopg2").render_as_string(hide_password=False))


def _redis(url: SecretStr) -> SecretStr:
    check_redis_url(url.get_secret_value())
    return url


def _peppers(text: SecretStr) -> SecretStr:
    PepperRing.parse(text.get_secret_value())
    return text


def _signing_keys(text: SecretStr) -> SecretStr:
    SigningRing.parse(text.get_secret_value())
    return text


DatabaseUrl = Annotated[SecretStr, AfterValidator(_postgresql)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis)]
Peppers = Annotated[SecretStr, AfterValidator(_peppers)]
SigningKeys = Annotated[SecretStr, AfterValidator(_signing_keys)]


class Settings(BaseModel):
    """What a process of the product is told. The field `x` is the variable `KATAVEN_X`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    env: Environment = Field(Environment.PRODUCTION, description="`production` or `development`.")
    database_url: DatabaseUrl = Field(description="The system database: `postgresql+psycopg2://…/kataven_system`.")
    redis_url: RedisUrl = Field(
        description="Redis, one address: `redis://host:6379/0`, `rediss://…` or `unix:///path?db=0`."
    )
    peppers: Peppers | None = Field(
        None,
        description="The pepper ring, `id:base64url,id:base64url`, the current one first; 32 bytes or more each. "
        "Required unless `KATAVEN_AUTH_SERVICE` is set, and refused beside it.",
    )
    auth_service: str | None = Field(
        None,
        min_length=1,
        description="The auth-service: `host:port` or `unix:/path`. Unset: verify in the process.",
    )
    auth_bind: str = Field(
        "127.0.0.1:50051", min_length=1, description="Where `python -m kataven.authservice` listens."
    )
    auth_tls_authority: Path | None = Field(
        None, description="PEM file of the authority that both sides of the auth-service trust. Unset: no TLS."
    )
    auth_tls_certificate: Path | None = Field(None, description="PEM file of this side's certificate chain.")
    auth_tls_key: Path | None = Field(None, description="PEM file of this side's private key.")
    oidc_issuer: str = Field(description="The issuer of the JWTs, exactly as its `iss` claim says it.")
    oidc_audience: str = Field(min_length=1, description="The audience that a JWT must be meant for.")
    oidc_role_claims: tuple[str, ...] = Field(
        tuple(DEFAULT_ROLE_CLAIMS),
        min_length=1,
        description="The claims that hold roles by organisation, comma-separated. Unset: that of the token's own "
        "project and that of the project whose id is the audience.",
    )
    oidc_client_ids: tuple[str, ...] = Field(
        (),
        description="The clients whose access tokens are accepted, by `client_id` or `azp`, comma-separated. Unset: "
        "any client of the issuer.",
    )
    public_url: str = Field(
        "https://api.kataven.ai",
        description="Where browsers reach the API: `widget.js` comes from there, and visitor tokens name it as `iss`.",
    )
    widget_signing_keys: SigningKeys | None = Field(
        None,
        description="The ring of ES256 keys for visitor tokens, `id:base64url,id:base64url`, the one that signs first; "
        "the others are published beside it. Unset: no visitor is let in. `flask widget new-key` makes one.",
    )
    voice_url: str | None = Field(
        None,
        description="Where conversations with visitors are held, which the widget hands to its page. Unset: the widget "
        "says that there is no such place yet.",
    )
    widget_visits: int = Field(
        100_000,
        ge=100,
        le=10_000_000,
        description="The most visits of the widget that Redis keeps at a time, over all accounts.",
    )
    widget_account_visits: int = Field(
        20_000,
        ge=2,
        le=10_000_000,
        description="The most visits of one account that Redis keeps at a time; of one widget key, half as many.",
    )
    api_url: str = Field(
        "http://127.0.0.1:8000", description="Where the API answers, for commands and the console to measure it."
    )
    hub_url: str = Field(
        "https://hub.kataven.ai",
        description="Where browsers find the Hub; `wsgi:app` tells it from the API by this host name. https, but for a "
        "development Hub on this machine.",
    )
    hub_client_id: str = Field(
        "kataven-hub",
        min_length=1,
        description="The Hub's client id at the issuer. Its redirect URI is `<KATAVEN_HUB_URL>/auth/callback`.",
    )
    hub_client_secret: SecretStr | None = Field(
        None, description="The Hub's client secret at the issuer; unset for a public client, which has PKCE alone."
    )
    hub_scopes: str = Field(
        "openid profile email offline_access",
        description="What the Hub asks the issuer for. At Zitadel add `urn:zitadel:iam:org:projects:roles` and "
        "`urn:zitadel:iam:org:project:id:<project>:aud`, so that access tokens hold roles and are meant for the API. "
        "In a scope, `{org_id}` is replaced by the id of the account's organisation.",
    )
    operators_org_id: str | None = Field(
        None,
        min_length=1,
        description="The Zitadel organisation of `kataven-admin`, whose `operator`s may use the console. Unset: none.",
    )
    trusted_proxies: int = Field(
        0,
        ge=0,
        le=10,
        description="How many proxies in front append to `X-Forwarded-For`; 0 believes only the connection.",
    )
    metrics_token: SecretStr | None = Field(
        None,
        min_length=16,
        description="The bearer token that `/metrics`, the details of `/readyz` and `flask revocation measure` ask "
        "for. Unset: in development this machine itself may read them, without a proxy; in production nobody.",
    )
    head_seconds: float = Field(
        10.0,
        ge=0.5,
        le=60,
        description="How long a client may take to send a request's head, and a new connection to send anything.",
    )
    body_seconds: float = Field(
        10.0,
        ge=0.5,
        le=60,
        description="How long a client may take to send a request's body, or to take the next part of its answer.",
    )
    body_bytes_per_second: int = Field(
        4096,
        ge=256,
        le=1_048_576,
        description="The least that a body must arrive with, from its fourth second on.",
    )
    worker_connections: int = Field(
        1000,
        ge=64,
        le=20_000,
        description="The most connections of a worker. At that many, the one that has kept it waiting for longest is "
        "closed for each new one.",
    )
    registry_engines: int = Field(
        100, ge=1, le=10_000, description="The most account databases that a worker keeps open at a time."
    )
    registry_connections: int = Field(
        40, ge=1, le=10_000, description="The most database connections of a worker, over all accounts."
    )
    host_connections: int = Field(
        80,
        ge=1,
        le=10_000,
        description="The most database connections of all processes of a host, over all accounts; kept during reloads.",
    )
    host_slots_dir: Path | None = Field(
        None,
        description="Where the processes of a host count them, in files that they lock. "
        "Unset: a folder of this user's in the machine's temporary one.",
    )
    account_connections: int = Field(3, ge=1, le=50, description="The most connections of a worker to one account.")
    workers: int = Field(
        2,
        ge=1,
        le=1_000,
        description="Workers on all hosts: each one's share of the limits while Redis was never seen.",
    )
    lease_seconds: float = Field(
        1.0,
        ge=0.2,
        le=10,
        description="How long a worker may trust its cache without word from Redis.",
    )
    postgres_programs: Path | None = Field(
        None,
        description="The folder of `pg_dump`, `pg_restore` and `psql`, as new as the newest server. Unset: the `PATH`.",
    )
    dump_dir: Path = Field(Path("dumps"), description="Where `flask accounts dump` and `delete` put their dumps.")
    data_dir: Path = Field(Path(".kataven"), description="Where `make run` keeps its data; production never reads it.")

    @property
    def auth_tls(self) -> tuple[Path, Path, Path] | None:
        """Authority, certificate and key, or None without TLS."""
        if self.auth_tls_authority is None or self.auth_tls_certificate is None or self.auth_tls_key is None:
            return None
        return self.auth_tls_authority, self.auth_tls_certificate, self.auth_tls_key

    @property
    def slots_dir(self) -> Path:
        """Where the processes of this host, and this user, count their connections."""
        return self.host_slots_dir or _usual_slots_dir()

    @property
    def hub_host(self) -> str:
        """The host name in `hub_url`."""
        return urlsplit(self.hub_url).hostname or ""

    @property
    def development(self) -> bool:
        return self.env is Environment.DEVELOPMENT


def is_loopback(host: str) -> bool:
    """Whether a URL's host is this machine itself."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def load(environ: Mapping[str, str]) -> Settings:
    """Settings from `KATAVEN_…` variables. Raises SettingsError with every problem; an empty value counts as unset."""
    values: dict[str, Any] = {
        name: environ[PREFIX + name.upper()] for name in Settings.model_fields if environ.get(PREFIX + name.upper())
    }
    for name in ("oidc_role_claims", "oidc_client_ids"):
        if name in values:
            values[name] = [entry.strip() for entry in values[name].split(",") if entry.strip()]
    if "oidc_role_claims" not in values and "oidc_audience" in values:
        values["oidc_role_claims"] = role_claims_for(values["oidc_audience"])
    checks = (
        _pepper_problems,
        _tls_problems,
        _slots_problems,
        _issuer_problems,
        _client_problems,
        _url_problems,
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


def _pepper_problems(values: Mapping[str, str]) -> Iterator[str]:
    if "auth_service" in values and "peppers" in values:
        yield "KATAVEN_PEPPERS: must not be set beside KATAVEN_AUTH_SERVICE: only the auth-service holds peppers"
    if "auth_service" not in values and "peppers" not in values:
        yield "KATAVEN_PEPPERS: is missing; set it, or name the auth-service that holds it in KATAVEN_AUTH_SERVICE"


def _tls_problems(values: Mapping[str, str]) -> Iterator[str]:
    names = ("auth_tls_authority", "auth_tls_certificate", "auth_tls_key")
    if any(name in values for name in names):
        for name in names:
            if name not in values:
                yield f"{PREFIX}{name.upper()}: is missing; mutual TLS needs all three files"
            elif not Path(values[name]).is_file():
                yield f"{PREFIX}{name.upper()}: there is no such file"


def _slots_problems(values: Mapping[str, str]) -> Iterator[str]:
    folder = Path(values["host_slots_dir"]) if "host_slots_dir" in values else _usual_slots_dir()
    if (folder.exists() or folder.is_symlink()) and not _is_ours(folder):
        yield f"KATAVEN_HOST_SLOTS_DIR: {folder} is not a folder of the user who runs this process"


def _usual_slots_dir() -> Path:
    return Path(tempfile.gettempdir()) / f"kataven-slots-{os.geteuid()}"


def _is_ours(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and folder.stat().st_uid == os.geteuid()


def _issuer_problems(values: Mapping[str, str]) -> Iterator[str]:
    if "oidc_issuer" not in values:
        return
    development = values.get("env") == Environment.DEVELOPMENT
    if not is_trustworthy_url(values["oidc_issuer"], allow_loopback_http=development):
        yield "KATAVEN_OIDC_ISSUER: must be an https URL; plain http is for a development issuer on this machine"
    elif not development and is_loopback(urlsplit(values["oidc_issuer"]).hostname or ""):
        yield "KATAVEN_OIDC_ISSUER: is on this machine, and production takes no development issuer"


def _client_problems(values: Mapping[str, Any]) -> Iterator[str]:
    if "oidc_client_ids" not in values:
        return
    if not values["oidc_client_ids"]:
        yield "KATAVEN_OIDC_CLIENT_IDS: lists no client; leave it unset to accept tokens of any client"
    elif values.get("hub_client_id", values["oidc_client_ids"][0]) not in values["oidc_client_ids"]:
        yield "KATAVEN_OIDC_CLIENT_IDS: must contain KATAVEN_HUB_CLIENT_ID, so that the Hub works"


_WEB, _ANY = ("https", "http"), ("https", "http", "wss", "ws")
_URLS = {"public_url": _WEB, "hub_url": _WEB, "voice_url": _ANY}
_ORIGINS = frozenset({"public_url", "hub_url"})


def _url_problems(values: Mapping[str, str]) -> Iterator[str]:
    development = values.get("env") == Environment.DEVELOPMENT
    for name, schemes in _URLS.items():
        if name not in values:
            continue
        try:
            url = urlsplit(values[name])
        except ValueError:
            url = urlsplit("")
        local = development and is_loopback(url.hostname or "")
        if url.scheme not in schemes or not url.hostname or (url.scheme in {"http", "ws"} and not local):
            rule = "without TLS only on this machine, in development"
            yield f"{PREFIX}{name.upper()}: must be an {schemes[0]} URL; {rule}"
        elif name in _ORIGINS and (url.path or url.query or url.fragment):
            yield f"{PREFIX}{name.upper()}: must be a scheme and a host alone, as in https://api.example.com"


def _production_problems(values: Mapping[str, str]) -> Iterator[str]:
    if values.get("env", Environment.PRODUCTION) != Environment.PRODUCTION:
        return
    pepper_ids = (pepper.strip().partition(":")[0] for pepper in values.get("peppers", "").split(","))
    key_ids = (key.strip().partition(":")[0] for key in values.get("widget_signing_keys", "").split(","))
    if any(key_id.startswith(DEVELOPMENT_PREFIX) for key_id in key_ids):
        yield "KATAVEN_WIDGET_SIGNING_KEYS: holds a development key (its id begins with 'dev'); production refuses it"
    if any(pepper_id.startswith(DEVELOPMENT_PREFIX) for pepper_id in pepper_ids):
        yield "KATAVEN_PEPPERS: holds a development pepper (an id that begins with 'dev'), which production refuses"


def _field_problems(error: ValidationError) -> list[str]:
    problems = []
    for item in validation.errors_of(error):
        message = "is missing" if item["type"] == "missing" else validation.in_words(item)
        if item["loc"]:
            message = f"{PREFIX}{str(item['loc'][0]).upper()}: {message}"
        problems.extend(message.splitlines())
    return problems


def development_environ(environ: Mapping[str, str]) -> Mapping[str, str]:
    """`environ`, or what a `make run` on this data directory wrote down, so that `flask …` works in a second shell.

    Only where the environment says nothing of its own: neither a database nor what kind of environment this is.
    """
    if "KATAVEN_DATABASE_URL" in environ or "KATAVEN_ENV" in environ:
        return environ
    path = Path(environ.get("KATAVEN_DATA_DIR") or ".kataven") / "env"
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return environ
    recorded = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {**recorded, **environ}
