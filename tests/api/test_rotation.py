"""Rotation of API keys: which secrets are accepted, and when."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

import app as factory
from kataven import settings
from kataven.account import peppers, restore_keys, rotation
from kataven.account.audit import Actor
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.personas import Persona
from kataven.identity.principal import Role
from kataven.revocation.target import RevocationTarget, RevokedKey, secrets_of
from kataven.system import accounts, journal
from kataven.system.directory import Directory
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.web.services import EXTENSION
from tests.support.app_harness import AppHarness, Caller, new_account
from tests.support.servers import ask
from tests.support.waiting import wait_until
from tests.support.walk import World, connected

ACCEPTED, ROTATED, UNKNOWN = (200, None), (403, "rotated_credential"), (401, "invalid_credential")


def created(owner: Caller, **body: Any) -> tuple[str, str]:
    response = owner.post("/v1/api-keys", {"name": "CI", "expiry": "90d", **body})
    assert response.status_code == 201, response.text
    return response.get_json()["id"], response.get_json()["key"]


def rotated(owner: Caller, key_id: str, grace: int | None = None, key: str | None = None) -> dict[str, Any]:
    headers = {} if key is None else {"Idempotency-Key": key}
    body = {} if grace is None else {"grace_seconds": grace}
    response = owner.post(f"/v1/api-keys/{key_id}/rotate", body, headers=headers)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.get_json()
    return found


def ended(owner: Caller, key_id: str, seconds: int = 0) -> Any:
    return owner.patch(f"/v1/api-keys/{key_id}/former-secret", {"ends_in_seconds": seconds})


def outcome(harness: AppHarness, secret: str) -> tuple[int, str | None]:
    response = harness.bearer(secret).get("/v1/me")
    return response.status_code, response.get_json().get("code")


def listed(owner: Caller, key_id: str) -> dict[str, Any]:
    return next(row for row in owner.get("/v1/api-keys?limit=200").get_json() if row["id"] == key_id)


def use(harness: AppHarness, owner: Caller, key_id: str, secret: str) -> None:
    """Use a new secret, and wait until the use is written."""
    assert outcome(harness, secret) == ACCEPTED
    wait_until(lambda: bool(listed(owner, key_id)["former_secrets"][0]["ends_at"]), 60)


def later(postgres: EmbeddedPostgres, harness: AppHarness, key_id: str, seconds: int, account: str = "acme") -> None:
    """Let time pass for the former secrets of a key."""
    ask(
        postgres,
        f"UPDATE former_secrets SET ends_at = ends_at - interval '{seconds} seconds' WHERE key_id = '{key_id}'",
        account,
    )
    harness.services.revocation.revoke(RevocationTarget(account, key_id))


def test_both_secrets_are_accepted_until_the_grace_period_ends(
    harness: AppHarness, alice: Caller, postgres: EmbeddedPostgres
) -> None:
    key_id, old = created(alice, name="Deploy", scopes=["agents:read"])
    before = listed(alice, key_id)
    shown = rotated(alice, key_id)
    new = shown["key"]
    assert {name: shown[name] for name in before if name not in ("hint", "secret_created_at", "former_secrets")} == {
        name: before[name] for name in before if name not in ("hint", "secret_created_at", "former_secrets")
    }
    assert new != old
    assert shown["former_secrets"][0] | {"rotated_at": None} == {
        "hint": old[-8:],
        "rotated_at": None,
        "grace_seconds": 86_400,
        "ends_at": None,
        "late_uses": 0,
        "last_late_use_at": None,
        "last_late_address": None,
    }
    later(postgres, harness, key_id, 365 * 86_400)  # without a use of the new secret, no time ends the old one
    assert outcome(harness, old) == ACCEPTED
    use(harness, alice, key_id, new)
    assert listed(alice, key_id)["former_secrets"][0]["ends_at"] is not None
    later(postgres, harness, key_id, 86_400 - 60)
    assert (outcome(harness, old), outcome(harness, new)) == (ACCEPTED, ACCEPTED)
    later(postgres, harness, key_id, 61)
    assert (outcome(harness, old), outcome(harness, new)) == (ROTATED, ACCEPTED)


def test_without_grace_the_first_use_ends_the_old_secret(harness: AppHarness, alice: Caller) -> None:
    key_id, old = created(alice)
    assert outcome(harness, old) == ACCEPTED  # cached
    new = rotated(alice, key_id, grace=0)["key"]
    assert outcome(harness, old) == ACCEPTED
    use(harness, alice, key_id, new)
    wait_until(lambda: outcome(harness, old) == ROTATED, 60)
    assert outcome(harness, new) == ACCEPTED


def test_the_end_of_a_grace_period_is_that_of_the_first_use(
    harness: AppHarness, alice: Caller, postgres: EmbeddedPostgres
) -> None:
    key_id, _ = created(alice)
    new = rotated(alice, key_id)["key"]
    use(harness, alice, key_id, new)
    first = listed(alice, key_id)["former_secrets"][0]["ends_at"]
    harness.services.last_used.record_completion("acme", key_id, _former_id(postgres, key_id))
    harness.services.last_used.flush()
    assert listed(alice, key_id)["former_secrets"][0]["ends_at"] == first


def _former_id(postgres: EmbeddedPostgres, key_id: str) -> str:
    with connected(postgres, "acme") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id FROM former_secrets WHERE key_id = %s ORDER BY generation DESC LIMIT 1", (key_id,))
        (found,) = cursor.fetchone() or (None,)
        return str(found)


def test_a_lost_write_of_the_first_use_is_repeated_by_a_later_use(
    harness: AppHarness, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_id, old = created(alice)
    new = rotated(alice, key_id, grace=0)["key"]

    lost_writes = threading.Event()

    def lost(*_: Any) -> None:
        lost_writes.set()
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(rotation, "start_grace", lost)
        assert outcome(harness, new) == ACCEPTED
        wait_until(lost_writes.is_set, 60)
    assert listed(alice, key_id)["former_secrets"][0]["ends_at"] is None
    assert outcome(harness, old) == ACCEPTED

    def is_repeated() -> bool:
        assert outcome(harness, new) == ACCEPTED  # until the failure is handled, a use counts as written
        return bool(listed(alice, key_id)["former_secrets"][0]["ends_at"])

    wait_until(is_repeated, 60)
    assert listed(alice, key_id)["former_secrets"][0]["ends_at"] is not None


def test_the_same_secret_is_returned_for_a_repeated_rotation(harness: AppHarness, alice: Caller) -> None:
    key_id, _ = created(alice)
    other, _ = created(alice)
    key = str(uuid4())
    first = rotated(alice, key_id, key=key)
    assert rotated(alice, key_id, key=key) == first
    assert outcome(harness, first["key"]) == ACCEPTED
    assert len(listed(alice, key_id)["former_secrets"]) == 1
    mismatch = alice.post(f"/v1/api-keys/{other}/rotate", {}, headers={"Idempotency-Key": key})
    assert (mismatch.status_code, mismatch.get_json()["code"]) == (409, "idempotency_mismatch")


def test_a_second_rotation_replaces_a_secret_that_was_not_used(harness: AppHarness, alice: Caller) -> None:
    key_id, old = created(alice)
    unused = rotated(alice, key_id)
    new = rotated(alice, key_id)
    assert "receipt" not in unused
    assert new["receipt"]["acknowledged"] >= 1
    assert [outcome(harness, secret) for secret in (old, unused["key"], new["key"])] == [ACCEPTED, ROTATED, ACCEPTED]
    harness.services.last_used.flush()
    assert outcome(harness, old) == ACCEPTED


def test_a_rotation_during_the_grace_period_is_refused(harness: AppHarness, alice: Caller) -> None:
    key_id, _ = created(alice)
    use(harness, alice, key_id, rotated(alice, key_id)["key"])
    refused = alice.post(f"/v1/api-keys/{key_id}/rotate", {})
    assert (refused.status_code, refused.get_json()["code"]) == (409, "conflict")
    assert ended(alice, key_id).status_code == 200
    assert rotated(alice, key_id)["key"]


@pytest.mark.parametrize("used", [False, True])
def test_ending_the_former_secret_is_a_revocation_with_a_receipt(
    harness: AppHarness, alice: Caller, used: bool
) -> None:
    key_id, old = created(alice)
    new = rotated(alice, key_id)["key"]
    if used:
        use(harness, alice, key_id, new)
    assert outcome(harness, old) == ACCEPTED
    response = ended(alice, key_id)
    assert response.get_json()["receipt"]["acknowledged"] >= 1
    assert (outcome(harness, old), outcome(harness, new)) == (ROTATED, ACCEPTED)
    event = next(row for row in alice.get("/v1/audit-events").get_json() if row["target"] == key_id)
    assert event["action"] == "api_key.former_secret_ended"
    assert event["detail"]["receipt"]["acknowledged"] >= 1
    assert ended(alice, key_id).get_json()["receipt"]["acknowledged"] >= 1, "can be repeated"


def test_a_grace_period_can_be_shortened_but_not_extended(harness: AppHarness, alice: Caller) -> None:
    key_id, old = created(alice)
    assert ended(alice, key_id, 60).status_code == 409
    use(harness, alice, key_id, rotated(alice, key_id, grace=3600)["key"])
    at_first = listed(alice, key_id)["former_secrets"][0]["ends_at"]
    assert ended(alice, key_id, 7 * 86_400).get_json()["former_secrets"][0]["ends_at"] == at_first
    assert ended(alice, key_id, 60).get_json()["former_secrets"][0]["ends_at"] < at_first
    assert outcome(harness, old) == ACCEPTED


def test_a_late_use_is_counted_with_its_address(harness: AppHarness, alice: Caller) -> None:
    key_id, old = created(alice)
    rotated(alice, key_id)
    ended(alice, key_id)
    for _ in range(3):
        assert harness.bearer(old).get("/v1/me", environ_base={"REMOTE_ADDR": "192.0.2.7"}).status_code == 403

    def counted() -> bool:
        harness.services.last_used.flush()
        return bool(listed(alice, key_id)["former_secrets"][0]["late_uses"] == 3)

    wait_until(counted, 60)
    former = listed(alice, key_id)["former_secrets"][0]
    assert former["last_late_address"] == "192.0.2.7"
    assert former["last_late_use_at"] is not None


def test_revoking_a_rotated_key_refuses_both_secrets(harness: AppHarness, alice: Caller) -> None:
    key_id, old = created(alice)
    new = rotated(alice, key_id)["key"]
    assert (outcome(harness, old), outcome(harness, new)) == (ACCEPTED, ACCEPTED)
    assert alice.patch(f"/v1/api-keys/{key_id}", {"disabled": True}).status_code == 200
    assert outcome(harness, old) == outcome(harness, new) == (403, "revoked_credential")
    assert alice.post(f"/v1/api-keys/{key_id}/rotate", {}).status_code == 409
    assert alice.delete(f"/v1/api-keys/{key_id}").status_code == 200


def test_pausing_and_limits_apply_to_both_secrets(harness: AppHarness, alice: Caller) -> None:
    key_id, old = created(alice, limits={"per_day": 500})
    new = rotated(alice, key_id)["key"]
    for secret in (old, new):
        assert harness.bearer(secret).get("/v1/me").get_json()["limits"]["per_day"]["limit"] == 500
    alice.patch(f"/v1/api-keys/{key_id}", {"paused": True})
    assert outcome(harness, old) == outcome(harness, new) == (403, "paused_credential")


def test_only_owners_and_admins_rotate(alice: Caller, bob: Caller, charlie: Caller, acme_key: Caller) -> None:
    key_id, _ = created(alice)
    for path, body in (("rotate", {}), ("former-secret", {"ends_in_seconds": 0})):
        method = "POST" if path == "rotate" else "PATCH"
        statuses = [
            caller.call(method, f"/v1/api-keys/{key_id}/{path}", json=body).status_code
            for caller in (bob, acme_key, charlie)
        ]
        assert statuses == [403, 403, 404]


@pytest.mark.parametrize("grace", [-1, 7 * 86_400 + 1, "1", None])
def test_an_invalid_grace_period_is_named(alice: Caller, grace: Any) -> None:
    key_id, _ = created(alice)
    refused = alice.post(f"/v1/api-keys/{key_id}/rotate", {"grace_seconds": grace})
    assert (refused.status_code, refused.get_json()["errors"][0]["field"]) == (400, "grace_seconds")


def test_a_former_secret_counts_for_its_pepper(harness: AppHarness, alice: Caller) -> None:
    key_id, _ = created(alice)
    rotated(alice, key_id)
    record = harness.services.directory.read("acme")
    assert record is not None
    with harness.services.registry.reading(record.tenant) as session:
        before = peppers.in_use(session)["dev1"]
    ended(alice, key_id)
    with harness.services.registry.reading(record.tenant) as session:
        assert peppers.in_use(session)["dev1"] == before - 1


def test_a_former_secret_moves_to_the_current_pepper_when_it_is_used(harness: AppHarness) -> None:
    new_account(harness.services, "rotated-pepper")
    owner = harness.user(Persona("petra", "Petra", "rotated-pepper", Role.OWNER))
    key_id, old = created(owner)
    new = rotated(owner, key_id)["key"]
    record = harness.services.directory.read("rotated-pepper")
    assert record is not None

    def in_use() -> dict[str, int]:
        with harness.services.registry.reading(record.tenant) as session:
            return {pepper: count for pepper, count in peppers.in_use(session).items() if count}

    assert in_use() == {"dev1": 2}
    ring = "2099a:" + "bm5u" * 11 + "," + harness.environ["KATAVEN_PEPPERS"]
    app = factory.create_api(settings.load({**harness.environ, "KATAVEN_PEPPERS": ring}))
    try:
        for secret, found in ((old, {"dev1": 1, "2099a": 1}), (new, {"2099a": 2})):
            assert Caller(app, {"Authorization": f"Bearer {secret}"}).get("/v1/me").status_code == 200
            assert in_use() == found
        assert owner.patch(f"/v1/api-keys/{key_id}/former-secret", {"ends_in_seconds": 0}).status_code == 200
        refused = Caller(app, {"Authorization": f"Bearer {old}"}).get("/v1/me")
        assert refused.get_json()["code"] == "rotated_credential"
    finally:
        app.extensions[EXTENSION].stop()


def test_redis_and_the_journal_both_record_the_end_of_a_secret(harness: AppHarness, alice: Caller) -> None:
    """A failover can lose the account's database and the journal together. Redis's record is the third one."""
    key_id, _ = created(alice)
    rotated(alice, key_id)
    ended(alice, key_id)
    services = harness.services
    with services.directory.database.reading() as session:
        assert journal.of_key(session, "acme", secrets_of(key_id)) == {secrets_of(key_id): 1}
    former, current = (RevokedKey("acme", secrets_of(key_id), generation) for generation in (0, 1))
    assert services.revocation.is_recently_revoked(former)
    assert not services.revocation.is_recently_revoked(current)
    assert not services.revocation.is_recently_revoked(RevokedKey("acme", key_id))
    assert RevokedKey("acme", secrets_of(key_id), 1) in services.revocation.recently_revoked(), "for the journal"

    after_a_failover = Directory(
        services.directory.database,
        services.revocation.guard,
        is_recently_revoked=services.revocation.is_recently_revoked,
    )
    without_entries = journal.EMPTY
    assert after_a_failover.journalled_secret("acme", without_entries, key_id, 0) == (False, True)
    assert after_a_failover.journalled_secret("acme", without_entries, key_id, 1) == (False, False)
    assert services.directory.journalled_secret("acme", without_entries, key_id, 0) == (False, False), "no failover"


class TestAfterAFailover:
    """The account's database has lost commits."""

    @pytest.fixture
    def database(self, postgres: EmbeddedPostgres) -> Callable[[str], object]:
        return lambda statement: ask(postgres, statement, "acme")

    def test_an_ended_secret_stays_ended_if_its_end_is_lost(
        self, harness: AppHarness, alice: Caller, database: Callable[[str], object]
    ) -> None:
        key_id, old = created(alice)
        new = rotated(alice, key_id)["key"]
        ended(alice, key_id)
        database(f"UPDATE former_secrets SET ends_at = NULL WHERE key_id = '{key_id}'")
        harness.services.revocation.revoke(RevocationTarget("acme", key_id))
        assert (outcome(harness, old), outcome(harness, new)) == (ROTATED, ACCEPTED)
        assert self._replay(harness) >= 1
        assert listed(alice, key_id)["former_secrets"][0]["ends_at"] is not None

    def test_an_ended_secret_stays_ended_if_its_rotation_is_lost(
        self, harness: AppHarness, alice: Caller, postgres: EmbeddedPostgres
    ) -> None:
        key_id, old = created(alice)
        with connected(postgres, "acme") as connection, connection.cursor() as cursor:
            cursor.execute("SELECT key_hash FROM api_keys WHERE id = %s", (key_id,))
            (old_hash,) = cursor.fetchone() or (b"",)
            rotated(alice, key_id)
            ended(alice, key_id)
            cursor.execute("DELETE FROM former_secrets WHERE key_id = %s", (key_id,))
            cursor.execute("UPDATE api_keys SET key_hash = %s, generation = 0 WHERE id = %s", (old_hash, key_id))
        harness.services.revocation.revoke(RevocationTarget("acme", key_id))
        assert outcome(harness, old) == ROTATED
        assert self._replay(harness) >= 1
        assert outcome(harness, old) == UNKNOWN
        assert outcome(harness, rotated(alice, key_id)["key"]) == ACCEPTED

    def test_a_lost_rotation_that_ended_nothing_restores_the_state_before_it(
        self, harness: AppHarness, alice: Caller, postgres: EmbeddedPostgres
    ) -> None:
        key_id, old = created(alice)
        with connected(postgres, "acme") as connection, connection.cursor() as cursor:
            cursor.execute("SELECT key_hash FROM api_keys WHERE id = %s", (key_id,))
            (old_hash,) = cursor.fetchone() or (b"",)
            rotated(alice, key_id)
            cursor.execute("DELETE FROM former_secrets WHERE key_id = %s", (key_id,))
            cursor.execute("UPDATE api_keys SET key_hash = %s, generation = 0 WHERE id = %s", (old_hash, key_id))
        harness.services.revocation.revoke(RevocationTarget("acme", key_id))
        assert outcome(harness, old) == ACCEPTED

    @staticmethod
    def _replay(harness: AppHarness) -> int:
        record = harness.services.directory.read("acme")
        assert record is not None
        with harness.services.directory.database.reading() as session:
            entries = journal.of_account(session, "acme")
        with harness.services.registry.writing(record.tenant) as session:
            changed = restore_keys.apply_journal(session, entries, Actor("system:journal", "Kataven"))
        harness.services.revocation.revoke(RevocationTarget("acme"))
        return changed


