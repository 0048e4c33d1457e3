"""Sign-in and sign-out with the development issuer, and every kind of invalid response."""

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
from kataven.hub.sign_in import MAX_NEXT_BYTES
from kataven.hub.sign_in_failure import Reason
from kataven.identity.grants import DEFAULT_ROLE_CLAIMS
from kataven.system import operators
from kataven.tenancy.errors import TenantUnavailable
from kataven.web.services import EXTENSION as SERVICES
from tests.hub.conftest import HUB_URL, Hub
from tests.hub.hub_browser import HubBrowser, redirect_target
from tests.support.app_harness import AppHarness, new_account
from tests.support.oidc import IssuerWithPen


def start_sign_in(browser: HubBrowser, account: str = "acme", **form: str) -> dict[str, str]:
    """Start a sign-in. Returns the parameters of the authorization request."""
    browser.get("/sign-in")
    return dict(parse_qsl(urlsplit(redirect_target(browser.post("/sign-in", {"account": account, **form}))).query))


def send_callback(browser: HubBrowser, answer: Mapping[str, str]) -> Any:
    return browser.get(f"/auth/callback?{urlencode(answer)}")


def session_of(hub: Hub, browser: HubBrowser) -> Any:
    cookie = browser.client.get_cookie(hub.services.cookie_name, "localhost")
    return hub.services.sessions.read(cookie and cookie.value)


def cookie_of(hub: Hub, browser: HubBrowser) -> str:
    cookie = browser.client.get_cookie(hub.services.cookie_name, "localhost")
    assert cookie is not None
    return cookie.value


def set_session(hub: Hub, browser: HubBrowser, person: SignedInUser, account: str) -> None:
    """Create a session, as if this user had signed in."""
    session = hub.services.sessions.new().with_(user=person, account=account)
    hub.services.sessions.save(session)
    browser.client.set_cookie(hub.services.cookie_name, session.secret, domain="localhost")


def test_sign_in_shows_the_user_and_the_account(alice: HubBrowser) -> None:
    page = alice.get("/")
    assert page.status_code == 200
    assert "Alice" in page.text
    assert "Acme" in page.text


def test_authorization_request_has_pkce_state_and_nonce(anonymous: HubBrowser) -> None:
    asked = start_sign_in(anonymous)
    assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
    assert asked["redirect_uri"] == f"{HUB_URL}/auth/callback"
    assert min(len(asked[name]) for name in ("state", "nonce", "code_challenge")) >= 32
    assert "openid" in asked["scope"].split(" ")


def test_redirect_page_leads_to_the_issuer_and_forms_stay_at_the_hub(
    anonymous: HubBrowser, issuer: IssuerWithPen
) -> None:
    """Chromium applies `form-action` to redirects after a form, and the targets of issuers' redirects are unknown."""
    page = anonymous.get("/sign-in")
    assert "form-action 'self';" in page.headers["Content-Security-Policy"]
    page = anonymous.post("/sign-in", {"account": "acme"})
    assert page.status_code == 200
    assert redirect_target(page).startswith(issuer.url)
    assert page.text.count(redirect_target(page).replace("&", "&amp;")) == 2  # as a refresh and as a link


@pytest.mark.parametrize(
    ("account", "words"),
    [
        ("", "Enter an account"),
        ("Acme Inc.", "lowercase letters"),
        ("nobody-there", "Account not found"),
        ("' OR 1=1 --", "lowercase letters"),
    ],
)
def test_invalid_account_name_shows_an_error(anonymous: HubBrowser, account: str, words: str) -> None:
    anonymous.get("/sign-in")
    page = anonymous.post("/sign-in", {"account": account})
    assert page.status_code == 400
    assert words in page.text


def test_session_cookie_is_host_only_http_only_and_rotated_at_sign_in(hub: Hub) -> None:
    browser = hub.browser()
    browser.get("/sign-in")
    before = browser.client.get_cookie(hub.services.cookie_name, "localhost")
    assert before is not None
    assert before.http_only
    assert (before.same_site, before.path, before.domain) == ("Lax", "/", "localhost")
    browser.sign_in(ALICE)
    after = browser.client.get_cookie(hub.services.cookie_name, "localhost")
    assert after is not None
    assert after.value != before.value
    other = hub.browser()
    other.client.set_cookie(hub.services.cookie_name, before.value, domain="localhost")
    assert other.get("/").location == "/sign-in"


