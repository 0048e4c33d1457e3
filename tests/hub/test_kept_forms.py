"""Forms that are submitted after their session ended: they change nothing, and their values are restored."""

from __future__ import annotations

import hashlib
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import pytest
import redis
from werkzeug.test import TestResponse

from kataven.dev.personas import ALICE, BOB, OLIVIA, Persona, org_id
from kataven.hub.kept_forms import KEPT_SECONDS, MAX_FORM_BYTES, MAX_PER_USER
from kataven.hub.sessions import SignedInUser as Signed
from kataven.identity.grants import DEFAULT_ROLE_CLAIMS
from tests.hub.conftest import Hub
from tests.hub.forms import Form, forms_of
from tests.hub.hub_browser import HubBrowser, redirect_target
from tests.hub.test_agents import create
from tests.hub.test_sign_in import keys_of, session_of, set_session
from tests.support.app_harness import AppHarness, Caller
from tests.support.oidc import IssuerWithPen

NEW = "/agents/new"
LONG = "Typed with care, ünïcödé & <tags>.\n" * 40


def let_session_expire(harness: AppHarness, hub: Hub, browser: HubBrowser) -> None:
    """Simulate the idle timeout: Redis has deleted the session, and the browser still sends its cookie."""
    name = hub.services.sessions._name(session_of(hub, browser).secret)
    with redis.Redis.from_url(harness.environ["KATAVEN_REDIS_URL"]) as client:
        assert client.delete(name) == 1


def open_form(browser: HubBrowser, page: str, action: str | None = None) -> Form:
    return forms_of(browser.get(page).text)[action or page]


def send(browser: HubBrowser, form: Form, changes: dict[str, str], **headers: str) -> TestResponse:
    return browser.client.post(
        form.action,
        base_url=browser.url,
        data={**form.fields, **changes},
        headers={"Origin": browser.url, **headers},
    )


def sign_in_again(browser: HubBrowser, location: str, person: Persona = ALICE, account: str = "acme") -> str:
    """Sign in again. Returns the page to which the sign-in redirects."""
    form = forms_of(browser.get(location).text)["/sign-in"]
    to_issuer = redirect_target(send(browser, form, {"account": account}))
    return browser.get(browser.sign_in_at_issuer(to_issuer, person)).location


def test_form_is_restored_after_signing_in_again(hub: Hub, harness: AppHarness, acme_key: Caller) -> None:
    name = f"Typed too late {uuid4()}"
    browser = hub.signed_in(ALICE)
    form = open_form(browser, NEW)
    let_session_expire(harness, hub, browser)
    response = send(browser, form, {"name": name, "system_prompt": LONG, "ringing_enabled": "on"})
    assert response.status_code == 303
    page = browser.get(response.location).text
    assert "Your session ended." in page
    assert forms_of(page)["/sign-in"].fields["account"] == "acme"
    page = browser.get(sign_in_again(browser, response.location)).text
    assert "Your changes were not saved yet. Check the form and submit it again." in page
    again = forms_of(page)[NEW]
    assert again.fields["name"] == name
    assert again.fields["system_prompt"] == LONG
    assert again.fields["ringing_enabled"] == "on"
    names = [agent["name"] for agent in acme_key.get("/v1/agents").get_json()]
    assert name not in names
    made = send(browser, again, {})
    assert made.status_code == 303
    assert acme_key.get(f"/v1{made.location}").get_json()["system_prompt"] == LONG


def test_restored_form_still_detects_concurrent_edits(hub: Hub, harness: AppHarness, alice: HubBrowser) -> None:
    path = create(alice, name="Kept and compared")
    browser = hub.signed_in(ALICE)
    form = open_form(browser, path)
    let_session_expire(harness, hub, browser)
    response = send(browser, form, {"greeting_message": "Mine"})
    alice.get(path)
    assert alice.post(path, {**open_form(alice, path).fields, "greeting_message": "Theirs"}).status_code == 303
    page = browser.get(sign_in_again(browser, response.location)).text
    assert send(browser, forms_of(page)[path], {}).status_code == 409


