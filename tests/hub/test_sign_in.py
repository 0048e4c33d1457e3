"""Signing in and out: over the real issuer, and every way in which its answer can be wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import httpx2
import pytest
import redis

from kataven.dev.issuer.grants import challenge_of
from kataven.dev.issuer.tokens import at_hash, encode
from kataven.dev.personas import ALICE, BOB, CHARLIE, OLIVIA, org_id
from kataven.hub.anonymous import ANONYMOUS_SECONDS
from kataven.hub.provider import Provider
from kataven.hub.sessions import SignedInUser
from kataven.hub.sign_in import LONGEST_NEXT_BYTES
from kataven.hub.sign_in_failure import Reason
from kataven.identity.grants import DEFAULT_ROLE_CLAIMS
from kataven.system import operators
from kataven.tenancy.errors import TenantUnavailable
from kataven.web.services import EXTENSION as SERVICES
from tests.hub.conftest import HUB_URL, Hub
from tests.hub.visitor import Visitor, leads_on
from tests.support.app_harness import AppHarness, new_account
from tests.support.oidc import IssuerWithPen


def begin(visitor: Visitor, account: str = "acme", **form: str) -> dict[str, str]:
    """To the issuer; what it is asked."""
    visitor.get("/sign-in")
    return dict(parse_qsl(urlsplit(leads_on(visitor.post("/sign-in", {"account": account, **form}))).query))


def come_back(visitor: Visitor, answer: Mapping[str, str]) -> Any:
    return visitor.get(f"/auth/callback?{urlencode(answer)}")


def session_of(hub: Hub, visitor: Visitor) -> Any:
    cookie = visitor.client.get_cookie(hub.front.cookie_name, "localhost")
    return hub.front.sessions.read(cookie and cookie.value)


def cookie_of(hub: Hub, visitor: Visitor) -> str:
    cookie = visitor.client.get_cookie(hub.front.cookie_name, "localhost")
    assert cookie is not None
    return cookie.value


def put_in(hub: Hub, visitor: Visitor, person: SignedInUser, account: str) -> None:
    """A session as if this person had signed in."""
    session = hub.front.sessions.new().with_(person=person, account=account)
    hub.front.sessions.save(session)
    visitor.client.set_cookie(hub.front.cookie_name, session.secret, domain="localhost")


def test_alice_signs_in_and_is_greeted(alice: Visitor) -> None:
    page = alice.get("/")
    assert page.status_code == 200
    assert "Alice" in page.text
    assert "Acme" in page.text


def test_the_issuer_is_asked_with_pkce_state_and_nonce(stranger: Visitor) -> None:
    asked = begin(stranger)
    assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
    assert asked["redirect_uri"] == f"{HUB_URL}/auth/callback"
    assert min(len(asked[name]) for name in ("state", "nonce", "code_challenge")) >= 32
    assert "openid" in asked["scope"].split(" ")


def test_a_page_leads_to_the_issuer_and_forms_go_nowhere_else(stranger: Visitor, issuer: IssuerWithPen) -> None:
    """Chromium holds the redirects that follow a form to `form-action`, and nobody knows where issuers redirect to."""
    page = stranger.get("/sign-in")
    assert "form-action 'self';" in page.headers["Content-Security-Policy"]
    page = stranger.post("/sign-in", {"account": "acme"})
    assert page.status_code == 200
    assert leads_on(page).startswith(issuer.url)
    assert page.text.count(leads_on(page).replace("&", "&amp;")) == 2  # by itself, and by a link


@pytest.mark.parametrize(
    ("account", "words"),
    [
        ("", "Type the name"),
        ("Acme Inc.", "small letters"),
        ("nobody-there", "no account of this name"),
        ("' OR 1=1 --", "small letters"),
    ],
)
def test_an_account_that_is_none_is_explained(stranger: Visitor, account: str, words: str) -> None:
    stranger.get("/sign-in")
    page = stranger.post("/sign-in", {"account": account})
    assert page.status_code == 400
    assert words in page.text


def test_the_cookie_is_for_this_host_and_no_script_and_changes_at_sign_in(hub: Hub) -> None:
    visitor = hub.visitor()
    visitor.get("/sign-in")
    before = visitor.client.get_cookie(hub.front.cookie_name, "localhost")
    assert before is not None
    assert before.http_only
    assert (before.same_site, before.path, before.domain) == ("Lax", "/", "localhost")
    visitor.sign_in(ALICE)
    after = visitor.client.get_cookie(hub.front.cookie_name, "localhost")
    assert after is not None
    assert after.value != before.value
    other = hub.visitor()
    other.client.set_cookie(hub.front.cookie_name, before.value, domain="localhost")
    assert other.get("/").location == "/sign-in"


def test_somebody_is_led_to_where_they_wanted_to_go(hub: Hub) -> None:
    visitor = hub.visitor()
    asked = visitor.get("/settings/api-keys?cursor=x")
    assert asked.location == "/sign-in?next=%2Fsettings%2Fapi-keys%3Fcursor%3Dx"
    assert 'value="/settings/api-keys?cursor=x"' in visitor.get(asked.location).text
    to_issuer = leads_on(visitor.post("/sign-in", {"account": "acme", "next": "/settings/api-keys?cursor=x"}))
    back = visitor.get(visitor.back_from_issuer(to_issuer, ALICE))
    assert back.location == "/settings/api-keys?cursor=x"


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "javascript:alert(1)",
        "/a\nb",
        "",
    ],
    ids=["url", "no scheme", "backslash", "backslashes", "script", "header", "empty"],
)
def test_nobody_is_led_elsewhere(hub: Hub, elsewhere: str) -> None:
    visitor = hub.visitor()
    visitor.get("/sign-in")
    to_issuer = leads_on(visitor.post("/sign-in", {"account": "acme", "next": elsewhere}))
    assert visitor.get(visitor.back_from_issuer(to_issuer, ALICE)).location == "/"
    assert visitor.get(f"/sign-in?{urlencode({'next': elsewhere})}").location == "/"


def test_an_answer_to_no_question_of_this_browser_signs_nobody_in(hub: Hub) -> None:
    """Login CSRF: somebody is sent to the callback with a stranger's code."""
    eve, victim = hub.visitor(), hub.visitor()
    eve.get("/sign-in")
    back = eve.back_from_issuer(leads_on(eve.post("/sign-in", {"account": "globex"})), CHARLIE)
    page = victim.get(back)
    assert page.status_code == 400
    begin(victim)
    assert victim.get(back).status_code == 400
    assert session_of(hub, victim).person is None