def test_sign_in_redirects_to_the_requested_page(hub: Hub) -> None:
    browser = hub.browser()
    asked = browser.get("/settings/api-keys?cursor=x")
    assert asked.location == "/sign-in?next=%2Fsettings%2Fapi-keys%3Fcursor%3Dx"
    assert 'value="/settings/api-keys?cursor=x"' in browser.get(asked.location).text
    to_issuer = redirect_target(browser.post("/sign-in", {"account": "acme", "next": "/settings/api-keys?cursor=x"}))
    back = browser.get(browser.sign_in_at_issuer(to_issuer, ALICE))
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
def test_sign_in_never_redirects_to_another_site(hub: Hub, elsewhere: str) -> None:
    browser = hub.browser()
    browser.get("/sign-in")
    to_issuer = redirect_target(browser.post("/sign-in", {"account": "acme", "next": elsewhere}))
    assert browser.get(browser.sign_in_at_issuer(to_issuer, ALICE)).location == "/"
    assert browser.get(f"/sign-in?{urlencode({'next': elsewhere})}").location == "/"


def test_response_for_another_browser_is_rejected(hub: Hub) -> None:
    """Login CSRF: an attacker sends a victim to the callback with the attacker's code."""
    eve, victim = hub.browser(), hub.browser()
    eve.get("/sign-in")
    back = eve.sign_in_at_issuer(redirect_target(eve.post("/sign-in", {"account": "globex"})), CHARLIE)
    page = victim.get(back)
    assert page.status_code == 400
    start_sign_in(victim)
    assert victim.get(back).status_code == 400
    assert session_of(hub, victim).user is None


def test_authorization_code_can_be_used_once(hub: Hub) -> None:
    browser = hub.browser()
    browser.get("/sign-in")
    back = browser.sign_in_at_issuer(redirect_target(browser.post("/sign-in", {"account": "acme"})), ALICE)
    assert browser.get(back).status_code == 303
    assert browser.get(back).location == "/"  # going back in the browser redirects
    other = hub.browser()
    assert other.get(back).status_code == 400


def test_response_must_match_the_pending_sign_in(hub: Hub, issuer: IssuerWithPen) -> None:
    for wrong in ({"state": "other"}, {"iss": "https://evil.example"}, {"error": "access_denied"}, {}, {"iss": None}):
        browser = hub.browser()
        good = {"state": start_sign_in(browser)["state"], "code": "unknown", "iss": issuer.url}
        answer = {name: said for name, said in {**good, **wrong}.items() if said is not None}
        assert send_callback(browser, answer).status_code == 400, wrong
        assert session_of(hub, browser).user is None


@pytest.mark.parametrize(
    "first",
    [{"error": "access_denied"}, {"code": "unknown"}, {"iss": "https://evil.example"}],
    ids=str,
)
def test_first_response_consumes_the_pending_sign_in(hub: Hub, first: dict[str, str]) -> None:
    """State, nonce and verifier allowed several attempts before, and an attacker's response could be one of them."""
    browser = hub.browser()
    browser.get("/sign-in")
    back = browser.sign_in_at_issuer(redirect_target(browser.post("/sign-in", {"account": "acme"})), ALICE)
    good, cookie, before = dict(parse_qsl(urlsplit(back).query)), cookie_of(hub, browser), session_of(hub, browser)
    assert send_callback(browser, {**good, **first}).status_code == 400
    assert session_of(hub, browser).sign_ins == ()
    page = browser.get(back)
    assert page.status_code == 400
    # A copy of the cookie and the session, as a concurrent request could leave them.
    browser.client.set_cookie(hub.services.cookie_name, cookie, domain="localhost")
    hub.services.sessions.save(before)
    page = browser.get(back)
    assert page.status_code == 400
    assert "already used" in page.text
    assert browser.sign_in(ALICE).get("/").status_code == 200  # a new sign-in works


def test_one_of_several_concurrent_responses_is_accepted(hub: Hub) -> None:
    browser = hub.browser()
    browser.get("/sign-in")
    back = browser.sign_in_at_issuer(redirect_target(browser.post("/sign-in", {"account": "acme"})), ALICE)
    cookie = cookie_of(hub, browser)
    together = threading.Barrier(4)

    def answer(_: int) -> int:
        client = hub.app.test_client()
        client.set_cookie(hub.services.cookie_name, cookie, domain="localhost")
        together.wait()
        return client.get(back, base_url=HUB_URL).status_code

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(answer, range(4))) == [303, 400, 400, 400]