def test_forms_of_two_tabs_are_both_restored(hub: Hub, harness: AppHarness) -> None:
    browser = hub.signed_in(ALICE)
    agent, widget_key = open_form(browser, NEW), open_form(browser, "/settings/widget-keys")
    let_session_expire(harness, hub, browser)
    first = send(browser, agent, {"name": "In the first tab"}).location
    second = send(browser, widget_key, {"name": "In the second tab"}).location
    led_to = sign_in_again(browser, first)
    assert forms_of(browser.get(led_to).text)[NEW].fields["name"] == "In the first tab"
    led_to = browser.get(second).location  # signed in by now
    assert forms_of(browser.get(led_to).text)["/settings/widget-keys"].fields["name"] == "In the second tab"


def test_form_is_kept_when_the_token_cannot_be_renewed(hub: Hub, issuer: IssuerWithPen) -> None:
    """The session exists and the form belongs to it, but the issuer refuses to renew the token."""
    browser = hub.signed_in(BOB, "acme")
    old = issuer.token(ALICE, claims={"exp": 1_000_000_000, "iat": 999_999_000, "nbf": 999_999_000})
    set_session(hub, browser, Signed("alice", "Alice", issuer.token(ALICE), "", None), "acme")
    form, other = open_form(browser, NEW), open_form(browser, "/widget")
    session = session_of(hub, browser)
    hub.services.sessions.save(session.with_(user=Signed("alice", "Alice", old, "", "withdrawn")))
    first = send(browser, form, {"name": "Before the token ended"}).location
    second = send(browser, other, {"title": "In another tab"}).location  # its cookie has no session anymore
    led_to = sign_in_again(browser, first)
    assert forms_of(browser.get(led_to).text)[NEW].fields["name"] == "Before the token ended"
    page = browser.get(browser.get(second).location).text
    assert forms_of(page)["/widget"].fields["title"] == "In another tab"


def test_kept_form_is_not_shown_to_another_user(hub: Hub, harness: AppHarness) -> None:
    browser = hub.signed_in(ALICE)
    form = open_form(browser, NEW)
    let_session_expire(harness, hub, browser)
    response = send(browser, form, {"name": "Of Alice", "system_prompt": "Alice's secret plan"})
    led_to = sign_in_again(browser, response.location, BOB)
    page = browser.get(led_to, follow_redirects=True)
    assert "secret plan" not in page.text
    assert "Of Alice" not in page.text
    other = hub.signed_in(ALICE)  # in another browser
    assert "secret plan" not in other.get(led_to, follow_redirects=True).text


def test_kept_form_is_not_applied_to_another_account(hub: Hub, harness: AppHarness, issuer: IssuerWithPen) -> None:
    both = {"owner": {org_id("acme"): "acme.example", org_id("globex"): "globex.example"}}
    token = issuer.token(ALICE, claims={DEFAULT_ROLE_CLAIMS[0]: both})
    browser = hub.browser()
    set_session(hub, browser, Signed("alice", "Alice", token, "", None), "acme")
    form = open_form(browser, NEW)
    let_session_expire(harness, hub, browser)
    led_to = sign_in_again(browser, send(browser, form, {"name": "Meant for acme"}).location)
    session = session_of(hub, browser)
    hub.services.sessions.save(session.with_(user=Signed("alice", "Alice", token, "", None), account="globex"))
    page = browser.get(led_to)
    assert page.status_code == 403
    assert "Meant for acme" in page.text  # to be copied
    assert NEW not in forms_of(page.text)


