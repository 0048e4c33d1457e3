"""The product in one process, with a real PostgreSQL, a real Redis and a real issuer, and the personas signed in."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

import app as factory
from kataven import settings
from kataven.account import api_keys
from kataven.account.audit import Actor
from kataven.dev.embedded.binaries import postgres_programs
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.embedded.redis_server import EmbeddedRedis
from kataven.dev.issuer import AUDIENCE
from kataven.dev.personas import ALICE, BOB, CHARLIE, Persona, org_id
from kataven.identity import signing
from kataven.identity.token import TokenKind
from kataven.operations import account_creation
from kataven.ratelimit.policy import WINDOWS
from kataven.revocation.target import RevocationTarget
from kataven.system import limits
from kataven.web.services import EXTENSION, Services
from tests.support.kept_servers import Slot
from tests.support.oidc import IssuerWithPen

ACCOUNTS = ("acme", "globex")
PLENTY = dict.fromkeys(WINDOWS, 1_000_000) | {"concurrent": 1_000}
TESTER = Actor("test:harness", "Harness")


@dataclass(frozen=True)
class Caller:
    """A client with a credential."""

    app: Flask
    headers: Mapping[str, str] = field(repr=False)

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.call("GET", path, **options)

    def post(self, path: str, json: Any = None, **options: Any) -> TestResponse:
        return self.call("POST", path, json=json, **options)

    def patch(self, path: str, json: Any = None, **options: Any) -> TestResponse:
        return self.call("PATCH", path, json=json, **options)

    def delete(self, path: str, **options: Any) -> TestResponse:
        return self.call("DELETE", path, **options)

    def call(self, method: str, path: str, headers: Mapping[str, str] | None = None, **options: Any) -> TestResponse:
        client = self.app.test_client()
        return client.open(path, method=method, headers={**self.headers, **(headers or {})}, **options)


@dataclass(frozen=True)
class AppHarness:
    """The API, and callers for it."""

    app: Flask
    services: Services
    issuer: IssuerWithPen
    environ: Mapping[str, str] = field(repr=False)

    def caller(self, **headers: str) -> Caller:
        """A caller that sends only these headers, such as `Accept`. Without a credential, it is unauthenticated."""
        return Caller(self.app, {name.replace("_", "-"): value for name, value in headers.items()})

    def bearer(self, token: str, account: str | None = None) -> Caller:
        headers = {"Authorization": f"Bearer {token}"}
        return Caller(self.app, headers if account is None else {**headers, "X-Account-ID": account})

    def user(self, persona: Persona, account: str | None = None) -> Caller:
        """A user with an access token of the issuer, in their own account unless `account` names another."""
        return self.bearer(self.issuer.token(persona), account or persona.account)

    def new_key(self, account: str, **columns: Any) -> str:
        """Create an API key and return its text. `columns` sets what a request could not, such as a past expiry."""
        record = self.services.directory.read(account)
        assert record is not None
        issued = self.services.issuer.issue(TokenKind.API_KEY, account)
        with self.services.registry.writing(record.tenant) as session:
            key = api_keys.issue(session, "test", issued, None, TESTER)
            for name, value in columns.items():
                setattr(key, name, value)
        return issued.text

    def scope(self, account: str) -> RevocationTarget:
        """All credentials of an account."""
        return RevocationTarget(account)

    def set_limits(self, account: str, **given: int) -> None:
        """Set limits, including combinations that a command would reject, so that a test meets exactly one limit."""
        with self.services.directory.database.writing() as session:
            limits.write(session, account, given)
        self.services.revocation.announce(RevocationTarget(account))


def new_account(services: Services, account: str) -> None:
    """Create an account for one test, with limits that the test does not reach by accident."""
    account_creation.create(
        services.directory.database,
        account_creation.NewAccount(account, account.title(), org_id(account)),
        actor="test",
    )
    with services.directory.database.writing() as session:
        limits.change(session, account, PLENTY)


def environ_for(postgres: EmbeddedPostgres, redis_url: str, issuer_url: str, database: str) -> dict[str, str]:
    """The environment of a process of the product."""
    pepper = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return {
        "KATAVEN_ENV": "development",
        "KATAVEN_DATABASE_URL": postgres.url(database),
        "KATAVEN_REDIS_URL": redis_url,
        "KATAVEN_PEPPERS": f"dev1:{pepper}",
        "KATAVEN_WIDGET_SIGNING_KEYS": signing.new_key("dev1"),
        "KATAVEN_PUBLIC_URL": "http://127.0.0.1:8000",
        "KATAVEN_API_URL": "http://127.0.0.1:1",  # nothing listens there; `make run` uses the default port
        "KATAVEN_OIDC_ISSUER": issuer_url,
        "KATAVEN_OIDC_AUDIENCE": AUDIENCE,
        "KATAVEN_SECURITY_CONTACT": "mailto:security@example.com",
        "KATAVEN_POSTGRES_PROGRAMS": str(postgres_programs()),
    }


@pytest.fixture(scope="session")
def shared_redis(kept_servers: Slot | None, server_folder: Path) -> Iterator[EmbeddedRedis]:
    """The Redis of the shared harness, which no other test flushes."""
    if kept_servers is not None:
        yield kept_servers.shared_redis
        return
    with EmbeddedRedis(server_folder / "shared-redis", persistent=False) as server:
        yield server


@pytest.fixture(scope="session")
def harness(
    postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis, issuer: IssuerWithPen, server_folder: Path
) -> Iterator[AppHarness]:
    """One harness per pytest worker. Tests share acme and globex, so each creates what it checks."""
    with open_harness(postgres, shared_redis, issuer, server_folder) as harness:
        yield harness


@contextmanager
def open_harness(
    postgres: EmbeddedPostgres, redis_server: EmbeddedRedis, issuer: IssuerWithPen, folder: Path
) -> Iterator[AppHarness]:
    """A harness on servers without one."""
    environ = environ_for(postgres, redis_server.url, issuer.url, "kataven_system")
    environ |= {"KATAVEN_DUMP_DIR": str(folder / "dumps")}
    environ |= {"KATAVEN_HOST_SLOTS_DIR": str(folder / "slots")}
    configured = settings.load(environ)
    account_creation.prepare_system(configured.database_url.get_secret_value())
    application = factory.create_api(configured)
    services: Services = application.extensions[EXTENSION]
    for account in ACCOUNTS:
        new_account(services, account)
    services.start()
    yield AppHarness(application, services, issuer, environ)
    services.stop()


@pytest.fixture
def alice(harness: AppHarness) -> Caller:
    """Owner of acme."""
    return harness.user(ALICE)


@pytest.fixture
def bob(harness: AppHarness) -> Caller:
    """Member of acme."""
    return harness.user(BOB)


@pytest.fixture
def charlie(harness: AppHarness) -> Caller:
    """Owner of globex, without a role in acme."""
    return harness.user(CHARLIE)


@pytest.fixture
def acme_key(harness: AppHarness) -> Caller:
    """A server of acme, with an API key."""
    return harness.bearer(harness.new_key("acme"))