def test_id_token_with_another_nonce_is_rejected(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = hub.browser()
    browser.get("/sign-in")
    back = browser.sign_in_at_issuer(redirect_target(browser.post("/sign-in", {"account": "acme"})), ALICE)
    session = session_of(hub, browser)
    other_nonce = replace(session.sign_ins[0], nonce="of another sign-in")
    cookie = hub.services.sessions.cookie_of(session.with_(sign_ins=(other_nonce,)))
    browser.client.set_cookie(hub.services.cookie_name, cookie, domain="localhost")
    assert browser.get(back).status_code == 400


def _fields(thing: Any) -> dict[str, Any]:
    return {name: getattr(thing, name) for name in thing.__slots__}


def test_sign_out_ends_the_session_at_the_hub_and_the_issuer(
    hub: Hub, alice: HubBrowser, issuer: IssuerWithPen
) -> None:
    alice.get("/")
    cookie = alice.client.get_cookie(hub.services.cookie_name, "localhost")
    assert cookie is not None
    to_issuer = redirect_target(alice.post("/sign-out"))
    asked = dict(parse_qsl(urlsplit(to_issuer).query))
    assert to_issuer.startswith(issuer.url)
    assert asked["post_logout_redirect_uri"] == f"{HUB_URL}/signed-out"
    assert asked["client_id"] == "kataven-hub"
    assert "id_token_hint" not in asked
    assert "eyJ" not in to_issuer
    assert httpx2.get(to_issuer, trust_env=False).headers["Location"] == f"{HUB_URL}/signed-out"
    assert hub.services.sessions.read(cookie.value) is None
    assert alice.get("/").location == "/sign-in"


def test_expired_token_is_renewed_silently(hub: Hub, issuer: IssuerWithPen) -> None:
    browser = hub.signed_in(BOB)
    session = session_of(hub, browser)
    old = issuer.token(BOB, claims={"exp": 1_000_000_000, "iat": 999_999_000, "nbf": 999_999_000})
    hub.services.sessions.save(session.with_(user=SignedInUser(**{**_fields(session.user), "access_token": old})))
    assert browser.get("/").status_code == 200
    assert session_of(hub, browser).user.access_token != old


def test_session_ends_if_the_token_cannot_be_renewed(hub: Hub, issuer: IssuerWithPen) -> None:
    browser = hub.signed_in(BOB)
    session = session_of(hub, browser)
    old = issuer.token(BOB, claims={"exp": 1_000_000_000, "iat": 999_999_000, "nbf": 999_999_000})
    person = SignedInUser(**{**_fields(session.user), "access_token": old, "refresh_token": "withdrawn"})
    hub.services.sessions.save(session.with_(user=person))
    assert browser.get("/").location == "/sign-in"
    assert hub.services.sessions.read(session.secret) is None


def test_token_with_an_invalid_signature_ends_the_session(hub: Hub, issuer: IssuerWithPen) -> None:
    browser = hub.browser()
    set_session(hub, browser, SignedInUser("alice", "Alice", issuer.token(ALICE)[:-4] + "AAAA", "", None), "acme")
    assert browser.get("/").location == "/sign-in"


def test_user_without_a_role_gets_403_with_an_explanation(hub: Hub) -> None:
    browser = hub.signed_in(CHARLIE, "acme")
    page = browser.get("/")
    assert page.status_code == 403
    assert "no role in this account" in page.text
    assert "/accounts" in page.text


def test_user_with_several_accounts_can_switch(hub: Hub, issuer: IssuerWithPen) -> None:
    roles = {"owner": {org_id("acme"): "acme.example"}, "member": {org_id("globex"): "globex.example"}}
    token = issuer.token(ALICE, claims={DEFAULT_ROLE_CLAIMS[0]: roles})
    browser = hub.browser()
    set_session(hub, browser, SignedInUser("alice", "Alice", token, "", None), "acme")
    page = browser.get("/accounts").text
    assert 'value="acme"' in page
    assert 'value="globex"' in page
    assert browser.post("/accounts", {"account": "globex"}).location == "/"
    assert "Globex" in browser.get("/").text
    assert browser.post("/accounts", {"account": "kataven-admin"}).location == "/accounts"
    assert "Globex" in browser.get("/").text


def test_pages_of_a_suspended_account_return_403(hub: Hub, harness: AppHarness, issuer: IssuerWithPen) -> None:
    from kataven.system import accounts
    from kataven.system.models import AccountStatus

    new_account(harness.services, "closed-hub")
    with harness.services.directory.database.writing() as session:
        accounts.move(session, "closed-hub", AccountStatus.SUSPENDED, AccountStatus.ACTIVE)
    token = issuer.token(ALICE, claims={DEFAULT_ROLE_CLAIMS[0]: {"owner": {org_id("closed-hub"): "x.example"}}})
    browser = hub.browser()
    set_session(hub, browser, SignedInUser("alice", "Alice", token, "", None), "closed-hub")
    page = browser.get("/settings/api-keys")
    assert page.status_code == 403
    assert "suspended" in page.text


def test_unavailable_issuer_returns_503(hub: Hub, anonymous: HubBrowser, monkeypatch: pytest.MonkeyPatch) -> None:
    anonymous.get("/sign-in")
    with monkeypatch.context() as outage:
        outage.setattr(hub.services.provider, "_metadata", {})
        outage.setattr(hub.services.provider, "_next_fetch_at", float("inf"))
        page = anonymous.post("/sign-in", {"account": "acme"})
    assert page.status_code == 503
    assert page.headers["Retry-After"]


def test_operator_has_no_access_to_accounts(hub: Hub) -> None:
    assert hub.signed_in(OLIVIA, "acme").get("/").status_code == 403


def test_concurrent_requests_renew_a_token_once(hub: Hub, issuer: IssuerWithPen) -> None:
    """A refresh token can be used once. Many issuers revoke the session if it is used twice."""
    browser = hub.signed_in(BOB)
    session = session_of(hub, browser)
    old = issuer.token(BOB, claims={"exp": 1_000_000_000, "iat": 999_999_000, "nbf": 999_999_000})
    hub.services.sessions.save(session.with_(user=SignedInUser(**{**_fields(session.user), "access_token": old})))
    together = threading.Barrier(6)

    def look(_: int) -> int:
        client = hub.app.test_client()
        client.set_cookie(hub.services.cookie_name, session.secret, domain="localhost")
        together.wait()
        return client.get("/", base_url=HUB_URL).status_code

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(look, range(6))) == [200] * 6
    assert session_of(hub, browser).user is not None


