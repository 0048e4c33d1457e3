"""The pages that end access: People, Your sessions, and the console's pages of users."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import pytest
from sqlalchemy import text

from kataven.dev.personas import ALICE, BOB, Persona
from kataven.hub.devices import describe
from kataven.hub.session_list import MAX_SESSIONS, RECORD_SECONDS, SessionList
from kataven.identity.principal import Role
from kataven.people.access import Cause
from kataven.revocation import EVERYTHING
from kataven.web.services import EXTENSION, Services
from tests.hub.conftest import Hub
from tests.hub.hub_browser import HubBrowser
from tests.support.app_harness import AppHarness, Caller
from tests.support.clock import Clock

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 Version/19.0 Mobile Safari/604.1"


@pytest.fixture(autouse=True)
def _without_cutoffs(harness: AppHarness) -> Iterator[None]:
    """The issuer signs in only users that all tests share."""
    yield
    with harness.services.directory.database.writing() as session:
        session.execute(text("DELETE FROM subject_cutoffs"))
        session.execute(text("DELETE FROM subject_blocks"))
    harness.services.revocation.revoke(EVERYTHING)


def seen(harness: AppHarness, role: Role = Role.MEMBER) -> tuple[Caller, str, str]:
    """A user whom acme has seen: a caller with a token from before, the name, and the id."""
    name = f"Dana {uuid4().hex[:8]}"
    dana = Persona(f"dana-{uuid4()}", name, "acme", role)
    caller = harness.bearer(harness.issuer.token(dana, claims={"iat": int(time.time()) - 5}), "acme")
    assert caller.get("/v1/me").status_code == 200
    harness.services.people_seen.flush()
    return caller, name, harness.services.people.person(dana.subject).id


def code(caller: Caller) -> str:
    response = caller.get("/v1/me")
    return "accepted" if response.status_code == 200 else str(response.get_json()["code"])


def cookie_of(hub: Hub, browser: HubBrowser) -> str:
    cookie = browser.client.get_cookie(hub.services.cookie_name)
    assert cookie is not None
    return cookie.value


def id_of(hub: Hub, browser: HubBrowser) -> str:
    return hashlib.sha256(cookie_of(hub, browser).encode()).hexdigest()


def test_the_page_lists_users_and_ends_their_access_with_a_receipt(alice: HubBrowser, harness: AppHarness) -> None:
    caller, name, person = seen(harness)
    page = alice.get("/people")
    assert name in page.text
    assert f'href="{harness.issuer.url}"' in page.text, "the role must be removed at the issuer as well"
    assert alice.post(f"/people/{person}/block").status_code == 303
    assert code(caller) == "access_blocked"
    assert re.search(rf"Ended the access of {name}: \d of \d workers confirmed", alice.get("/people").text)
    assert f'action="/people/{person}/lift"' in alice.get("/people").text
    assert alice.post(f"/people/{person}/lift").status_code == 303
    assert code(caller) == "accepted"
    assert alice.post(f"/people/{person}/end-sessions").status_code == 303
    assert code(caller) == "session_ended"


def test_blocking_yourself_or_the_last_owner_needs_a_second_page(alice: HubBrowser, harness: AppHarness) -> None:
    harness.user(ALICE).get("/v1/me")
    harness.services.people_seen.flush()
    alice.get("/people")
    person = harness.services.people.person(ALICE.subject).id
    asked = alice.post(f"/people/{person}/block")
    assert asked.location == f"/people?confirm={person}"
    page = alice.get(asked.location)
    assert "This is your own user" in page.text
    assert alice.get("/agents").status_code == 200, "nothing was changed yet"
    alice.get(asked.location)
    assert alice.post(f"/people/{person}/block", {"confirm": "true"}).status_code == 303
    assert alice.get("/agents").status_code == 403


def test_a_link_asks_for_no_confirmation_that_is_not_required(alice: HubBrowser, harness: AppHarness) -> None:
    _, name, person = seen(harness)
    assert f"End the access of {name}?" not in alice.get(f"/people?confirm={person}").text
    assert "End the access of" not in alice.get("/people?confirm=nothing").text


def test_members_see_neither_the_page_nor_its_link(bob: HubBrowser) -> None:
    assert bob.get("/people").status_code == 403
    assert 'href="/people"' not in bob.get("/agents").text


def test_an_admin_cannot_end_the_access_of_an_owner(hub: Hub, harness: AppHarness) -> None:
    _, _, person = seen(harness, Role.OWNER)
    browser = hub.signed_in(BOB)
    session = hub.services.sessions.read(cookie_of(hub, browser))
    assert session is not None
    assert session.user is not None
    admin = harness.issuer.token(replace(BOB, role=Role.ADMIN))
    hub.services.sessions.save(session.with_(user=replace(session.user, access_token=admin)))
    page = browser.get("/people")
    assert page.status_code == 200
    assert f'action="/people/{person}/block"' not in page.text
    assert browser.post(f"/people/{person}/block").status_code == 403


def test_an_open_page_of_an_ended_session_says_why_and_its_form_changes_nothing(hub: Hub, harness: AppHarness) -> None:
    browser, (caller, _, person) = hub.signed_in(ALICE), seen(harness)
    browser.get("/people")
    people = harness.services.people
    people.end_sessions(people.person(ALICE.subject), "acme", Cause("a test", "test:hub"))
    ended = browser.post(f"/people/{person}/block")
    assert "ended=revoked" in ended.headers["Location"]
    page = browser.get(ended.headers["Location"])
    assert "Your sessions were ended" in page.text
    assert 'action="/sign-in"' in page.text
    assert code(caller) == "accepted"


def test_your_sessions_lists_this_browser_and_the_others_and_ends_one(hub: Hub) -> None:
    mine, phone = hub.signed_in(BOB), hub.signed_in(BOB)
    phone.client.get("/agents", base_url=phone.url, headers={"User-Agent": IPHONE})
    hub.services.sessions._list._recorded.clear()
    phone.client.get("/agents", base_url=phone.url, headers={"User-Agent": IPHONE})
    page = mine.get("/sessions")
    assert "Safari on iPhone" in page.text
    assert f'action="/sessions/{id_of(hub, phone)}/end"' in page.text
    assert f'action="/sessions/{id_of(hub, mine)}/end"' not in page.text
    assert mine.post(f"/sessions/{id_of(hub, phone)}/end").status_code == 303
    assert "Ended the session in Safari on iPhone." in mine.get("/sessions").text
    assert phone.get("/agents").status_code == 303
    assert mine.get("/agents").status_code == 200
    mine.get("/sessions")
    mine.post(f"/sessions/{id_of(hub, phone)}/end")
    assert "This session had ended already." in mine.get("/sessions").text


def test_the_sessions_are_compared_with_the_cutoffs_once(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once for each session: each comparison may cost a statement."""
    mine = hub.signed_in(BOB)
    for _ in range(5):
        hub.signed_in(BOB).get("/agents")
    services: Services = hub.app.extensions[EXTENSION]
    compared, compare = [], services.directory.restrictions
    monkeypatch.setattr(services.directory, "restrictions", lambda *given: compared.append(given) or compare(*given))
    assert mine.get("/sessions").text.count('/end"') >= 5
    assert len(compared) <= 2  # one for the request itself