def test_ending_a_secret_does_not_revoke_the_key_for_an_older_release(harness: AppHarness, alice: Caller) -> None:
    """It looks for the id of the key in the journal."""
    key_id, _ = created(alice)
    rotated(alice, key_id)
    ended(alice, key_id)
    with harness.services.directory.database.reading() as session:
        assert journal.of_key(session, "acme", key_id) == {}
        assert journal.of_key(session, "acme", secrets_of(key_id)) == {secrets_of(key_id): 1}


def test_an_outdated_record_of_the_revision_hides_no_former_secret(
    harness: AppHarness, postgres: EmbeddedPostgres
) -> None:
    world = World(harness, postgres, "rotated-early", ACCOUNT_SCHEMA.head)
    key_id, old = created(world.owner)
    new = rotated(world.owner, key_id)["key"]
    with harness.services.directory.database.writing() as session:
        accounts.read(session, world.account).schema_revision = "account_0003"
    harness.services.revocation.revoke(RevocationTarget(world.account))
    assert (outcome(harness, old), outcome(harness, new)) == (ACCEPTED, ACCEPTED)
    ask(postgres, f"UPDATE former_secrets SET ends_at = now() WHERE key_id = '{key_id}'", world.account)
    harness.services.revocation.revoke(RevocationTarget(world.account))
    assert outcome(harness, old) == ROTATED