def test_form_of_an_ended_session_redirects_to_sign_in(hub: Hub, alice: HubBrowser) -> None:
    alice.get("/settings/api-keys/new")
    hub.services.sessions.end(session_of(hub, alice))
    answer = alice.post("/settings/api-keys/new", {"name": "Too late", "expiry": "30d"})
    assert (answer.status_code, answer.location) == (303, "/sign-in?next=%2Fsettings%2Fapi-keys%2Fnew&ended=1")


def test_form_is_rejected_after_switching_accounts(hub: Hub, issuer: IssuerWithPen) -> None:
    """For example in another window."""
    both = {"owner": {org_id("acme"): "acme.example", org_id("globex"): "globex.example"}}
    token = issuer.token(ALICE, claims={DEFAULT_ROLE_CLAIMS[0]: both})
    browser = hub.browser()
    set_session(hub, browser, SignedInUser("alice", "Alice", token, "", None), "acme")
    browser.get("/settings/api-keys/new")
    csrf, form_id = browser.csrf, browser.form_id
    assert browser.post("/accounts", {"account": "globex"}).location == "/"
    form = {"name": "Meant for acme", "expiry": "30d", "csrf": csrf, "form_id": form_id}
    answer = browser.post("/settings/api-keys/new", form)
    assert answer.status_code == 403
    assert "This form has expired" in answer.text
    assert "Meant for acme" not in browser.get("/settings/api-keys").text


# Other tokens of the issuer


def test_id_token_is_rejected_by_the_api(hub: Hub, harness: AppHarness, issuer: IssuerWithPen) -> None:
    """It has Alice's role, the API's audience and the type of an access token, as at Zitadel."""
    asked = start_sign_in(hub.browser())
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
    set_session(hub, browser := hub.browser(), SignedInUser("alice", "Alice", tokens["id_token"], "", None), "acme")
    assert browser.get("/").location == "/sign-in"