def test_a_code_is_good_once(hub: Hub) -> None:
    visitor = hub.visitor()
    visitor.get("/sign-in")
    back = visitor.back_from_issuer(leads_on(visitor.post("/sign-in", {"account": "acme"})), ALICE)
    assert visitor.get(back).status_code == 303
    assert visitor.get(back).location == "/"  # going back in one's browser leads on
    other = hub.visitor()
    assert other.get(back).status_code == 400


def test_what_the_issuer_answers_must_fit_what_was_asked(hub: Hub, issuer: IssuerWithPen) -> None:
    for wrong in ({"state": "other"}, {"iss": "https://evil.example"}, {"error": "access_denied"}, {}, {"iss": None}):
        visitor = hub.visitor()
        good = {"state": begin(visitor)["state"], "code": "unknown", "iss": issuer.url}
        answer = {name: said for name, said in {**good, **wrong}.items() if said is not None}
        assert come_back(visitor, answer).status_code == 400, wrong
        assert session_of(hub, visitor).person is None


@pytest.mark.parametrize(
    "first",
    [{"error": "access_denied"}, {"code": "unknown"}, {"iss": "https://evil.example"}],
    ids=str,
)
def test_a_sign_in_is_used_up_by_its_first_answer(hub: Hub, first: dict[str, str]) -> None:
    """State, nonce and verifier were good for more attempts before: an attacker's answer could be one of them."""
    visitor = hub.visitor()
    visitor.get("/sign-in")
    back = visitor.back_from_issuer(leads_on(visitor.post("/sign-in", {"account": "acme"})), ALICE)
    good, cookie, before = dict(parse_qsl(urlsplit(back).query)), cookie_of(hub, visitor), session_of(hub, visitor)
    assert come_back(visitor, {**good, **first}).status_code == 400
    assert session_of(hub, visitor).sign_ins == ()
    page = visitor.get(back)
    assert page.status_code == 400
    # A copy of the cookie and of the session, as a request that ran at the same time could have left.
    visitor.client.set_cookie(hub.front.cookie_name, cookie, domain="localhost")
    hub.front.sessions.save(before)
    page = visitor.get(back)
    assert page.status_code == 400
    assert "tried before" in page.text
    assert visitor.sign_in(ALICE).get("/").status_code == 200  # and beginning anew works