@pytest.mark.parametrize("revision", [one for one in ACCOUNT_SCHEMA.window if one < "account_0004"])
def test_an_account_before_its_migration_verifies_keys_and_refuses_to_rotate(
    harness: AppHarness, postgres: EmbeddedPostgres, revision: str
) -> None:
    world = World(harness, postgres, f"unrotated-{revision.replace('_', '-')}", revision)
    assert world.key.get("/v1/me").status_code == 200
    refused = world.owner.post(f"/v1/api-keys/{world.key_id}/rotate", {})
    assert (refused.status_code, refused.get_json()["code"]) == (503, "schema_mismatch")
    assert world.owner.patch(f"/v1/api-keys/{world.key_id}", {"disabled": True}).status_code == 200


def test_a_restored_dump_brings_back_no_secret_that_has_ended(harness: AppHarness, alice: Caller) -> None:
    """`restore_secrets` in the same database stands for a loaded dump: it then has the secrets of an earlier time."""
    key_id, old = created(alice)
    new = rotated(alice, key_id)["key"]
    ended(alice, key_id)
    record = harness.services.directory.read("acme")
    assert record is not None
    with harness.services.registry.writing(record.tenant) as session:
        kept = restore_keys.key_secrets(session)
    latest = rotated(alice, key_id)["key"]  # what the "dump" has
    with harness.services.registry.writing(record.tenant) as session:
        restore_keys.restore_secrets(session, kept)
    harness.services.revocation.revoke(RevocationTarget("acme"))
    assert [outcome(harness, secret) for secret in (old, new, latest)] == [ROTATED, ACCEPTED, UNKNOWN]


def test_the_operators_find_a_key_by_its_former_secret(harness: AppHarness, alice: Caller) -> None:
    from kataven.account import api_keys

    key_id, old = created(alice)
    rotated(alice, key_id)
    record = harness.services.directory.read("acme")
    assert record is not None
    with harness.services.registry.reading(record.tenant) as session:
        found = api_keys.find(session, harness.services.issuer.candidates(old))
        assert found is not None
        assert str(found.id) == key_id
