"""What `make run` puts into an empty installation: the accounts acme and globex, each with agents and keys."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from sqlalchemy import select

from kataven import settings
from kataven.account import agents, api_keys, widget_keys
from kataven.account.audit import Actor
from kataven.account.models import ApiKey, WidgetKey
from kataven.dev.personas import org_id
from kataven.identity.issuer import LocalIssuer
from kataven.identity.peppers import PepperRing
from kataven.identity.token import TokenKind
from kataven.operations import account_creation, account_migrations
from kataven.revocation.guard import Guard
from kataven.revocation.lease import Lease
from kataven.system.database import SystemDatabase
from kataven.system.directory import Directory
from kataven.system.errors import NoSuchAccount
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.tenancy.directory import Tenant
from kataven.tenancy.errors import MigrationError, TenancyError
from kataven.tenancy.migrations.fleet import RunOptions
from kataven.tenancy.migrations.report import MigrationOutcome
from kataven.tenancy.serving.registry import EngineRegistry
from kataven.tenancy.serving.session import TenantSession
from kataven.web.inputs.agents import AgentInput

SEED = Actor("dev:seed", "make run")
ACCOUNT_NAMES = {"acme": "Acme Inc.", "globex": "Globex Corporation"}
WIDGET_ORIGINS = ["localhost:*", "127.0.0.1:*"]


class KnownKeys(Protocol):
    """The keys of an account that an earlier run wrote down."""

    @property
    def api_key(self) -> str: ...
    @property
    def widget_key(self) -> str: ...


@dataclass(frozen=True, slots=True)
class SeededAccount:
    """A seeded account and the plaintext of its keys, which is kept only in the development folder."""

    account: str
    api_key: str = field(repr=False)
    widget_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Seeded:
    """What a run begins with."""

    accounts: tuple[SeededAccount, ...]
    closed: Mapping[str, str]
    """Accounts that are not served, each with the reason."""


_AGENTS: dict[str, list[dict[str, Any]]] = {
    "acme": [
        {
            "name": "Front desk",
            "description": "Answers the phone, tells opening hours and takes messages.",
            "category": "customer_support",
            "status": "active",
            "system_prompt": "You answer the phone at Acme. Be brief and friendly; offer to take a message.",
            "greeting_message": "Acme, good day! How can I help?",
            "auth_mode": "public",
            "widget_enabled": True,
            "widget_auth_mode": "both",
        },
        {
            "name": "Order desk",
            "description": "Looks up orders and changes delivery dates.",
            "category": "operations",
            "status": "active",
            "voice_provider": "elevenlabs",
            "greeting_message": "Acme orders. Do you have your order number at hand?",
        },
        {
            "name": "Rocket skates campaign",
            "description": "Calls back people who asked for an offer.",
            "category": "sales",
            "status": "draft",
            "voice_provider": "deepgram",
        },
    ],
    "globex": [
        {
            "name": "Hammock concierge",
            "description": "Helps guests of the Cypress Creek office to find a hammock.",
            "category": "customer_support",
            "status": "active",
            "greeting_message": "Globex. Which hammock may I show you?",
        }
    ],
}


def prepare(environ: Mapping[str, str]) -> dict[str, str]:
    """Create the system database if it is missing, and bring it and every account's to this code's schema.

    The accounts for which that is impossible, each with the reason; the others don't suffer for them.
    """
    url = settings.load(environ).database_url.get_secret_value()
    account_creation.prepare_system(url)
    database = SystemDatabase(url)
    try:
        behind = [one for one in account_migrations.tenants(database) if one.revision != ACCOUNT_SCHEMA.head]
        try:
            return _migrated(database, behind)
        except MigrationError:  # a step failed on a copy of one of them: nothing was touched
            return {name: why for one in behind for name, why in _migrated_alone(database, one).items()}
    finally:
        database.close()


def _migrated_alone(database: SystemDatabase, tenant: Tenant) -> dict[str, str]:
    try:
        return _migrated(database, [tenant])
    except MigrationError as error:
        return {tenant.account: str(error)}


def _migrated(database: SystemDatabase, behind: Sequence[Tenant]) -> dict[str, str]:
    """Migrate them all, whatever fails. Why it failed, for each that did. Raises MigrationError as `upgrade` does."""
    if not behind:
        return {}
    options = RunOptions(canaries=0, max_failures=len(behind) + 1)
    report = account_migrations.upgrade(database, behind, options, actor=SEED.label)
    good = (MigrationOutcome.MIGRATED, MigrationOutcome.CURRENT)
    return {one.account: one.error or str(one.outcome) for one in report.results if one.outcome not in good}


def seed(environ: Mapping[str, str], known: Mapping[str, KnownKeys]) -> Seeded:
    """The seeded accounts, made where they are missing.

    `known` has the keys that an earlier run wrote down. Those that are still good are kept; lost ones are replaced. An
    account whose database can't be used keeps what is known of it.
    """
    accounts, closed = [], {}
    with _house(environ) as harness:
        for name in ACCOUNT_NAMES:
            kept = known.get(name)
            try:
                accounts.append(harness.account(name, kept))
            except TenancyError as error:
                closed[name] = str(error)
                if kept is not None:
                    accounts.append(SeededAccount(name, kept.api_key, kept.widget_key))
    return Seeded(tuple(accounts), closed)


class _House:
    """The few collaborators that seeding needs."""

    def __init__(self, system: SystemDatabase, registry: EngineRegistry, peppers: PepperRing) -> None:
        self._system = system
        self._directory = Directory(system, Guard(Lease(1.0), Lease(1.0)))
        self._registry = registry
        self._issuer = LocalIssuer(peppers)

    def account(self, account: str, known: KnownKeys | None) -> SeededAccount:
        if self._directory.read(account) is None:
            new = account_creation.NewAccount(account, ACCOUNT_NAMES[account], org_id(account), discoverable=True)
            account_creation.create(self._system, new, actor=SEED.label)
            with self._session(account) as session:
                _add_agents(session, account)
        with self._session(account) as session:
            return SeededAccount(
                account,
                self._api_key(session, account, known.api_key if known else None),
                self._widget_key(session, account, known.widget_key if known else None),
            )

    @contextmanager
    def _session(self, account: str) -> Iterator[TenantSession]:
        record = self._directory.read(account)
        if record is None:
            raise NoSuchAccount(account)
        with self._registry.writing(record.tenant) as session:
            yield session

    def _api_key(self, session: TenantSession, account: str, known: str | None) -> str:
        if known is not None and self._is_good(session, ApiKey, known):
            return known
        issued = self._issuer.issue(TokenKind.API_KEY, account)
        api_keys.issue(session, "Development", issued, None, SEED)
        return issued.text

    def _widget_key(self, session: TenantSession, account: str, known: str | None) -> str:
        if known is not None and self._is_good(session, WidgetKey, known):
            return known
        issued = self._issuer.issue(TokenKind.WIDGET_KEY, account)
        widget_keys.issue(session, "Development page", issued, WIDGET_ORIGINS, None, SEED)
        return issued.text

    def _is_good(self, session: TenantSession, model: type[ApiKey] | type[WidgetKey], text: str) -> bool:
        digests = [candidate.digest for candidate in self._issuer.candidates(text)]
        found = session.scalar(select(model.id).where(model.key_hash.in_(digests), model.disabled_at.is_(None)))
        return found is not None


@contextmanager
def _house(environ: Mapping[str, str]) -> Iterator[_House]:
    configured = settings.load(environ)
    assert configured.peppers is not None  # noqa: S101  a development run verifies in its own processes
    system = SystemDatabase(configured.database_url.get_secret_value())
    registry = EngineRegistry(schema=ACCOUNT_SCHEMA)
    try:
        yield _House(system, registry, PepperRing.parse(configured.peppers.get_secret_value()))
    finally:
        registry.close()
        system.close()


def _add_agents(session: TenantSession, account: str) -> None:
    # Last first, so that the list, which is newest first, has them in the order above.
    for described in reversed(_AGENTS[account]):
        widget = {name: value for name, value in described.items() if name.startswith("widget_")}
        public = {name: value for name, value in described.items() if name not in widget}
        agent = AgentInput.model_validate_json(json.dumps(public))
        agents.create(session, {**agent.model_dump(), **widget, "created_at": datetime.now(UTC)}, SEED)
