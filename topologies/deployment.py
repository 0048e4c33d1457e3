"""The product as in production: gunicorn masters with two workers each, an OIDC issuer, and accounts with keys."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import create_engine, make_url, text

from bench.scenarios.connection import Connection, request
from bench.scenarios.environment import Key, open_foundation
from kataven import assembly, settings
from kataven.account import api_keys
from kataven.account.audit import Actor
from kataven.dev.issuer import AUDIENCE, CLIENT_ID, DevIssuer, sign
from kataven.dev.personas import ALICE, org_id
from kataven.identity import signing
from kataven.identity.token import TokenKind
from kataven.operations import account_creation
from kataven.system import limits
from tests.support.gunicorn import Gunicorn, free_port
from tests.support.waiting import wait_until
from topologies.network import Link, inside, namespace_of, place, start_relay
from topologies.observation import Observation, send

ACCOUNT = ALICE.account
UNLIMITED = {"per_minute": 1_000_000, "per_hour": 10_000_000, "per_day": 100_000_000, "concurrent": 1_000}
LIMIT = 80
"""Requests per minute of the limited accounts."""
EARLY, LATE = "limited-early", "limited-late"
"""Accounts with a limit: the first is used up before the failure, the second is used from the failure on."""
EXACT, EXACT_LIMIT = "limited-exact", 60
"""An account that the load does not use, and its requests per minute."""
_LIMITS = {ACCOUNT: None, EARLY: LIMIT, LATE: LIMIT, EXACT: EXACT_LIMIT}
WORKERS_PER_HOST = 2
TOKEN_SECONDS = 12 * 3600
HEALTHY_SECONDS = 90.0
HEALTHY_CHECKS = ("system_database", "redis", "limits", "lease")
ACTOR = Actor("topologies", "Topologies")
_READY = request("GET", "/readyz", {})


@dataclass(frozen=True)
class Urls:
    """The servers of one host."""

    database: str = field(repr=False)
    redis: str
    link: Link | None = None
    """How a host without its own servers reaches those of the first host."""
    direct_database: str | None = field(default=None, repr=False)
    """Past the pooler that `database` leads to; None if it leads to no pooler."""

    @property
    def database_settings(self) -> dict[str, str]:
        direct = {} if self.direct_database is None else {"KATAVEN_DIRECT_DATABASE_URL": self.direct_database}
        return {"KATAVEN_DATABASE_URL": self.database, **direct}


@dataclass
class Deployment:
    """See `deploy`."""

    hosts: Sequence[Gunicorn]
    admin_url: str = field(repr=False)
    owner_headers: Mapping[str, str] = field(repr=False)
    keys: Mapping[str, Key] = field(repr=False)
    """A key of each account."""
    restarts: int = 0

    @property
    def ports(self) -> list[int]:
        return [host.port for host in self.hosts]

    @property
    def hub_port(self) -> int:
        """The Hub's URL is that of the first host."""
        return self.hosts[0].port

    def worker_checks(self, port: int) -> Mapping[str, Mapping[str, str]]:
        """What `/readyz` returns, by worker. Workers that were not met are missing."""
        found: dict[str, Mapping[str, str]] = {}
        for _ in range(20 * WORKERS_PER_HOST):
            # In development, the details are only for requests from 127.0.0.1.
            with suppress(OSError), closing(self._connect(port)) as connection:
                response = connection.exchange(_READY)
                found[response.worker] = response.json()["checks"]
            if len(found) == WORKERS_PER_HOST:
                break
        return found

    def _connect(self, port: int) -> Connection:
        with inside(namespace_of(port)):
            return Connection(port)

    def unhealthy(self) -> list[str]:
        """What is degraded, by worker; empty if every worker reaches Redis and the system database, and has a lease."""
        problems = []
        for port in self.ports:
            found = self.worker_checks(port)
            if len(found) < WORKERS_PER_HOST:
                problems.append(f"port {port}: only {len(found)} workers respond")
            problems += [
                f"{worker} {name}: {checks.get(name)}"
                for worker, checks in found.items()
                for name in HEALTHY_CHECKS
                if checks.get(name) != "ok"
            ]
        return problems

    def wait_until_healthy(self, seconds: float = HEALTHY_SECONDS) -> None:
        """Raises TimeoutError, with what is degraded."""
        wait_until(lambda: not self.unhealthy(), seconds, self.unhealthy)

    def restart(self) -> None:
        """Replace every gunicorn master. Counted, because an operator would have to do that."""
        for host in self.hosts:
            host.__exit__(None, None, None)
            host.__enter__()
            self.restarts += 1

    def worker_pids(self) -> set[int]:
        return {pid for host in self.hosts for pid in host.worker_pids()}

    def enabled_keys(self, ids: Sequence[str]) -> set[str]:
        """The keys of `ids` that the account's database shows as neither revoked nor removed."""
        statement = text("SELECT id::text FROM api_keys WHERE disabled_at IS NULL AND id::text = ANY(:ids)")
        return self._ask(statement, {"ids": list(ids)})

    def agent_names(self) -> set[str]:
        return self._ask(text("SELECT name FROM agents"), {})

    def _ask(self, statement: object, values: Mapping[str, object]) -> set[str]:
        engine = create_engine(make_url(self.admin_url).set(database=ACCOUNT))
        try:
            with engine.connect() as connection:
                return {row[0] for row in connection.execute(statement, values)}  # type: ignore[call-overload]
        finally:
            engine.dispose()