def test_form_of_an_earlier_session_is_shown_filled_in(hub: Hub, acme_key: Caller) -> None:
    browser = hub.signed_in(ALICE)
    form = open_form(browser, NEW)
    browser.post("/sign-out")
    browser.sign_in(ALICE)
    page = send(browser, form, {"name": "Of an older session", "system_prompt": LONG})
    assert page.status_code == 403
    assert "Check the form and submit it again." in page.text
    again = forms_of(page.text)[NEW]
    assert (again.fields["name"], again.fields["system_prompt"]) == ("Of an older session", LONG)
    assert "Of an older session" not in [agent["name"] for agent in acme_key.get("/v1/agents").get_json()]
    assert send(browser, again, {}).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": ""}],
    ids=str,
)
def test_other_sites_cannot_prefill_a_form(hub: Hub, harness: AppHarness, headers: dict[str, str]) -> None:
    """Otherwise a user could submit values from another site with one click."""
    browser = hub.signed_in(ALICE)
    fields = {"name": "Put in by another page", "csrf": "made up", "in_account": "acme"}
    page = send(browser, Form(NEW, "post", fields), {}, **headers)
    assert page.status_code == 403
    assert "Put in by" not in page.text
    let_session_expire(harness, hub, browser)
    before = keys_of(harness).keys()
    send(browser, Form(NEW, "post", fields), {}, **headers)
    assert [name for name in keys_of(harness).keys() - before if b"kept" in name] == []


def test_member_does_not_get_a_managers_form(hub: Hub) -> None:
    browser = hub.signed_in(BOB)
    page = send(browser, Form(NEW, "post", {"name": "x", "csrf": "made up", "in_account": "acme"}), {})
    assert page.status_code == 403
    assert forms_of(page.text).keys() == {"/sign-out", "/theme"}


# Limits


def test_unauthenticated_browsers_store_no_form_in_redis(hub: Hub, harness: AppHarness) -> None:
    before = keys_of(harness).keys()
    for cookie in (None, "x" * 43, "y" * 43, "anonymous.1.AAAA"):
        browser = hub.browser()
        if cookie is not None:
            browser.client.set_cookie(hub.services.cookie_name, cookie, domain="localhost")
        response = send(browser, Form(NEW, "post", {"name": "Of a stranger", "csrf": "x", "in_account": "acme"}), {})
        assert response.location == "/sign-in?next=%2Fagents%2Fnew&ended=1"
        response = send(browser, Form(NEW, "post", {"name": "x" * 9_000}), {})
        assert response.status_code == 413
    assert [
        name for name in keys_of(harness).keys() - before if b"limits:" not in name and b"anonymous-key" not in name
    ] == []


def test_kept_forms_per_user_are_limited_and_expire(hub: Hub, harness: AppHarness) -> None:
    browser = hub.signed_in(OLIVIA)
    form = open_form(browser, "/console/new-account", "/console/new-account")
    let_session_expire(harness, hub, browser)
    for number in range(3 * MAX_PER_USER):
        assert "%2Fsent%2F" in send(browser, form, {"name": f"Account {number}"}).location
    hers = b":kept:" + hashlib.sha256(b"olivia").hexdigest().encode()
    new = {name: seconds for name, seconds in keys_of(harness).items() if hers in name}
    assert len(new) == MAX_PER_USER + 1  # and the counter of slots
    assert all(0 < seconds <= KEPT_SECONDS for seconds in new.values())
    with redis.Redis.from_url(harness.environ["KATAVEN_REDIS_URL"]) as client:
        assert not any(b"Account" in (client.get(name) or b"") for name in new)


def test_form_that_is_too_long_is_not_kept(hub: Hub, harness: AppHarness) -> None:
    browser = hub.signed_in(ALICE)
    form = open_form(browser, NEW)
    let_session_expire(harness, hub, browser)
    response = send(browser, form, {"system_prompt": "x" * MAX_FORM_BYTES})
    assert dict(parse_qsl(urlsplit(response.location).query)) == {"next": NEW, "ended": "1"}
    page = browser.get(response.location).text
    assert "Your session ended." in page
    assert "within 15 minutes" not in page


def test_expired_kept_form_redirects_to_an_empty_form(hub: Hub, harness: AppHarness) -> None:
    browser = hub.signed_in(ALICE)
    response = browser.get("/sent/0?form=/agents/new")
    assert (response.status_code, response.location) == (303, NEW)
    assert "are no longer available" in browser.get(NEW).text
    for elsewhere in ("https://evil.example", "//evil.example", ""):
        assert browser.get(f"/sent/0?form={elsewhere}").location == "/"
    for place in ("9", "99", "x", "²", "9" * 10_000):
        assert browser.get(f"/sent/{place}").location == "/"