def test_sessions_of_other_users_can_not_be_ended(hub: Hub, alice: HubBrowser, bob: HubBrowser) -> None:
    alice.get("/sessions")
    bob.get("/agents")
    assert alice.post(f"/sessions/{id_of(hub, bob)}/end").status_code == 303
    assert bob.get("/agents").status_code == 200
    assert id_of(hub, bob) not in alice.get("/sessions").text


def test_ending_all_sessions_ends_tokens_as_well(hub: Hub, harness: AppHarness) -> None:
    mine, other = hub.signed_in(BOB), hub.signed_in(BOB)
    caller = harness.bearer(harness.issuer.token(BOB, claims={"iat": int(time.time()) - 5}), "acme")
    assert code(caller) == "accepted"
    mine.get("/sessions")
    assert mine.post("/sessions/end-all").status_code == 303
    assert code(caller) == "session_ended"
    for browser in (mine, other):
        assert "ended=revoked" in browser.get("/agents").headers["Location"]


def test_the_list_of_sessions_contains_neither_secrets_nor_addresses_in_plain_text(hub: Hub) -> None:
    browser = hub.signed_in(BOB)
    browser.get("/agents")
    redis, secret = hub.services.sessions._redis, cookie_of(hub, browser).encode()
    stored = [value for name in redis.scan_iter("hub:sessions-of:*") for value in redis.hgetall(name).items()]
    assert stored
    assert all(secret not in part and b"127.0.0.1" not in part for entry in stored for part in entry)