def test_of_answers_at_the_same_time_one_is_taken(hub: Hub) -> None:
    visitor = hub.visitor()
    visitor.get("/sign-in")
    back = visitor.back_from_issuer(leads_on(visitor.post("/sign-in", {"account": "acme"})), ALICE)
    cookie = cookie_of(hub, visitor)
    together = threading.Barrier(4)

    def answer(_: int) -> int:
        client = hub.surface.test_client()
        client.set_cookie(hub.front.cookie_name, cookie, domain="localhost")
        together.wait()
        return client.get(back, base_url=HUB_URL).status_code

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(answer, range(4))) == [303, 400, 400, 400]


def test_an_id_token_for_another_question_is_refused(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    visitor = hub.visitor()
    visitor.get("/sign-in")
    back = visitor.back_from_issuer(leads_on(visitor.post("/sign-in", {"account": "acme"})), ALICE)
    session = session_of(hub, visitor)
    other_nonce = replace(session.sign_ins[0], nonce="of another sign-in")
    cookie = hub.front.sessions.cookie_of(session.with_(sign_ins=(other_nonce,)))
    visitor.client.set_cookie(hub.front.cookie_name, cookie, domain="localhost")
    assert visitor.get(back).status_code == 400


def _fields(thing: Any) -> dict[str, Any]:
    return {name: getattr(thing, name) for name in thing.__slots__}


def test_signing_out_ends_the_session_here_and_at_the_issuer(hub: Hub, alice: Visitor, issuer: IssuerWithPen) -> None:
    alice.get("/")
    cookie = alice.client.get_cookie(hub.front.cookie_name, "localhost")
    assert cookie is not None
    to_issuer = leads_on(alice.post("/sign-out"))
    asked = dict(parse_qsl(urlsplit(to_issuer).query))
    assert to_issuer.startswith(issuer.url)
    assert asked["post_logout_redirect_uri"] == f"{HUB_URL}/signed-out"
    assert asked["client_id"] == "kataven-hub"
    assert "id_token_hint" not in asked
    assert "eyJ" not in to_issuer
    assert httpx2.get(to_issuer, trust_env=False).headers["Location"] == f"{HUB_URL}/signed-out"
    assert hub.front.sessions.read(cookie.value) is None
    assert alice.get("/").location == "/sign-in"


def test_a_token_that_ended_is_renewed_without_a_word(hub: Hub, issuer: IssuerWithPen) -> None:
    visitor = hub.signed_in(BOB)
    session = session_of(hub, visitor)
    old = issuer.token(BOB, claims={"exp": 1_000_000_000, "iat": 999_999_000, "nbf": 999_999_000})
    hub.front.sessions.save(session.with_(person=SignedInUser(**{**_fields(session.person), "access_token": old})))
    assert visitor.get("/").status_code == 200
    assert session_of(hub, visitor).person.access_token != old


def test_when_the_issuer_gives_no_new_token_the_session_is_over(hub: Hub, issuer: IssuerWithPen) -> None:
    visitor = hub.signed_in(BOB)
    session = session_of(hub, visitor)
    old = issuer.token(BOB, claims={"exp": 1_000_000_000, "iat": 999_999_000, "nbf": 999_999_000})
    person = SignedInUser(**{**_fields(session.person), "access_token": old, "refresh_token": "withdrawn"})
    hub.front.sessions.save(session.with_(person=person))
    assert visitor.get("/").location == "/sign-in"
    assert hub.front.sessions.read(session.secret) is None


def test_a_token_that_nobody_signed_ends_the_session(hub: Hub, issuer: IssuerWithPen) -> None:
    visitor = hub.visitor()
    put_in(hub, visitor, SignedInUser("alice", "Alice", issuer.token(ALICE)[:-4] + "AAAA", "", None), "acme")
    assert visitor.get("/").location == "/sign-in"


def test_somebody_without_a_role_in_the_account_is_told_so(hub: Hub) -> None:
    visitor = hub.signed_in(CHARLIE, "acme")
    page = visitor.get("/")
    assert page.status_code == 403
    assert "no role in this account" in page.text
    assert "/accounts" in page.text


def test_who_has_several_accounts_switches_between_them(hub: Hub, issuer: IssuerWithPen) -> None:
    roles = {"owner": {org_id("acme"): "acme.example"}, "member": {org_id("globex"): "globex.example"}}
    token = issuer.token(ALICE, claims={DEFAULT_ROLE_CLAIMS[0]: roles})
    visitor = hub.visitor()
    put_in(hub, visitor, SignedInUser("alice", "Alice", token, "", None), "acme")
    page = visitor.get("/accounts").text
    assert 'value="acme"' in page
    assert 'value="globex"' in page
    assert visitor.post("/accounts", {"account": "globex"}).location == "/"
    assert "Globex" in visitor.get("/").text
    assert visitor.post("/accounts", {"account": "kataven-admin"}).location == "/accounts"
    assert "Globex" in visitor.get("/").text


def test_a_suspended_account_opens_no_page(hub: Hub, harness: AppHarness, issuer: IssuerWithPen) -> None:
    from kataven.system import accounts
    from kataven.system.models import AccountStatus

    new_account(harness.services, "closed-hub")
    with harness.services.directory.database.writing() as session:
        accounts.move(session, "closed-hub", AccountStatus.SUSPENDED, AccountStatus.ACTIVE)
    token = issuer.token(ALICE, claims={DEFAULT_ROLE_CLAIMS[0]: {"owner": {org_id("closed-hub"): "x.example"}}})
    visitor = hub.visitor()
    put_in(hub, visitor, SignedInUser("alice", "Alice", token, "", None), "closed-hub")
    page = visitor.get("/settings/api-keys")
    assert page.status_code == 403
    assert "suspended" in page.text


def test_an_issuer_that_is_down_is_said_to_be(hub: Hub, stranger: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger.get("/sign-in")
    with monkeypatch.context() as outage:
        outage.setattr(hub.front.provider, "_metadata", {})
        outage.setattr(hub.front.provider, "_ask_again_at", float("inf"))
        page = stranger.post("/sign-in", {"account": "acme"})
    assert page.status_code == 503
    assert page.headers["Retry-After"]


def test_olivia_is_nobody_in_an_account(hub: Hub) -> None:
    assert hub.signed_in(OLIVIA, "acme").get("/").status_code == 403


def test_requests_at_the_same_time_renew_a_token_once(hub: Hub, issuer: IssuerWithPen) -> None:
    """A refresh token is good once: the second use of one would end the session, at many issuers everywhere."""
    visitor = hub.signed_in(BOB)
    session = session_of(hub, visitor)
    old = issuer.token(BOB, claims={"exp": 1_000_000_000, "iat": 999_999_000, "nbf": 999_999_000})
    hub.front.sessions.save(session.with_(person=SignedInUser(**{**_fields(session.person), "access_token": old})))
    together = threading.Barrier(6)

    def look(_: int) -> int:
        client = hub.surface.test_client()
        client.set_cookie(hub.front.cookie_name, session.secret, domain="localhost")
        together.wait()
        return client.get("/", base_url=HUB_URL).status_code

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(look, range(6))) == [200] * 6
    assert session_of(hub, visitor).person is not None


def test_a_form_of_a_session_that_is_over_leads_to_signing_in(hub: Hub, alice: Visitor) -> None:
    alice.get("/settings/api-keys")
    hub.front.sessions.end(session_of(hub, alice))
    answer = alice.post("/settings/api-keys", {"name": "Too late", "expiry": "30d"})
    assert (answer.status_code, answer.location) == (303, "/sign-in?next=%2Fsettings%2Fapi-keys&ended=1")


def test_a_form_from_before_somebody_switched_is_not_taken_to_the_other_account(
    hub: Hub, issuer: IssuerWithPen
) -> None:
    """As when it was open in another window."""
    both = {"owner": {org_id("acme"): "acme.example", org_id("globex"): "globex.example"}}
    token = issuer.token(ALICE, claims={DEFAULT_ROLE_CLAIMS[0]: both})
    visitor = hub.visitor()
    put_in(hub, visitor, SignedInUser("alice", "Alice", token, "", None), "acme")
    visitor.get("/settings/api-keys")
    csrf, form_id = visitor.csrf, visitor.form_id
    assert visitor.post("/accounts", {"account": "globex"}).location == "/"
    form = {"name": "Meant for acme", "expiry": "30d", "csrf": csrf, "form_id": form_id}
    answer = visitor.post("/settings/api-keys", form)
    assert answer.status_code == 403
    assert "This form is out of date" in answer.text
    assert "Meant for acme" not in visitor.get("/settings/api-keys").text


# What the Hub does with other tokens of the issuer.


def test_an_id_token_opens_nothing_at_the_api(hub: Hub, harness: AppHarness, issuer: IssuerWithPen) -> None:
    """It has Alice's role, the API's audience and the type of an access token, as at Zitadel."""
    asked = begin(hub.visitor())
    code = httpx2.post(
        f"{issuer.url}/oauth/v2/authorize",
        data={**asked, "person": "alice", "code_challenge": challenge_of("v" * 43)},
        trust_env=False,
    ).headers["Location"]
    form = {
        "grant_type": "authorization_code",
        "client_id": "kataven-hub",
        "code": dict(parse_qsl(urlsplit(code).query))["code"],
        "redirect_uri": f"{HUB_URL}/auth/callback",
        "code_verifier": "v" * 43,
    }
    tokens = httpx2.post(f"{issuer.url}/oauth/v2/token", data=form, trust_env=False).json()
    assert harness.bearer(tokens["access_token"], "acme").get("/v1/me").status_code == 200
    for answer in (
        harness.bearer(tokens["id_token"], "acme").get("/v1/me"),
        harness.bearer(tokens["id_token"], "acme").post("/v1/api-keys", {"name": "Minted with an ID token"}),
    ):
        assert answer.status_code == 401
        assert answer.get_json()["code"] == "invalid_credential"
        assert answer.get_json()["detail"] == "The credential is not recognized."
    put_in(hub, visitor := hub.visitor(), SignedInUser("alice", "Alice", tokens["id_token"], "", None), "acme")
    assert visitor.get("/").location == "/sign-in"


def test_a_token_is_renewed_where_fewer_scopes_were_granted(hub: Hub, issuer: IssuerWithPen) -> None:
    """RFC 6749, section 6: a refresh asks for nothing that was not granted. The issuer here refuses one that does."""
    client = hub.front.provider._client
    more = Provider(
        issuer.url,
        replace(client, scope=f"{client.scope} address phone"),
        hub.front.provider._id_tokens,
        hub.front.access_tokens,
        hub.front.provider._fetcher,
        allow_loopback_http=True,
    )
    url, sign_in = more.begin("acme", "/")
    back = hub.visitor().back_from_issuer(url, BOB)
    person = more.finish(sign_in, dict(parse_qsl(urlsplit(back).query)))
    assert more.refresh(person).access_token != person.access_token


# What is written down.


def lines(said: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]


def count_of(hub: Hub, outcome: str) -> float:
    found = hub.surface.extensions[SERVICES].metrics.registry.get_sample_value(
        "kataven_sign_ins_total", {"outcome": outcome}
    )
    assert found is not None, f"{outcome} has no series"
    return float(found)


def trail_of(harness: AppHarness, account: str, action: str) -> list[dict[str, Any]]:
    owner = {"acme": ALICE, "globex": CHARLIE}[account]
    found: list[dict[str, Any]] = harness.person(owner).get(f"/v1/audit-events?action={action}").get_json()
    return found


def test_every_outcome_has_a_series_before_it_happens(hub: Hub) -> None:
    for outcome in ("signed_in", "signed_out", "not_renewed", *Reason):
        assert count_of(hub, str(outcome)) >= 0


def test_coming_and_going_are_in_the_accounts_trail_and_in_the_log(
    hub: Hub, harness: AppHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    came, went = count_of(hub, "signed_in"), count_of(hub, "signed_out")
    visitor = hub.signed_in(BOB)
    visitor.get("/")
    visitor.post("/sign-out")
    assert (count_of(hub, "signed_in"), count_of(hub, "signed_out")) == (came + 1, went + 1)
    address = visitor.client.environ_base["REMOTE_ADDR"]
    for action in ("person.signed_in", "person.signed_out"):
        event = trail_of(harness, "acme", action)[0]
        assert (event["actor"], event["actor_name"], event["address"]) == ("jwt:bob", "Bob", address)
        assert event["request_id"]
        assert not [one for one in trail_of(harness, "globex", action) if one["actor"] == "jwt:bob"]
    said = lines(capsys.readouterr().err)
    assert [(line["message"], line["sub"]) for line in said if line["logger"] == "kataven.hub.sign_in_audit"] == [
        ("signed in", "bob"),
        ("signed out", "bob"),
    ]


def test_who_has_no_role_in_an_account_comes_into_no_trail_of_it(
    hub: Hub, harness: AppHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(trail_of(harness, "acme", "person.signed_in")), len(trail_of(harness, "acme", "person.signed_out"))
    visitor = hub.signed_in(CHARLIE, "acme")
    assert visitor.get("/").status_code == 403
    visitor.get("/accounts")
    visitor.post("/sign-out")
    after = len(trail_of(harness, "acme", "person.signed_in")), len(trail_of(harness, "acme", "person.signed_out"))
    assert after == before
    assert any(line["message"] == "signed in" for line in lines(capsys.readouterr().err))


def test_operators_come_into_the_operators_trail(hub: Hub) -> None:
    for person in (OLIVIA, ALICE):  # of whom one is none
        visitor = hub.signed_in(person, "kataven-admin")
        visitor.get("/signed-out")
        assert visitor.post("/sign-out").status_code == 200
    database = hub.surface.extensions[SERVICES].directory.database
    with database.reading() as session:
        for action in ("operator.signed_in", "operator.signed_out"):
            events = operators.listing(session, 10, action=action)
            assert {event.actor for event in events} == {"jwt:olivia"}
            assert events[0].detail["address"]


def test_a_trail_that_can_not_be_written_keeps_nobody_out(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    visitor = hub.visitor()
    with monkeypatch.context() as outage:
        unavailable = TenantUnavailable("acme", "away")
        outage.setattr(hub.surface.extensions[SERVICES].registry, "writing", lambda _: _raising(unavailable))
        visitor.sign_in(BOB)
    assert visitor.get("/").status_code == 200
    said = [line for line in lines(capsys.readouterr().err) if line["logger"] == "kataven.hub.sign_in_audit"]
    assert [line["level"] for line in said] == ["info", "warning"]
    assert (said[1]["account"], said[1]["what"]) == ("acme", "signed_in")


@contextmanager
def _raising(error: Exception) -> Iterator[None]:
    raise error
    yield


def test_a_refused_sign_in_is_told_in_the_log_and_as_a_number_and_writes_no_row(
    hub: Hub, harness: AppHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    before, events = count_of(hub, "refused"), len(trail_of(harness, "acme", "person.signed_in"))
    visitor = hub.visitor()
    secret_state = begin(visitor)["state"]
    answer = {
        "state": secret_state,
        "error": "invalid_request",
        "error_description": "Pushed Authorization Request must be used by alice@acme.example",
        "iss": hub.front.provider._issuer,
    }
    capsys.readouterr()
    page = come_back(visitor, answer)
    assert page.status_code == 400
    assert count_of(hub, "refused") == before + 1
    assert len(trail_of(harness, "acme", "person.signed_in")) == events
    written = capsys.readouterr().err
    (line,) = [line for line in lines(written) if line["logger"] == "kataven.hub.sign_in_audit"]
    assert (line["message"], line["reason"], line["error"]) == ("sign-in refused", "refused", "invalid_request")
    assert line["error_description"] == "Pushed Authorization Request must be used by [redacted]"
    assert line["request_id"] in page.text
    assert secret_state not in written
    (request,) = [line for line in lines(written) if line.get("route") == "/auth/callback"]
    assert (request["status"], request["code"]) == (400, "sign_in_failed")
    # The page says where to look and what to change, and repeats nothing that was sent.
    assert "For the administrator" in page.text
    assert "Pushed authorization requests must not be required" in page.text
    assert "invalid_request" not in page.text
    assert "acme.example" not in page.text


def test_an_opaque_access_token_is_explained_at_once(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zitadel's default. Before, the sign-in ended well, and then each page said `Malformed token`."""
    monkeypatch.setattr(
        "kataven.dev.issuer.app.encode",
        lambda key, claims: "opaque" if "jti" in claims else encode(key, {**claims, "at_hash": at_hash("opaque")}),
    )
    visitor = hub.visitor()
    visitor.get("/sign-in")
    page = visitor.get(visitor.back_from_issuer(leads_on(visitor.post("/sign-in", {"account": "acme"})), ALICE))
    assert page.status_code == 400
    assert "token type of the Hub" in page.text
    assert "to JWT" in page.text
    assert session_of(hub, visitor).person is None


def test_a_session_that_can_not_go_on_is_told_with_the_reason(
    hub: Hub, issuer: IssuerWithPen, capsys: pytest.CaptureFixture[str]
) -> None:
    visitor = hub.signed_in(BOB)
    session = session_of(hub, visitor)
    old = issuer.token(BOB, claims={"exp": 1_000_000_000, "iat": 999_999_000, "nbf": 999_999_000})
    person = SignedInUser(**{**_fields(session.person), "access_token": old, "refresh_token": "withdrawn"})
    hub.front.sessions.save(session.with_(person=person))
    before = count_of(hub, "not_renewed")
    assert visitor.get("/").location == "/sign-in"
    assert count_of(hub, "not_renewed") == before + 1
    (line,) = [line for line in lines(capsys.readouterr().err) if "not renewed" in line["message"]]
    assert (line["reason"], line["error"], line["sub"]) == ("tokens_refused", "invalid_grant", "bob")
    assert "withdrawn" not in json.dumps({**line, "error_description": None})


def test_a_page_that_is_denied_has_its_code_in_the_log(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    visitor = hub.signed_in(BOB)
    capsys.readouterr()
    assert visitor.get("/audit-log").status_code == 403
    (line,) = lines(capsys.readouterr().err)
    assert (line["status"], line["code"], line["account"], line["principal"]) == (403, "forbidden", "acme", "jwt:bob")


def test_trails_have_the_name_of_the_id_token(hub: Hub, harness: AppHarness, issuer: IssuerWithPen) -> None:
    """At Zitadel access tokens hold no name, and the subject is a long number."""
    nameless = issuer.token(ALICE, claims={"name": None, "preferred_username": None, "email": None})
    put_in(hub, visitor := hub.visitor(), SignedInUser("alice", "Alice A.", nameless, "", None), "acme")
    visitor.get("/agents/new")
    assert visitor.post("/agents/new", {"name": "Of Alice A."}).status_code == 303
    assert trail_of(harness, "acme", "agent.created")[0]["actor_name"] == "Alice A."


def test_strangers_leave_nothing_behind_in_redis_but_for_minutes(hub: Hub, harness: AppHarness) -> None:
    """What counts their requests, and the states of sign-ins that were answered."""
    hub.visitor().get("/sign-in")  # the first of a day makes the key that all their cookies are sealed with
    before = keys_of(harness)
    for _ in range(20):
        visitor = hub.visitor()
        visitor.get("/sign-in")
        visitor.get("/settings/api-keys")
        to_issuer = visitor.post("/sign-in", {"account": "acme"})
        assert to_issuer.status_code == 200
        state = dict(parse_qsl(urlsplit(leads_on(to_issuer)).query))["state"]
        for answer in ("x", state):
            assert visitor.get(f"/auth/callback?state={answer}&code=y").status_code == 400
        visitor.post("/sign-out")
    new = {name: seconds for name, seconds in keys_of(harness).items() if name not in before}
    # That a sign-in was used up is remembered, for as long as a copy of its cookie can be read.
    used_up = {name for name in new if b":turn:sign-in:" in name}
    assert len(used_up) == 20
    assert max(new[name] for name in used_up) <= ANONYMOUS_SECONDS
    counters = new.keys() - used_up
    assert {name for name in counters if not name.startswith(b"limits:hub:address:hub:")} == set()
    assert counters
    assert max(new[name] for name in counters) <= 180


def keys_of(harness: AppHarness) -> dict[bytes, int]:
    """Every key in Redis, with the seconds that it has left; -1 for ever."""
    with redis.Redis.from_url(harness.environ["KATAVEN_REDIS_URL"]) as client:
        return {name: client.ttl(name) for name in client.scan_iter()}


def test_the_cookie_of_a_stranger_lives_for_minutes(hub: Hub, stranger: Visitor) -> None:
    stranger.get("/sign-in")
    cookie = stranger.client.get_cookie(hub.front.cookie_name, "localhost")
    assert cookie is not None
    assert cookie.max_age == ANONYMOUS_SECONDS <= 15 * 60


def test_a_sign_in_form_that_is_too_old_leads_to_a_new_one(hub: Hub, stranger: Visitor) -> None:
    """The browser has dropped the cookie by then."""
    stranger.get("/sign-in")
    stranger.client.delete_cookie(hub.front.cookie_name, domain="localhost")
    answer = stranger.post("/sign-in", {"account": "acme"})
    assert (answer.status_code, answer.location) == (303, "/sign-in")


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_a_sign_in_from_elsewhere_is_refused(hub: Hub, stranger: Visitor, headers: Mapping[str, str]) -> None:
    stranger.get("/sign-in")
    assert stranger.post("/sign-in", {"account": "acme"}, headers=headers).status_code == 403
    assert hub.visitor().post("/sign-in", {"account": "acme"}, headers=headers).status_code == 403


def test_a_sign_in_form_of_another_browser_is_refused(hub: Hub) -> None:
    """Login CSRF: an attacker's page sends a form that was made for the attacker's own browser."""
    eve, victim = hub.visitor(), hub.visitor()
    eve.get("/sign-in")
    victim.get("/sign-in")
    assert victim.post("/sign-in", {"account": "acme", "csrf": eve.csrf}).status_code == 403
    for csrf in ("", victim.csrf[:-1], victim.csrf + "x"):
        assert victim.post("/sign-in", {"account": "acme", "csrf": csrf}).status_code == 403


def test_a_way_back_that_fits_no_cookie_is_left_out(hub: Hub) -> None:
    visitor = hub.visitor()
    visitor.get("/sign-in")
    longest = "/" + "ö" * ((LONGEST_NEXT_BYTES - 1) // 2)
    for asked, led_to in ((longest, quote(longest)), (longest + "oo", "/")):
        to_issuer = visitor.post("/sign-in", {"account": "acme", "next": asked})
        assert len(to_issuer.headers["Set-Cookie"]) < 4_096
        other = hub.visitor()
        other.get("/sign-in")
        url = leads_on(other.post("/sign-in", {"account": "acme", "next": asked}))
        assert other.get(other.back_from_issuer(url, ALICE)).location == led_to