@contextmanager
def deploy(folder: Path, urls: Sequence[Urls], admin_url: str, without_rule: str | None = None) -> Iterator[Deployment]:
    """The product on a host for each of `urls`. `admin_url` leads to the primary, past any pooler.

    `without_rule` disables a rule of the revocation protocol.
    """
    with ExitStack() as stack:
        issuer = stack.enter_context(DevIssuer(folder / "issuer"))
        ports = [free_port() for _ in urls]
        common = _common_settings(issuer.url, ports[0])
        # The host's own settings for a pooler. Otherwise the primary's address: the first host can be a far one.
        databases = urls[0].database_settings if urls[0].direct_database else {"KATAVEN_DATABASE_URL": admin_url}
        keys = _prepare({**common, **databases, "KATAVEN_REDIS_URL": "unix:///nowhere"})
        token = sign(folder / "issuer", issuer.url, ACCOUNT, ALICE.role, ttl_seconds=TOKEN_SECONDS)
        hosts = []
        application = "wsgi:app"
        if without_rule is not None:
            rule = folder / "disabled-rule"
            rule.write_text(without_rule)
            application = f"topologies.without_rule:app('{rule}')"
        for number, (host, port) in enumerate(zip(urls, ports, strict=True)):
            environ = {
                **common,
                **host.database_settings,
                "KATAVEN_REDIS_URL": host.redis,
                "KATAVEN_WORKERS": str(WORKERS_PER_HOST * len(urls)),
                "KATAVEN_HOST_SLOTS_DIR": str(folder / f"slots-{number}"),
            }
            log = folder / f"gunicorn-{number}.log"
            server = Gunicorn(environ, log, WORKERS_PER_HOST, application, port=port)
            if host.link is not None and (namespace := host.link.namespace) is not None:
                place(port, namespace)
                server.prefix, server.network = host.link.prefix, partial(inside, namespace)
                # The issuer listens on a loopback port of the first host. Its URL is the same on both.
                issuer_port = urlsplit(issuer.url).port
                assert issuer_port is not None
                delay = host.link.round_trip_milliseconds
                start_relay(folder, stack, str(issuer_port), delay, port=issuer_port, namespace=namespace)
            hosts.append(stack.enter_context(server))
        headers = {"Authorization": f"Bearer {token}", "X-Account-ID": ACCOUNT}
        yield Deployment(hosts, admin_url, headers, keys)


def direct_request(port: int, key: Key) -> Observation:
    """Send a key once, over a new connection."""
    return send(port, request("GET", "/v1/me", {"Authorization": f"Bearer {key.text}"}), "key", key.id)[0]


def _common_settings(issuer_url: str, hub_port: int) -> dict[str, str]:
    return {
        "KATAVEN_ENV": "development",
        "KATAVEN_PEPPERS": f"dev1:{base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()}",
        "KATAVEN_WIDGET_SIGNING_KEYS": signing.new_key("dev1"),
        "KATAVEN_OIDC_ISSUER": issuer_url,
        "KATAVEN_OIDC_AUDIENCE": AUDIENCE,
        "KATAVEN_PUBLIC_URL": f"http://127.0.0.1:{hub_port}",
        "KATAVEN_API_URL": f"http://127.0.0.1:{hub_port}",
        "KATAVEN_HUB_URL": f"http://localhost:{hub_port}",
        "KATAVEN_HUB_CLIENT_ID": CLIENT_ID,
    }


def _prepare(environ: Mapping[str, str]) -> dict[str, Key]:
    """Create the system database, the accounts and a key of each, as commands do."""
    configured = settings.load(environ)
    account_creation.prepare_system(configured.database_url_past_poolers)
    issuer = assembly.local_issuer(configured)
    keys = {}
    with open_foundation(assembly.foundation(configured)) as parts:
        for account, limit in _LIMITS.items():
            database = parts.directory.database
            new = account_creation.NewAccount(account, account.title(), org_id(account))
            account_creation.create(database, new, actor="topologies")
            minute = {} if limit is None else {"per_minute": limit}
            with database.writing() as session:
                limits.change(session, account, {**UNLIMITED, **minute})
            issued = issuer.issue(TokenKind.API_KEY, account)
            with parts.sessions.writing(account) as session:
                keys[account] = Key(str(api_keys.issue(session, "topologies", issued, None, ACTOR).id), issued.text)
    return keys
