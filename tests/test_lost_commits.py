"""A failover of a database server that loses commits must not make a revoked key valid again.

A test simulates the lost commit by undoing the change in the account's database, without the product.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

import app as factory
from kataven import assembly, settings
from kataven.api import api_keys as api_routes
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.personas import Persona
from kataven.identity.credential import ApiKeyCredential
from kataven.identity.errors import RevokedCredential
from kataven.identity.principal import Role
from kataven.revocation.fallback.channel import FallbackUnreachable
from kataven.revocation.revocation import Intent
from kataven.revocation.target import RevokedKey
from kataven.system import journal
from kataven.system.fallback_channel import SystemFallbackChannel
from kataven.system.models import JournalledKey
from kataven.web import receipts
from kataven.web.services import EXTENSION, Services
from tests.support.app_harness import AppHarness, Caller, new_account
from tests.support.servers import ask
from tests.support.waiting import wait_until
from tests.widget.conftest import Site, new_site

__all__ = ["new_site"]  # a fixture that is defined next to the code that it provides

ACCOUNT = "loses-commits"


@pytest.fixture(scope="module")
def owner(harness: AppHarness) -> Caller:
    new_account(harness.services, ACCOUNT)
    return harness.user(Persona("dora", "Dora", ACCOUNT, Role.OWNER))


@pytest.fixture(scope="module")
def other(harness: AppHarness) -> Iterator[AppHarness]:
    """Another worker."""
    app = factory.create_api(settings.load(harness.environ))
    services: Services = app.extensions[EXTENSION]
    services.start()
    wait_until(lambda: services.revocation.status().lease_confirmed, 60)
    yield dataclasses.replace(harness, app=app, services=services)
    services.stop()


def create_key(owner: Caller) -> tuple[str, str]:
    """The id and the text of a new key."""
    created = owner.post("/v1/api-keys", {"name": "CI", "expiry": "30d"}).get_json()
    return created["id"], created["key"]


def revoke(owner: Caller, key_id: str) -> None:
    answer = owner.patch(f"/v1/api-keys/{key_id}", {"disabled": True})
    assert "receipt" in answer.get_json(), answer.text


def lose_commits(postgres: EmbeddedPostgres) -> None:
    ask(postgres, "UPDATE api_keys SET disabled_at = NULL", ACCOUNT)
    ask(postgres, "UPDATE widget_keys SET disabled_at = NULL, generation = 0", ACCOUNT)


def outcome(caller: Caller) -> tuple[int, str | None]:
    answer = caller.get("/v1/me")
    return answer.status_code, answer.get_json().get("code")


def journalled(harness: AppHarness) -> dict[str, int | None]:
    with harness.services.directory.database.reading() as session:
        return dict(journal.of_account(session, ACCOUNT))


REFUSED = (403, "revoked_credential")


def test_key_stays_refused_on_every_worker_after_its_revocation_is_lost(
    harness: AppHarness, other: AppHarness, owner: Caller, postgres: EmbeddedPostgres
) -> None:
    (key_id, key), (_, spared) = create_key(owner), create_key(owner)
    for worker in (harness, other):  # caches the keys and the account's record
        assert outcome(worker.bearer(key)) == outcome(worker.bearer(spared)) == (200, None)
    revoke(owner, key_id)
    lose_commits(postgres)
    assert ask(postgres, f"SELECT disabled_at FROM api_keys WHERE id = '{key_id}'", ACCOUNT) == [(None,)]
    for worker in (harness, other):
        assert outcome(worker.bearer(key)) == REFUSED
        assert outcome(worker.bearer(spared)) == (200, None)


def test_worker_without_a_lease_refuses_a_key_whose_revocation_is_lost(
    harness: AppHarness, owner: Caller, postgres: EmbeddedPostgres
) -> None:
    """As in the auth-service, which caches nothing."""
    key_id, key = create_key(owner)
    configured = settings.load(harness.environ)
    parts = assembly.foundation(configured)
    verifier = assembly.local_verifier(configured, parts)
    credential = ApiKeyCredential(key, ACCOUNT)
    try:
        assert verifier.verify(credential).id == key_id
        revoke(owner, key_id)
        lose_commits(postgres)
        with pytest.raises(RevokedCredential):
            verifier.verify(credential)
    finally:
        parts.registry.close()
        parts.directory.database.close()


class ProcessDied(BaseException):
    """The revoking process was killed."""


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_intent_without_its_commit_revokes_nothing(
    harness: AppHarness, other: AppHarness, owner: Caller, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    key_id, key = create_key(owner)
    write_intent = receipts.record_intent

    def die(*given: Any, **options: Any) -> Intent:
        write_intent(*given, **options)
        raise ProcessDied

    monkeypatch.setattr(api_routes, "record_intent", die)
    body = {"disabled": True} if method == "PATCH" else None
    with pytest.raises(ProcessDied):
        owner.call(method, f"/v1/api-keys/{key_id}", json=body)
    before = other.services.revocation.stats.intents_applied
    wait_until(lambda: other.services.revocation.stats.intents_applied > before, 60)
    assert key_id not in journalled(harness)
    for worker in (harness, other):
        assert outcome(worker.bearer(key)) == (200, None)


@pytest.fixture
def site(new_site: Callable[..., Site], owner: Caller) -> Site:
    return new_site(owner)


def test_disabled_widget_key_stays_refused_until_it_is_enabled_again(site: Site, postgres: EmbeddedPostgres) -> None:
    assert site.config().status_code == 200
    site.change(disabled=True)
    lose_commits(postgres)
    assert site.config().get_json()["code"] == "widget_key_disabled"
    site.change(disabled=True)
    site.change(disabled=False)
    assert site.config().status_code == 200


def test_enabled_widget_key_serves_pages(site: Site) -> None:
    site.change(disabled=True)
    assert site.config().status_code == 403
    site.change(disabled=False)
    assert site.config().status_code == 200


def test_restricted_widget_key_is_not_journalled_as_revoked(harness: AppHarness, site: Site) -> None:
    site.change(domain_allowlist=["www.acme.com", "shop.acme.com"])
    assert "receipt" in site.change(domain_allowlist=["www.acme.com"])
    assert site.key_id not in journalled(harness)
    assert site.config().status_code == 200


def test_key_that_cannot_be_journalled_gets_its_receipt_and_is_journalled_later(
    harness: AppHarness, owner: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_id, _ = create_key(owner)
    missed = harness.services.revocation.stats.journal_missed
    with monkeypatch.context() as patch:

        def fail(*_: Any) -> None:
            raise FallbackUnreachable("test")

        patch.setattr(SystemFallbackChannel, "journal", fail)
        revoke(owner, key_id)
        assert key_id not in journalled(harness)
    assert harness.services.revocation.stats.journal_missed == missed + 1
    wait_until(lambda: key_id in journalled(harness), 60)


def test_entries_older_than_any_backup_are_removed(harness: AppHarness) -> None:
    database = harness.services.directory.database
    old, recent = str(uuid4()), str(uuid4())
    with database.writing() as session:
        for key_id in (old, recent):
            journal.add(session, RevokedKey(ACCOUNT, key_id))
        entry = session.get_one(JournalledKey, (ACCOUNT, old))
        entry.revoked_at = entry.revoked_at.replace(year=entry.revoked_at.year - 1)
    SystemFallbackChannel(database, journal_days=35).expire_journal()
    assert recent in journalled(harness)
    assert old not in journalled(harness)


def test_account_with_more_entries_than_its_record_lists(
    harness: AppHarness, other: AppHarness, owner: Caller, postgres: EmbeddedPostgres
) -> None:
    with harness.services.directory.database.writing() as session:
        for _ in range(journal.MAX_LISTED + 1):
            journal.add(session, RevokedKey(ACCOUNT, str(uuid4())))
    (key_id, key), (_, spared) = create_key(owner), create_key(owner)
    revoke(owner, key_id)
    lose_commits(postgres)
    record = other.services.directory.find(ACCOUNT)
    assert record is not None
    assert record.revoked_keys is None
    assert outcome(other.bearer(key)) == REFUSED
    assert outcome(other.bearer(spared)) == (200, None)