def test_token_is_renewed_if_fewer_scopes_were_granted(hub: Hub, issuer: IssuerWithPen) -> None:
    """RFC 6749, section 6: a refresh must not request scopes that were not granted. This issuer rejects it."""
    client = hub.services.provider._client
    more = Provider(
        issuer.url,
        replace(client, scope=f"{client.scope} address phone"),
        hub.services.provider._id_tokens,
        hub.services.access_tokens,
        hub.services.provider._fetcher,
        allow_loopback_http=True,
    )
    url, sign_in = more.start("acme", "/")
    back = hub.browser().sign_in_at_issuer(url, BOB)
    person = more.finish(sign_in, dict(parse_qsl(urlsplit(back).query)))
    assert more.refresh(person).access_token != person.access_token


# Log, metrics and audit log


def lines(said: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]


def count_of(hub: Hub, outcome: str) -> float:
    found = hub.app.extensions[SERVICES].metrics.registry.get_sample_value(
        "kataven_sign_ins_total", {"outcome": outcome}
    )
    assert found is not None, f"{outcome} has no series"
    return float(found)


def events_of(harness: AppHarness, account: str, action: str) -> list[dict[str, Any]]:
    owner = {"acme": ALICE, "globex": CHARLIE}[account]
    found: list[dict[str, Any]] = harness.user(owner).get(f"/v1/audit-events?action={action}").get_json()
    return found


def test_every_outcome_has_a_time_series_at_startup(hub: Hub) -> None:
    for outcome in ("signed_in", "signed_out", "not_renewed", *Reason):
        assert count_of(hub, str(outcome)) >= 0


