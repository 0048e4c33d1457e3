"""`/v1/people`: who used the account, ending their sessions, blocking them."""

from __future__ import annotations

import time
from dataclasses import replace
from uuid import uuid4

import pytest

from kataven.dev.personas import ALICE, BOB, CHARLIE, Persona
from kataven.identity.people import Person
from kataven.identity.principal import Role
from tests.support.app_harness import AppHarness, Caller, new_account


@pytest.fixture(scope="module")
def account(harness: AppHarness) -> str:
    new_account(harness.services, "people")
    return "people"


def member(account: str, role: Role) -> Persona:
    return Persona(f"{role}-{uuid4()}", str(role).title(), account, role)


def signed_in(harness: AppHarness, persona: Persona) -> Caller:
    """A user whom the account has seen."""
    caller = harness.bearer(harness.issuer.token(persona), persona.account)
    assert caller.get("/v1/me").status_code == 200
    harness.services.people_seen.flush()
    return caller


def id_of(harness: AppHarness, persona: Persona) -> str:
    return Person(harness.issuer.url, persona.subject).id


def code(caller: Caller) -> str:
    response = caller.get("/v1/me")
    return "accepted" if response.status_code == 200 else str(response.get_json()["code"])


def test_users_who_used_the_account_are_listed(harness: AppHarness, account: str) -> None:
    owner, admin = member(account, Role.OWNER), member(account, Role.ADMIN)
    caller = signed_in(harness, owner)
    signed_in(harness, admin)
    listed = {person["id"]: person for person in caller.get("/v1/people").get_json()}
    found = listed[id_of(harness, admin)]
    assert (found["name"], found["role"], found["block"]) == ("Admin", "admin", None)
    assert found["last_seen_at"] >= found["created_at"]
    assert id_of(harness, owner) in listed
    assert id_of(harness, ALICE) not in listed


@pytest.mark.parametrize("method", ["end-sessions", "block"])
def test_members_and_keys_end_no_sessions(harness: AppHarness, account: str, method: str) -> None:
    owner, plain = member(account, Role.OWNER), member(account, Role.MEMBER)
    signed_in(harness, owner)
    path = f"/v1/people/{id_of(harness, owner)}/{method}"
    verb, body = ("POST", None) if method == "end-sessions" else ("PUT", {})
    for caller in (signed_in(harness, plain), harness.bearer(harness.new_key(account))):
        assert caller.call(verb, path, json=body).get_json()["code"] == "forbidden"
        assert caller.get("/v1/people").get_json()["code"] == "forbidden"


def test_a_users_sessions_are_ended_with_a_receipt(harness: AppHarness, account: str) -> None:
    owner, plain = member(account, Role.OWNER), member(account, Role.MEMBER)
    caller, ended = signed_in(harness, owner), signed_in(harness, plain)
    response = caller.post(f"/v1/people/{id_of(harness, plain)}/end-sessions")
    assert response.status_code == 200
    receipt = response.get_json()["receipt"]
    assert receipt["acknowledged"] == receipt["workers"]
    assert code(ended) == "session_ended"
    later = harness.issuer.token(plain, claims={"iat": int(time.time()) + 20})
    assert code(harness.bearer(later, account)) == "accepted"
    events = caller.get("/v1/audit-events?action=person.sessions_ended").get_json()
    stored = {"id": events[0]["id"], **events[0]["detail"]["receipt"]}
    assert (events[0]["detail"]["name"], stored) == ("Member", receipt)


def test_a_user_is_blocked_and_unblocked(harness: AppHarness, account: str) -> None:
    owner, plain = member(account, Role.OWNER), member(account, Role.MEMBER)
    caller, blocked = signed_in(harness, owner), signed_in(harness, plain)
    path = f"/v1/people/{id_of(harness, plain)}/block"
    response = caller.call("PUT", path, json={"reason": "left the company"})
    assert response.status_code == 200
    assert response.get_json()["block"]["reason"] == "left the company"
    assert code(blocked) == "access_blocked"
    assert caller.call("PUT", path, json={}).status_code == 200  # can be repeated
    listed = {person["id"]: person["block"] for person in caller.get("/v1/people").get_json()}
    assert listed[id_of(harness, plain)]["created_by"] == f"jwt:{owner.subject}"
    assert caller.delete(path).get_json()["block"] is None
    assert code(blocked) == "accepted"


def test_users_block_themselves_only_with_confirm(harness: AppHarness) -> None:
    new_account(harness.services, "alone")
    owner = member("alone", Role.OWNER)
    caller = signed_in(harness, owner)
    path = f"/v1/people/{id_of(harness, owner)}/block"
    response = caller.call("PUT", path, json={})
    assert (response.status_code, response.get_json()["code"]) == (409, "conflict")
    assert code(caller) == "accepted"
    assert caller.call("PUT", f"{path}?confirm=true", json={}).status_code == 200
    assert code(caller) == "access_blocked"


def test_the_last_owner_is_blocked_only_with_confirm(harness: AppHarness) -> None:
    new_account(harness.services, "two-owners")
    first, second, third = (member("two-owners", Role.OWNER) for _ in range(3))
    caller = signed_in(harness, first)
    signed_in(harness, second)
    assert caller.call("PUT", f"/v1/people/{id_of(harness, second)}/block", json={}).status_code == 200
    other = signed_in(harness, third)
    assert other.call("PUT", f"/v1/people/{id_of(harness, first)}/block", json={}).status_code == 200
    response = other.call("PUT", f"/v1/people/{id_of(harness, third)}/block", json={})
    assert response.status_code == 409


def test_an_admin_takes_no_access_from_an_owner(harness: AppHarness, account: str) -> None:
    owner, admin = member(account, Role.OWNER), member(account, Role.ADMIN)
    kept, caller = signed_in(harness, owner), signed_in(harness, admin)
    signed_in(harness, member(account, Role.OWNER))
    person = f"/v1/people/{id_of(harness, owner)}"
    for response in (
        caller.post(f"{person}/end-sessions"),
        caller.call("PUT", f"{person}/block", json={}),
        caller.delete(f"{person}/block"),
    ):
        assert response.get_json()["code"] == "forbidden"
    assert code(kept) == "accepted"


def test_users_of_other_accounts_are_not_found(harness: AppHarness, account: str) -> None:
    caller = signed_in(harness, member(account, Role.OWNER))
    signed_in(harness, CHARLIE)
    for person in (id_of(harness, CHARLIE), str(uuid4()), "no-id"):
        assert caller.post(f"/v1/people/{person}/end-sessions").status_code == 404


def test_only_users_seen_within_90_days_are_listed(harness: AppHarness, account: str) -> None:
    from sqlalchemy import text

    owner, gone = member(account, Role.OWNER), replace(BOB, account=account, subject=f"gone-{uuid4()}")
    caller = signed_in(harness, owner)
    signed_in(harness, gone)
    record = harness.services.directory.read(account)
    assert record is not None
    with harness.services.registry.writing(record.tenant) as session:
        aged = text("UPDATE people SET last_seen_at = now() - interval '91 days' WHERE sub = :sub")
        session.execute(aged, {"sub": gone.subject})
    assert id_of(harness, gone) not in {person["id"] for person in caller.get("/v1/people").get_json()}
    signed_in(harness, member(account, Role.MEMBER))  # the next write removes the row
    with harness.services.registry.reading(record.tenant) as session:
        found = session.execute(text("SELECT count(*) FROM people WHERE sub = :sub"), {"sub": gone.subject})
        assert found.scalar_one() == 0
