"""Finding the account at sign-in: accounts used in this browser, and e-mail addresses."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

import pytest

from kataven.dev.personas import ALICE, CHARLIE, OLIVIA, Persona, org_id
from kataven.hub import sign_in
from kataven.hub.used_accounts import COOKIE, MAX_ACCOUNTS
from kataven.identity.credential import OPERATORS_ACCOUNT
from kataven.operations import email_domains
from kataven.operations.operator import Operator
from kataven.system.errors import SystemDatabaseUnavailable
from tests.hub.conftest import Hub
from tests.hub.hub_browser import HubBrowser, redirect_target
from tests.support.app_harness import AppHarness

REMEMBERED = "Accounts used on this browser"


def cookie_of(browser: HubBrowser) -> str:
    found = browser.client.get_cookie(COOKIE, "localhost")
    return "" if found is None else found.value


def signed_out_again(browser: HubBrowser) -> HubBrowser:
    browser.get("/")
    browser.post("/sign-out")
    return browser


def account_of(hub: Hub, browser: HubBrowser) -> str | None:
    cookie = browser.client.get_cookie(hub.services.cookie_name, "localhost")
    session = hub.services.sessions.read(cookie and cookie.value)
    assert session is not None
    return session.account


def sign_in_with(browser: HubBrowser, person: Persona, email: str) -> str:
    """Returns where the Hub leads after the sign-in."""
    browser.get("/sign-in")
    to_issuer = redirect_target(browser.post("/sign-in", {"account": email}))
    location: str = browser.get(browser.sign_in_at_issuer(to_issuer, person)).location
    return location


def test_used_account_is_offered_after_the_sign_out(hub: Hub, alice: HubBrowser) -> None:
    signed_out_again(alice)
    page = alice.get("/sign-in")
    assert REMEMBERED in page.text
    assert '<button class="choice" name="account" value="acme">' in page.text
    alice.sign_in(ALICE)
    assert account_of(hub, alice) == "acme"


def test_used_accounts_are_not_readable_by_scripts_and_contain_names_only(alice: HubBrowser) -> None:
    cookie = alice.client.get_cookie(COOKIE, "localhost")
    assert cookie is not None
    assert cookie.value == "acme"
    assert cookie.http_only
    assert cookie.same_site == "Lax"


def test_used_account_can_be_removed(alice: HubBrowser) -> None:
    signed_out_again(alice)
    alice.get("/sign-in?next=/agents")
    response = alice.post("/sign-in", {"forget": "acme"})
    assert (response.status_code, response.location) == (303, "/sign-in?next=%2Fagents")
    assert REMEMBERED not in alice.get("/sign-in").text
    assert cookie_of(alice) == ""


def test_latest_account_is_first_and_the_list_is_capped(hub: Hub) -> None:
    browser = hub.browser()
    browser.client.set_cookie(COOKIE, ".".join(f"old-{n}" for n in range(MAX_ACCOUNTS)), domain="localhost")
    browser.sign_in(ALICE)
    assert cookie_of(browser).split(".") == ["acme", "old-0", "old-1", "old-2", "old-3"]


def test_account_without_a_role_is_not_remembered(hub: Hub) -> None:
    assert cookie_of(hub.browser().sign_in(ALICE, "globex")) == ""


@pytest.mark.parametrize("value", ["", "..", "Acme", "<b>x</b>", "a" * 64, "acme/../x", "ünknown", "a." * 2000])
def test_invalid_names_in_the_cookie_are_ignored(anonymous: HubBrowser, value: str) -> None:
    anonymous.client.set_cookie(COOKIE, value, domain="localhost")
    page = anonymous.get("/sign-in")
    assert page.status_code == 200
    assert page.text.count('class="choice"') <= 1
    assert "<b>x" not in page.text


@pytest.fixture
def domains(harness: AppHarness) -> Mapping[str, str]:
    found = {"acme": "acme.example", "globex": "globex.example"}
    for account, domain in found.items():
        email_domains.change(Operator("test", harness.services), account, [domain])
    return found


def test_response_does_not_tell_whether_a_domain_is_known(anonymous: HubBrowser, domains: Mapping[str, str]) -> None:
    """Compares everything but the random values, and the address that the client sent itself."""

    def seen(email: str) -> tuple[int, str, dict[str, list[str]], str]:
        anonymous.get("/sign-in")
        page = anonymous.post("/sign-in", {"account": email})
        url = urlsplit(redirect_target(page))
        query = parse_qs(url.query)
        assert query.pop("login_hint") == [email]
        for random in ("state", "nonce", "code_challenge"):
            query.pop(random)
        return page.status_code, f"{url.scheme}://{url.netloc}{url.path}", query, cookie_of(anonymous)

    assert seen("ada@acme.example") == seen("ada@unknown.example")


def test_sign_in_with_an_address_opens_the_only_account(hub: Hub, anonymous: HubBrowser) -> None:
    assert sign_in_with(anonymous, CHARLIE, "charlie@not-a-known-domain.example") == "/"
    assert account_of(hub, anonymous) == "globex"
    assert cookie_of(anonymous) == "globex"


def test_domain_chooses_among_several_accounts(
    hub: Hub, domains: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in, "organisations", lambda *_: [org_id("acme"), org_id("globex")])
    for account, domain in domains.items():
        browser = hub.browser()
        sign_in_with(browser, ALICE, f"Ada@{domain.upper()}")
        assert account_of(hub, browser) == account
    browser = hub.browser()
    assert sign_in_with(browser, ALICE, "ada@unknown.example") == "/accounts"
    assert account_of(hub, browser) is None


def test_domain_grants_no_access(hub: Hub, domains: Mapping[str, str]) -> None:
    browser = hub.browser()
    sign_in_with(browser, ALICE, "alice@globex.example")
    assert account_of(hub, browser) == "acme"


def test_operator_signs_in_with_an_address(hub: Hub, anonymous: HubBrowser) -> None:
    assert sign_in_with(anonymous, OLIVIA, "olivia@example.com") == "/console"
    assert account_of(hub, anonymous) == OPERATORS_ACCOUNT


def test_account_is_chosen_later_while_the_system_database_is_unavailable(
    hub: Hub, anonymous: HubBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: object) -> None:
        raise SystemDatabaseUnavailable("down")

    monkeypatch.setattr(sign_in.accounts, "of_organisations", unavailable)
    assert sign_in_with(anonymous, ALICE, ALICE.email) == "/accounts"


@pytest.mark.parametrize(
    "email", ["@acme.example", "ada@", "ada@acme", "ada@ acme.example", f"{'a' * 250}@acme.example"]
)
def test_invalid_address_shows_an_error(anonymous: HubBrowser, email: str) -> None:
    anonymous.get("/sign-in")
    page = anonymous.post("/sign-in", {"account": email})
    assert page.status_code == 400
    assert "Enter an e-mail address such as ada@acme.com, or an account" in page.text


def test_unknown_account_has_help(anonymous: HubBrowser) -> None:
    assert "know my account</summary>" in anonymous.get("/sign-in").text