class FakeRedis:
    """The commands of the list, in memory."""

    def __init__(self) -> None:
        self.hashes: dict[str, dict[str, bytes]] = {}
        self.writes = 0

    def hset(self, name: str, field: str, value: bytes) -> None:
        self.writes += 1
        self.hashes.setdefault(name, {})[field] = value

    def expire(self, name: str, seconds: int) -> None: ...

    def hgetall(self, name: str) -> dict[str, bytes]:
        return dict(self.hashes.get(name, {}))

    def hdel(self, name: str, *fields: str) -> int:
        return sum(self.hashes.get(name, {}).pop(field, None) is not None for field in fields)


def test_the_list_is_written_rarely_bounded_and_without_expired_sessions() -> None:
    redis, clock = FakeRedis(), Clock(1000.0)
    listing = SessionList(redis, "hub:", clock, idle_seconds=3600, max_age_seconds=7200)
    for _ in range(3):
        listing.record("bob", "one", clock(), "Firefox", "192.0.2.1")
    assert redis.writes == 1
    listing.record("bob", "one", clock(), "Firefox", "192.0.2.2")  # another address
    clock.advance(RECORD_SECONDS)
    listing.record("bob", "one", 1000.0, "Firefox", "192.0.2.2")
    assert redis.writes == 3
    assert [one.address for one in listing.of_user("bob")] == ["192.0.2.2"]
    assert listing.of_user("alice") == []
    clock.advance(3600 + RECORD_SECONDS + 1)
    assert listing.of_user("bob") == []
    assert not redis.hashes["hub:sessions-of:" + hashlib.sha256(b"bob").hexdigest()]
    for number in range(MAX_SESSIONS + 10):
        listing.record("bob", str(number), clock(), "Firefox", "192.0.2.2")
    assert len(listing.of_user("bob")) == MAX_SESSIONS


@pytest.mark.parametrize(
    ("header", "device"),
    [
        (FIREFOX, "Firefox on Linux"),
        (IPHONE, "Safari on iPhone"),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/150.0 Safari/537.36 Edg/150.0", "Edge on Windows"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 15) AppleWebKit Chrome/150.0 Safari/537.36", "Chrome on macOS"),
        ("<script>", "Unknown browser"),
        ("", "Unknown browser"),
    ],
)
def test_devices(header: str, device: str) -> None:
    assert describe(header) == device


def test_an_operator_ends_blocks_and_lifts(olivia: HubBrowser, harness: AppHarness) -> None:
    caller, name, person = seen(harness)
    page = olivia.get("/console/accounts/acme/people")
    assert name in page.text
    assert olivia.post(f"/console/accounts/acme/people/{person}/block").status_code == 303
    assert code(caller) == "access_blocked"
    assert f"Ended the access of {name} to acme" in olivia.get("/console/accounts/acme/people").text
    overview = olivia.get("/console/people")
    assert name in overview.text
    assert olivia.post(f"/console/accounts/acme/people/{person}/lift").status_code == 303
    assert code(caller) == "accepted"
    olivia.get("/console/accounts/acme/people")
    assert olivia.post(f"/console/accounts/acme/people/{person}/end-sessions").status_code == 303
    assert code(caller) == "session_ended"
    assert "ended by an operator" in olivia.get("/console/people").text


def test_an_operator_ends_a_user_in_all_accounts(olivia: HubBrowser, harness: AppHarness) -> None:
    dana = Persona(f"dana-{uuid4()}", "Dana", "acme", Role.OWNER)
    caller = harness.bearer(harness.issuer.token(dana, claims={"iat": int(time.time()) - 5}), "acme")
    assert code(caller) == "accepted"
    olivia.get("/console/people")
    wrong = olivia.post("/console/people/end", {"sub": "two words"})
    assert wrong.status_code == 400
    olivia.get("/console/people")
    assert olivia.post("/console/people/end", {"sub": f" {dana.subject} "}).status_code == 303
    assert code(caller) == "session_ended"


def test_the_console_shows_what_each_event_of_the_issuer_did(olivia: HubBrowser, harness: AppHarness) -> None:
    people, sub = harness.services.people, f"dana-{uuid4()}"
    cause = Cause("security event session-revoked", "issuer:security-events")
    people.apply_event(people.person(sub), "session-revoked", cause, signed_out=True, at=time.time())
    people.record_ignored_event("verification", "issuer:security-events")
    page = olivia.get("/console/people").text
    assert sub in page
    assert re.search(r"sessions ended in all accounts: \d of \d workers confirmed", page)
    assert "acknowledged, no effect" in page


def test_owners_do_not_see_the_console_pages(alice: HubBrowser) -> None:
    for path in ("/console/people", "/console/accounts/acme/people"):
        assert alice.get(path).status_code == 403