def test_sign_in_and_sign_out_are_in_the_audit_log_and_the_log(
    hub: Hub, harness: AppHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    came, went = count_of(hub, "signed_in"), count_of(hub, "signed_out")
    browser = hub.signed_in(BOB)
    browser.get("/")
    browser.post("/sign-out")
    assert (count_of(hub, "signed_in"), count_of(hub, "signed_out")) == (came + 1, went + 1)
    address = browser.client.environ_base["REMOTE_ADDR"]
    for action in ("person.signed_in", "person.signed_out"):
        event = events_of(harness, "acme", action)[0]
        assert (event["actor"], event["actor_name"], event["address"]) == ("jwt:bob", "Bob", address)
        assert event["request_id"]
        assert not [one for one in events_of(harness, "globex", action) if one["actor"] == "jwt:bob"]
    said = lines(capsys.readouterr().err)
    assert [(line["message"], line["sub"]) for line in said if line["logger"] == "kataven.hub.sign_in_audit"] == [
        ("signed in", "bob"),
        ("signed out", "bob"),
    ]


def test_sign_in_without_a_role_is_not_in_the_audit_log(
    hub: Hub, harness: AppHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(events_of(harness, "acme", "person.signed_in")), len(events_of(harness, "acme", "person.signed_out"))
    browser = hub.signed_in(CHARLIE, "acme")
    assert browser.get("/").status_code == 403
    browser.get("/accounts")
    browser.post("/sign-out")
    after = len(events_of(harness, "acme", "person.signed_in")), len(events_of(harness, "acme", "person.signed_out"))
    assert after == before
    assert any(line["message"] == "signed in" for line in lines(capsys.readouterr().err))


def test_operator_sign_ins_are_in_the_operator_audit_log(hub: Hub) -> None:
    for person in (OLIVIA, ALICE):  # Alice is not an operator
        browser = hub.signed_in(person, "kataven-admin")
        browser.get("/signed-out")
        assert browser.post("/sign-out").status_code == 200
    database = hub.app.extensions[SERVICES].directory.database
    with database.reading() as session:
        for action in ("operator.signed_in", "operator.signed_out"):
            events = operators.listing(session, 10, action=action)
            assert {event.actor for event in events} == {"jwt:olivia"}
            assert events[0].detail["address"]


def test_sign_in_succeeds_if_the_audit_log_cannot_be_written(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    browser = hub.browser()
    with monkeypatch.context() as outage:
        unavailable = TenantUnavailable("acme", "away")
        outage.setattr(hub.app.extensions[SERVICES].registry, "writing", lambda _: _raising(unavailable))
        browser.sign_in(BOB)
    assert browser.get("/").status_code == 200
    said = [line for line in lines(capsys.readouterr().err) if line["logger"] == "kataven.hub.sign_in_audit"]
    assert [line["level"] for line in said] == ["info", "warning"]
    assert (said[1]["account"], said[1]["what"]) == ("acme", "signed_in")


@contextmanager
def _raising(error: Exception) -> Iterator[None]:
    raise error
    yield


def test_failed_sign_in_is_logged_and_counted_but_not_in_the_audit_log(
    hub: Hub, harness: AppHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    before, events = count_of(hub, "refused"), len(events_of(harness, "acme", "person.signed_in"))
    browser = hub.browser()
    secret_state = start_sign_in(browser)["state"]
    answer = {
        "state": secret_state,
        "error": "invalid_request",
        "error_description": "Pushed Authorization Request must be used by alice@acme.example",
        "iss": hub.services.provider._issuer,
    }
    capsys.readouterr()
    page = send_callback(browser, answer)
    assert page.status_code == 400
    assert count_of(hub, "refused") == before + 1
    assert len(events_of(harness, "acme", "person.signed_in")) == events
    written = capsys.readouterr().err
    (line,) = [line for line in lines(written) if line["logger"] == "kataven.hub.sign_in_audit"]
    assert (line["message"], line["reason"], line["error"]) == ("sign-in refused", "refused", "invalid_request")
    assert line["error_description"] == "Pushed Authorization Request must be used by [redacted]"
    assert line["request_id"] in page.text
    assert secret_state not in written
    (request,) = [line for line in lines(written) if line.get("route") == "/auth/callback"]
    assert (request["status"], request["code"]) == (400, "sign_in_failed")
    # The page contains advice for the administrator, and nothing from the request.
    assert "For the administrator" in page.text
    assert "Pushed authorization requests must not be required" in page.text
    assert "invalid_request" not in page.text
    assert "acme.example" not in page.text


def test_opaque_access_token_is_explained(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zitadel's default. Before, the sign-in succeeded, and then each page returned `Malformed token`."""
    monkeypatch.setattr(
        "kataven.dev.issuer.app.encode",
        lambda key, claims: "opaque" if "jti" in claims else encode(key, {**claims, "at_hash": at_hash("opaque")}),
    )
    browser = hub.browser()
    browser.get("/sign-in")
    page = browser.get(browser.sign_in_at_issuer(redirect_target(browser.post("/sign-in", {"account": "acme"})), ALICE))
    assert page.status_code == 400
    assert "token type of the Hub" in page.text
    assert "to JWT" in page.text
    assert session_of(hub, browser).user is None


def test_failed_renewal_is_logged_with_its_reason(
    hub: Hub, issuer: IssuerWithPen, capsys: pytest.CaptureFixture[str]
) -> None:
    browser = hub.signed_in(BOB)
    session = session_of(hub, browser)
    old = issuer.token(BOB, claims={"exp": 1_000_000_000, "iat": 999_999_000, "nbf": 999_999_000})
    person = SignedInUser(**{**_fields(session.user), "access_token": old, "refresh_token": "withdrawn"})
    hub.services.sessions.save(session.with_(user=person))
    before = count_of(hub, "not_renewed")
    assert browser.get("/").location == "/sign-in"
    assert count_of(hub, "not_renewed") == before + 1
    (line,) = [line for line in lines(capsys.readouterr().err) if "not renewed" in line["message"]]
    assert (line["reason"], line["error"], line["sub"]) == ("tokens_refused", "invalid_grant", "bob")
    assert "withdrawn" not in json.dumps({**line, "error_description": None})


def test_denied_page_is_logged_with_its_code(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    browser = hub.signed_in(BOB)
    capsys.readouterr()
    assert browser.get("/audit-log").status_code == 403
    (line,) = lines(capsys.readouterr().err)
    assert (line["status"], line["code"], line["account"], line["principal"]) == (403, "forbidden", "acme", "jwt:bob")


def test_audit_log_contains_the_name_from_the_id_token(hub: Hub, harness: AppHarness, issuer: IssuerWithPen) -> None:
    """Zitadel's access tokens contain no name, and the subject is a long number."""
    nameless = issuer.token(ALICE, claims={"name": None, "preferred_username": None, "email": None})
    set_session(hub, browser := hub.browser(), SignedInUser("alice", "Alice A.", nameless, "", None), "acme")
    browser.get("/agents/new")
    assert browser.post("/agents/new", {"name": "Of Alice A."}).status_code == 303
    assert events_of(harness, "acme", "agent.created")[0]["actor_name"] == "Alice A."


def test_unauthenticated_browsers_leave_only_short_lived_keys_in_redis(hub: Hub, harness: AppHarness) -> None:
    """Only rate limit counters, and the states of finished sign-ins."""
    hub.browser().get("/sign-in")  # the first request of a day creates the key of anonymous cookies
    before = keys_of(harness)
    for _ in range(20):
        browser = hub.browser()
        browser.get("/sign-in")
        browser.get("/settings/api-keys")
        to_issuer = browser.post("/sign-in", {"account": "acme"})
        assert to_issuer.status_code == 200
        state = dict(parse_qsl(urlsplit(redirect_target(to_issuer)).query))["state"]
        for answer in ("x", state):
            assert browser.get(f"/auth/callback?state={answer}&code=y").status_code == 400
        browser.post("/sign-out")
    new = {name: seconds for name, seconds in keys_of(harness).items() if name not in before}
    # The state of a finished sign-in is stored for as long as a copy of its cookie is valid.
    used_up = {name for name in new if b":turn:sign-in:" in name}
    assert len(used_up) == 20
    assert max(new[name] for name in used_up) <= ANONYMOUS_SECONDS
    counters = new.keys() - used_up
    assert {name for name in counters if not name.startswith(b"limits:hub:address:hub:")} == set()
    assert counters
    assert max(new[name] for name in counters) <= 180


def keys_of(harness: AppHarness) -> dict[bytes, int]:
    """Every key in Redis, with its TTL in seconds; -1 without expiry."""
    with redis.Redis.from_url(harness.environ["KATAVEN_REDIS_URL"]) as client:
        return {name: client.ttl(name) for name in client.scan_iter()}


def test_anonymous_cookie_has_a_max_age_of_15_minutes(hub: Hub, anonymous: HubBrowser) -> None:
    anonymous.get("/sign-in")
    cookie = anonymous.client.get_cookie(hub.services.cookie_name, "localhost")
    assert cookie is not None
    assert cookie.max_age == ANONYMOUS_SECONDS <= 15 * 60


def test_expired_sign_in_form_redirects_to_a_new_one(hub: Hub, anonymous: HubBrowser) -> None:
    """The browser has deleted the expired cookie."""
    anonymous.get("/sign-in")
    anonymous.client.delete_cookie(hub.services.cookie_name, domain="localhost")
    answer = anonymous.post("/sign-in", {"account": "acme"})
    assert (answer.status_code, answer.location) == (303, "/sign-in")


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_cross_site_sign_in_is_rejected(hub: Hub, anonymous: HubBrowser, headers: Mapping[str, str]) -> None:
    anonymous.get("/sign-in")
    assert anonymous.post("/sign-in", {"account": "acme"}, headers=headers).status_code == 403
    assert hub.browser().post("/sign-in", {"account": "acme"}, headers=headers).status_code == 403


def test_sign_in_form_of_another_browser_is_rejected(hub: Hub) -> None:
    """Login CSRF: an attacker's page submits a form of the attacker's own browser."""
    eve, victim = hub.browser(), hub.browser()
    eve.get("/sign-in")
    victim.get("/sign-in")
    assert victim.post("/sign-in", {"account": "acme", "csrf": eve.csrf}).status_code == 403
    for csrf in ("", victim.csrf[:-1], victim.csrf + "x"):
        assert victim.post("/sign-in", {"account": "acme", "csrf": csrf}).status_code == 403


def test_next_path_that_is_too_long_is_dropped(hub: Hub) -> None:
    browser = hub.browser()
    browser.get("/sign-in")
    longest = "/" + "ö" * ((MAX_NEXT_BYTES - 1) // 2)
    for asked, led_to in ((longest, quote(longest)), (longest + "oo", "/")):
        to_issuer = browser.post("/sign-in", {"account": "acme", "next": asked})
        assert len(to_issuer.headers["Set-Cookie"]) < 4_096
        other = hub.browser()
        other.get("/sign-in")
        url = redirect_target(other.post("/sign-in", {"account": "acme", "next": asked}))
        assert other.get(other.sign_in_at_issuer(url, ALICE)).location == led_to
