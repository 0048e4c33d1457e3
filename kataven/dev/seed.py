"""The sample data of `make run`: the accounts acme and globex, each with agents and keys."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from kataven import assembly, settings
from kataven.account import agents, api_keys, widget_keys
from kataven.account.audit import Actor
from kataven.account.models import ApiKey, WidgetKey
from kataven.dev.dev_json import AccountKeys
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
_AGENTS: dict[str, list[dict[str, Any]]] = {
    "acme": [
        {
            "name": "Front desk",
            "description": "Answers the phone, gives opening hours and takes messages.",
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
            "greeting_message": "Acme orders. What is your order number?",
        },
        {
            "name": "Rocket skates campaign",
            "description": "Calls back customers who requested an offer.",
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


@dataclass(frozen=True, slots=True)
class Seeded:
    """The sample accounts."""

    accounts: tuple[AccountKeys, ...]
    unavailable: Mapping[str, str]
    """Accounts that cannot be served, each with the reason."""


def migrate(environ: Mapping[str, str]) -> dict[str, str]:
    """Create the system database if it is missing, and migrate it and all account databases to this code's schema.

    Returns the accounts that could not be migrated, each with the reason. They do not prevent the others' migration.
    """
    configured = settings.load(environ)
    account_creation.prepare_system(configured.database_url_past_poolers)
    database = assembly.system_database(configured)
    try:
        outdated = [one for one in account_migrations.tenants(database) if one.revision != ACCOUNT_SCHEMA.head]
        try:
            return _upgrade(database, outdated)
        except MigrationError:  # a step failed on a copy of one database, and no database was changed
            return {name: reason for one in outdated for name, reason in _upgrade_one(database, one).items()}
    finally:
        database.close()


def _upgrade_one(database: SystemDatabase, tenant: Tenant) -> dict[str, str]:
    try:
        return _upgrade(database, [tenant])
    except MigrationError as error:
        return {tenant.account: str(error)}


def _upgrade(database: SystemDatabase, outdated: Sequence[Tenant]) -> dict[str, str]:
    """Migrate all, even if some fail. Returns the reason for each failure. Raises MigrationError as `upgrade` does."""
    if not outdated:
        return {}
    options = RunOptions(canaries=0, max_failures=len(outdated) + 1)
    report = account_migrations.upgrade(database, outdated, options, actor=SEED.label)
    good = (MigrationOutcome.MIGRATED, MigrationOutcome.CURRENT)
    return {one.account: one.error or str(one.outcome) for one in report.results if one.outcome not in good}


def seed(environ: Mapping[str, str], stored: Mapping[str, AccountKeys]) -> Seeded:
    """The sample accounts, created if they are missing.

    Stored keys that are still valid are kept, others are replaced. An account whose database is unavailable keeps its
    stored keys.
    """
    accounts, unavailable = [], {}
    with _seeder(environ) as seeder:
        for name in ACCOUNT_NAMES:
            try:
                accounts.append(seeder.account(name, stored.get(name)))
            except TenancyError as error:
                unavailable[name] = str(error)
                accounts += [stored[name]] if name in stored else []
    return Seeded(tuple(accounts), unavailable)


class _Seeder:
    def __init__(self, system: SystemDatabase, registry: EngineRegistry, peppers: PepperRing) -> None:
        self._system = system
        self._directory = Directory(system, Guard(Lease(1.0), Lease(1.0)))
        self._registry = registry
        self._issuer = LocalIssuer(peppers)

    def account(self, account: str, stored: AccountKeys | None) -> AccountKeys:
        if self._directory.read(account) is None:
            new = account_creation.NewAccount(account, ACCOUNT_NAMES[account], org_id(account), discoverable=True)
            account_creation.create(self._system, new, actor=SEED.label)
            with self._session(account) as session:
                _add_agents(session, account)
        with self._session(account) as session:
            return AccountKeys(
                account,
                self._api_key(session, account, stored.api_key if stored else None),
                self._widget_key(session, account, stored.widget_key if stored else None),
            )

    @contextmanager
    def _session(self, account: str) -> Iterator[TenantSession]:
        record = self._directory.read(account)
        if record is None:
            raise NoSuchAccount(account)
        with self._registry.writing(record.tenant) as session:
            yield session

    def _api_key(self, session: TenantSession, account: str, stored: str | None) -> str:
        if stored is not None and self._is_valid(session, ApiKey, stored):
            return stored
        issued = self._issuer.issue(TokenKind.API_KEY, account)
        api_keys.issue(session, "Development", issued, None, SEED)
        return issued.text

    def _widget_key(self, session: TenantSession, account: str, stored: str | None) -> str:
        if stored is not None and self._is_valid(session, WidgetKey, stored):
            return stored
        issued = self._issuer.issue(TokenKind.WIDGET_KEY, account)
        widget_keys.issue(session, "Development page", issued, WIDGET_ORIGINS, None, SEED)
        return issued.text

    def _is_valid(self, session: TenantSession, model: type[ApiKey] | type[WidgetKey], text: str) -> bool:
        digests = [candidate.digest for candidate in self._issuer.candidates(text)]
        found = session.scalar(select(model.id).where(model.key_hash.in_(digests), model.disabled_at.is_(None)))
        return found is not None


@contextmanager
def _seeder(environ: Mapping[str, str]) -> Iterator[_Seeder]:
    configured = settings.load(environ)
    assert configured.peppers is not None  # noqa: S101  a development run has no auth-service
    system = assembly.system_database(configured)
    registry = EngineRegistry(schema=ACCOUNT_SCHEMA)
    try:
        yield _Seeder(system, registry, PepperRing.parse(configured.peppers.get_secret_value()))
    finally:
        registry.close()
        system.close()


def _add_agents(session: TenantSession, account: str) -> None:
    # In reverse, because lists of agents are sorted newest first.
    for described in reversed(_AGENTS[account]):
        widget = {name: value for name, value in described.items() if name.startswith("widget_")}
        public = {name: value for name, value in described.items() if name not in widget}
        agent = AgentInput.model_validate_json(json.dumps(public))
        agents.create(session, {**agent.model_dump(), **widget, "created_at": datetime.now(UTC)}, SEED)
