"""A user as a revocation target: cutoffs in one account and in all, and blocks, at the API."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import pytest
from sqlalchemy import delete, event, text

from kataven.dev.personas import ALICE, CHARLIE, Persona, org_id
from kataven.identity.people import Person, Presented, Restrictions
from kataven.people.access import Cause
from kataven.revocation.target import RevocationTarget
from kataven.system import cutoffs
from kataven.system.models import SubjectBlock
from tests.support.app_harness import AppHarness, Caller

CAUSE = Cause("a test", "test:people")


@pytest.fixture
def dana() -> Persona:
    """An owner of acme that no other test knows."""
    return replace(ALICE, subject=f"dana-{uuid4()}", name="Dana")


def person_of(harness: AppHarness, persona: Persona) -> Person:
    return Person(harness.issuer.url, persona.subject)


def with_token(harness: AppHarness, persona: Persona, account: str | None = None, **claims: object) -> Caller:
    return harness.bearer(harness.issuer.token(persona, claims=claims), account or persona.account)


def outcome(caller: Caller) -> str:
    response = caller.get("/v1/me")
    return "accepted" if response.status_code == 200 else str(response.get_json()["code"])


@pytest.mark.parametrize("account", ["acme", None], ids=["in one account", "in all"])
def test_tokens_from_before_the_cutoff_are_refused_and_later_ones_accepted(
    harness: AppHarness, dana: Persona, account: str | None
) -> None:
    now = int(time.time())
    old, of_the_second = with_token(harness, dana, iat=now - 60), with_token(harness, dana, iat=now)
    assert [outcome(old), outcome(of_the_second)] == ["accepted", "accepted"]
    receipt = harness.services.people.end_sessions(person_of(harness, dana), account, CAUSE, at=now)
    assert receipt.acknowledged == receipt.workers
    assert outcome(old) == "session_ended"
    # The token may be from before the cutoff: issuers state whole seconds.
    assert outcome(of_the_second) == "session_ended"
    assert outcome(with_token(harness, dana, iat=None)) == "session_ended"
    assert outcome(with_token(harness, dana, iat=now + 20)) == "accepted"


def test_the_refusal_asks_to_sign_in_again(harness: AppHarness, dana: Persona) -> None:
    harness.services.people.end_sessions(person_of(harness, dana), None, CAUSE)
    response = with_token(harness, dana, iat=int(time.time()) - 5).get("/v1/me")
    assert response.status_code == 401
    assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]
    assert "Sign in again" in response.get_json()["detail"]


def test_a_cutoff_in_one_account_does_not_concern_another(harness: AppHarness, dana: Persona) -> None:
    of_both = {"owner": {org_id("acme"): "acme.example", org_id("globex"): "globex.example"}}
    claims = {"iat": int(time.time()) - 60, "urn:zitadel:iam:org:project:roles": of_both}
    callers = [with_token(harness, dana, account, **claims) for account in ("acme", "globex")]
    assert [outcome(caller) for caller in callers] == ["accepted", "accepted"]
    harness.services.people.end_sessions(person_of(harness, dana), "globex", CAUSE)
    assert [outcome(caller) for caller in callers] == ["accepted", "session_ended"]
    harness.services.people.end_sessions(person_of(harness, dana), None, CAUSE)
    assert [outcome(caller) for caller in callers] == ["session_ended", "session_ended"]


def test_a_cutoff_does_not_concern_other_users_or_keys(harness: AppHarness, dana: Persona) -> None:
    others = [
        harness.bearer(harness.new_key("acme")),
        with_token(harness, replace(dana, subject=f"{dana.subject}-2"), iat=int(time.time()) - 60),
    ]
    for caller in others:
        assert outcome(caller) == "accepted"
    evicted: list[RevocationTarget] = []
    hits = harness.services.revocation.stats.hits
    harness.services.revocation.subscribe(evicted.append)
    harness.services.people.end_sessions(person_of(harness, dana), None, CAUSE)
    assert RevocationTarget(None, subject=person_of(harness, dana).id) in evicted
    for caller in others:
        assert outcome(caller) == "accepted"
    assert harness.services.revocation.stats.hits >= hits + 2  # still cached


def test_a_refreshed_token_of_an_ended_sign_in_is_refused(harness: AppHarness, dana: Persona) -> None:
    now = int(time.time())
    harness.services.people.end_sessions(person_of(harness, dana), None, CAUSE, signed_out=True, at=now)
    assert outcome(with_token(harness, dana, iat=now + 20, auth_time=now - 3600)) == "session_ended"
    assert outcome(with_token(harness, dana, iat=now + 20, auth_time=now + 10)) == "accepted"
    assert outcome(with_token(harness, dana, iat=now + 20)) == "accepted"


def test_without_a_sign_out_a_refreshed_token_is_accepted(harness: AppHarness, dana: Persona) -> None:
    now = int(time.time())
    harness.services.people.end_sessions(person_of(harness, dana), None, CAUSE)
    assert outcome(with_token(harness, dana, iat=now + 20, auth_time=now - 3600)) == "accepted"


def test_a_cutoff_never_moves_back(harness: AppHarness, dana: Persona) -> None:
    now = int(time.time())
    harness.services.people.end_sessions(person_of(harness, dana), None, CAUSE, at=now + 20, signed_out=True)
    harness.services.people.end_sessions(person_of(harness, dana), None, CAUSE, at=now - 500)
    assert outcome(with_token(harness, dana, iat=now + 15)) == "session_ended"
    assert outcome(with_token(harness, dana, iat=now + 25, auth_time=now + 15)) == "session_ended"


def test_a_blocked_user_is_refused_until_the_block_is_lifted(harness: AppHarness, dana: Persona) -> None:
    caller = with_token(harness, dana, iat=int(time.time()) + 20)
    assert outcome(caller) == "accepted"
    person = person_of(harness, dana)
    harness.services.people.block(person, dana.name, "acme", CAUSE)
    assert outcome(caller) == "access_blocked"
    assert outcome(with_token(harness, dana, iat=int(time.time()) + 25)) == "access_blocked"
    assert outcome(harness.user(CHARLIE)) == "accepted"
    assert harness.services.people.lift(person.id, "acme") is True
    assert harness.services.people.lift(person.id, "acme") is False
    assert outcome(caller) == "accepted"


def test_a_block_of_another_account_does_not_refuse(harness: AppHarness, dana: Persona) -> None:
    harness.services.people.block(person_of(harness, dana), dana.name, "globex", CAUSE)
    try:
        assert outcome(with_token(harness, dana)) == "accepted"
    finally:
        harness.services.people.lift(person_of(harness, dana).id, "globex")


@pytest.fixture
def statements(harness: AppHarness) -> Iterator[list[str]]:
    """The statements that this process sends to the system database."""
    sent: list[str] = []
    with harness.services.directory.database.reading() as session:
        engine = session.get_bind().engine

    def record(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "subject_cutoffs" in statement and "INSERT" not in statement and "DELETE" not in statement:
            sent.append(statement)

    event.listen(engine, "before_cursor_execute", record)
    yield sent
    event.remove(engine, "before_cursor_execute", record)


def test_a_token_that_is_newer_than_the_latest_cutoffs_costs_no_statement(
    harness: AppHarness, dana: Persona, statements: list[str]
) -> None:
    now, stats = int(time.time()), harness.services.revocation.stats
    with harness.services.directory.database.writing() as session:  # a blocked user costs the others a statement
        session.execute(delete(SubjectBlock).where(SubjectBlock.account == "acme"))
    harness.services.people.end_sessions(Person(harness.issuer.url, f"else-{uuid4()}"), None, CAUSE)
    for number in range(30):
        harness.services.revocation.guard.clear()
        before = (stats.gaps, stats.bypasses, stats.events, stats.intents_applied)
        first, second, old = (
            with_token(harness, dana, iat=iat, jti=f"{number} {iat}") for iat in (now + 20, now + 21, now - 60)
        )
        assert outcome(first) == "accepted"
        statements.clear()
        outcome(second)
        newer = list(statements)
        outcome(old)
        # Without a lease, as on a busy machine, the worker does not use what it has cached. An event evicts it.
        if (stats.gaps, stats.bypasses, stats.events, stats.intents_applied) == before:
            break
    assert newer == []
    assert len(statements) == 1


def test_sessions_of_the_hub_are_compared_with_the_cutoffs_of_their_account_and_of_all(
    harness: AppHarness, dana: Persona
) -> None:
    person, now = person_of(harness, dana), time.time()

    def ended(account: str | None, began_at: float) -> bool:
        presented = Presented(person.id, began_at)
        return harness.services.directory.restrictions(account, presented).refusal(presented) is not None

    assert not ended("acme", now - 60)
    harness.services.people.end_sessions(person, "acme", CAUSE)
    assert ended("acme", now - 60)
    assert not ended("globex", now - 60)
    assert not ended(None, now - 60)
    harness.services.people.end_sessions(person, None, CAUSE)
    assert all(ended(account, now - 60) for account in ("acme", "globex", None, "no-such-account"))
    assert not any(ended(account, now + 60) for account in ("acme", "globex", None))


def test_old_cutoffs_expire(harness: AppHarness, dana: Persona) -> None:
    person = person_of(harness, dana)
    harness.services.people.end_sessions(person, None, CAUSE)
    with harness.services.directory.database.writing() as session:
        cutoffs.expire(session, 35)
        assert cutoffs.read(session, "acme", person.id)[0] != Restrictions()
        aged = text("UPDATE subject_cutoffs SET not_before = now() - interval '36 days' WHERE sub = :sub")
        session.execute(aged, {"sub": dana.subject})
        cutoffs.expire(session, 35)
        assert cutoffs.read(session, "acme", person.id)[0] == Restrictions()


def test_the_intent_of_a_cutoff_covers_it(harness: AppHarness, dana: Persona) -> None:
    """If the revoking process dies, workers evict what the intent covers."""
    from kataven.system import intents

    for account in ("acme", None):
        target = RevocationTarget(account, subject=person_of(harness, dana).id)
        with harness.services.directory.database.writing() as session:
            intent = intents.add(session, target)
            row = session.execute(text("SELECT account, key_id FROM revocation_intents WHERE id = :id"), {"id": intent})
            assert RevocationTarget(*row.one()).covers(target)
            intents.remove(session, [intent])
