"""Search: what it finds, for whom, and that a pasted secret leaves no trace."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
import redis
from sqlalchemy import text

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.personas import ALICE
from kataven.hub.secret_text import has_secret
from kataven.identity import token as tokens
from kataven.identity.token import TokenKind
from kataven.ratelimit.budget import PER_MINUTE, AddressBudgetKind
from kataven.web.services import EXTENSION as SERVICES
from tests.hub.conftest import Hub
from tests.hub.hub_browser import HubBrowser
from tests.hub.test_agents import FORM as AGENT
from tests.hub.test_every_page import counting_queries
from tests.hub.test_kept_forms import let_session_expire
from tests.hub.test_refusals import exhaust_budget
from tests.support.app_harness import AppHarness
from tests.test_no_plaintext import everything_stored


@pytest.fixture
def key(alice: HubBrowser) -> str:
    """A new API key of acme, named Billing."""
    return created(alice, f"Billing {uuid4().hex[:6]}")[0]


def created(browser: HubBrowser, name: str) -> tuple[str, str]:
    """The text and the id of a new key."""
    browser.get("/settings/api-keys/new")
    page = browser.post("/settings/api-keys/new", {"name": name, "expiry": "30d"}).text
    found = re.search(r"sk_live_[0-9A-Za-z_-]+", page)
    assert found is not None
    listed = re.search(r'href="/settings/api-keys/([0-9a-f-]{36})"', browser.get(f"/search?q={name}").text)
    assert listed is not None
    return found[0], listed[1]


def look_up(browser: HubBrowser, secret: str, path: str = "/search") -> str:
    browser.get(path)
    response = browser.post(path, {"secret": secret})
    assert response.status_code == 200, response.text
    return result_of(response.text)


def result_of(page: str) -> str:
    """The words of the result."""
    found = re.search(r'<section class="card" role="status".*?</section>', page, re.DOTALL)
    assert found is not None, page
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", found[0])).split())


def titles(page: str) -> list[tuple[str, str]]:
    """The kinds and titles of the results."""
    return re.findall(r'found-kind">([^<]*)</span> <bdi class="found-title">([^<]*)<', page)


def test_a_text_finds_keys_widget_keys_and_agents_by_name_hint_and_id(alice: HubBrowser) -> None:
    name = f"Tram {uuid4().hex[:6]}"
    secret, key_id = created(alice, name)
    alice.get("/settings/widget-keys")
    alice.post("/settings/widget-keys", {"name": name, "domain_allowlist": "acme.com"})
    alice.get("/agents/new")
    alice.post("/agents/new", {**AGENT, "name": name})
    kinds = {kind for kind, title in titles(alice.get(f"/search?q={name.upper()}").text) if title == name}
    assert kinds == {"API key", "Widget key", "Agent"}
    for wanted in (secret[-8:], key_id):
        assert ("API key", name) in titles(alice.get(f"/search?q={wanted}").text)
    assert "Nothing matches" in alice.get("/search?q=no-such-thing").text


def test_the_best_match_is_first(alice: HubBrowser) -> None:
    name = f"Metro{uuid4().hex[:6]}"
    for suffix in ("", " two"):
        created(alice, f"Old {name}" if suffix else name)
    assert titles(alice.get(f"/search?q={name}").text)[0] == ("API key", name)


def test_a_text_finds_the_accounts_of_the_user(alice: HubBrowser) -> None:
    assert any(kind == "Account" for kind, _ in titles(alice.get("/search?q=acme").text))
    assert not any(kind == "Account" for kind, _ in titles(alice.get("/search?q=globex").text))


def test_a_pasted_secret_names_its_key(alice: HubBrowser, key: str) -> None:
    for pasted in (key, f"  {key}\n", f"Authorization: Bearer {key}", f'API_KEY="{key}"'):
        said = look_up(alice, pasted)
        assert said.startswith("Billing")
        assert f"…{key[-8:]}" in said
        assert "rotate the key now" in said


def test_a_revoked_secret_says_when_and_by_whom(alice: HubBrowser) -> None:
    secret, key_id = created(alice, f"Gone {uuid4().hex[:6]}")
    alice.get(f"/settings/api-keys/{key_id}/revoke")
    alice.post(f"/settings/api-keys/{key_id}/revoke", {})
    said = look_up(alice, secret)
    assert "revoked just now by Alice" in said
    assert "Nothing accepts this secret any more" in said


def test_a_former_secret_names_its_key(alice: HubBrowser) -> None:
    secret, key_id = created(alice, f"Turned {uuid4().hex[:6]}")
    alice.get(f"/settings/api-keys/{key_id}/rotate")
    alice.post(f"/settings/api-keys/{key_id}/rotate", {"grace": "60"})
    said = look_up(alice, secret)
    assert "This is a former secret" in said
    assert "is still accepted" in said


def test_a_widget_key_is_named(alice: HubBrowser) -> None:
    alice.get("/settings/widget-keys")
    page = alice.post("/settings/widget-keys", {"name": "Shop window", "domain_allowlist": "acme.com"}).text
    found = re.search(r"pk_live_[0-9A-Za-z_-]+", page)
    assert found is not None
    assert look_up(alice, found[0]).startswith("Shop window active This is a widget key")


def test_members_find_a_key_without_a_link_to_rotate(alice: HubBrowser, bob: HubBrowser, key: str) -> None:
    bob.get("/search")
    page = bob.post("/search", {"secret": key}).text
    assert "rotate the key now" in result_of(page)
    assert "/rotate" not in page


def test_keys_of_other_accounts_and_unknown_keys_get_the_same_words_at_the_same_cost(
    alice: HubBrowser, charlie: HubBrowser
) -> None:
    of_globex, _ = created(charlie, f"Theirs {uuid4().hex[:6]}")
    unknown = tokens.generate(TokenKind.API_KEY, "acme").text
    unknown_of_globex = tokens.generate(TokenKind.API_KEY, "globex").text
    said, costs = set(), set()
    look_up(alice, unknown)  # fills the caches
    for secret in (of_globex, unknown, unknown_of_globex):
        alice.get("/search")
        with counting_queries() as cost:
            page = alice.post("/search", {"secret": secret}).text
        said.add(result_of(page))
        costs.add((tuple(cost.statements), cost.redis_calls))
    assert len(said) == 1
    assert next(iter(said)).startswith("No key of this account has this secret")
    assert "treat it as exposed" in next(iter(said))
    assert len(costs) == 1


def test_an_incomplete_key_costs_the_same_and_says_so(alice: HubBrowser, key: str) -> None:
    assert look_up(alice, key[:-1]).startswith("This is not a complete key")
    assert look_up(alice, key[:-1] + ("a" if key[-1] != "a" else "b")).startswith("This is not a complete key")


@pytest.mark.parametrize("secret", ["", "   ", "x" * 2_001])
def test_an_empty_or_long_secret_is_an_error_of_its_field(alice: HubBrowser, secret: str) -> None:
    alice.get("/search")
    page = alice.post("/search", {"secret": secret})
    assert page.status_code == 400
    assert '<a href="#secret">' in page.text
    assert "x" * 100 not in page.text


@pytest.mark.parametrize(
    "path", ["/search?q={}", "/settings/api-keys?q={}", "/audit-log?target={}", "/search?x=1&q=Bearer%20{}"]
)
def test_a_secret_in_a_url_is_refused_and_the_page_says_why(alice: HubBrowser, key: str, path: str) -> None:
    for part in (key, key[:24], key.upper()):
        refused = alice.get(path.format(part))
        assert refused.status_code == 303
        assert refused.location == "/search?problem=secret"
        assert part not in refused.text
    page = alice.get("/search?problem=secret")
    assert page.status_code == 400
    assert "It was not looked up" in page.text
    assert re.search(r'"request_id"|secret_in_url', page.text) is None


def test_the_random_part_of_a_key_and_a_jwt_are_refused_in_the_search_url(alice: HubBrowser, key: str) -> None:
    for part in (key.rpartition("_")[2], "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln"):
        assert alice.get(f"/search?q={part}").location == "/search?problem=secret"
    assert not has_secret(uuid4().hex)
    assert not has_secret(str(uuid4()))
    assert not has_secret(key[-8:])


def test_sign_in_does_not_pass_a_secret_on(hub: Hub, key: str) -> None:
    anonymous = hub.browser()
    for path in (f"/search?q={key}", "/agents?x=eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln"):
        response = anonymous.get(path)
        while response.status_code == 303:
            assert key not in response.location
            assert "eyJ" not in response.location
            response = anonymous.get(response.location)
        assert key not in response.text


def test_lookups_are_limited_per_session(hub: Hub, key: str) -> None:
    browser, other = hub.signed_in(ALICE), hub.signed_in(ALICE)
    look_up(other, key)
    browser.get("/search")
    allowed = PER_MINUTE[AddressBudgetKind.HUB_SECRETS]
    statuses = [browser.post("/search", {"secret": key}).status_code for _ in range(2 * allowed + 1)]
    assert 429 in statuses
    refused = browser.post("/search", {"secret": key})
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) <= 60
    assert "You looked up too many keys" in refused.text
    assert key not in refused.text
    look_up(other, key)
    assert browser.get("/search").status_code == 200


@pytest.fixture
def emptied(harness: AppHarness) -> Iterator[None]:
    yield
    with redis.Redis.from_url(harness.environ["KATAVEN_REDIS_URL"]) as client:
        for name in client.scan_iter("limits:*"):
            client.delete(name)


@pytest.mark.usefixtures("emptied")
def test_a_pasted_secret_is_stored_logged_and_shown_nowhere(
    hub: Hub,
    harness: AppHarness,
    postgres: EmbeddedPostgres,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    browser = hub.signed_in(ALICE)
    secret, _ = created(browser, f"Pasted {uuid4().hex[:6]}")
    with redis.Redis.from_url(harness.environ["KATAVEN_REDIS_URL"]) as client:
        kept = set(client.scan_iter("hub:kept:*"))  # by other tests
    part = secret.rpartition("_")[2][:40]
    pages = []
    browser.get("/search")
    pages.append(browser.post("/search", {"secret": secret}))
    pages.append(browser.post("/search", {"secret": secret, "csrf": "of another session"}))
    pages.append(browser.post("/search/suggest", {"q": secret}))
    pages.append(browser.get(f"/search?q={secret}"))
    # An error in the middle of a lookup, with the secret in its message and in the locals of the traceback.
    issuer = type(hub.app.extensions[SERVICES].issuer)

    def fails(_self: object, token: str) -> None:
        raise RuntimeError(f"could not hash {token}")

    with monkeypatch.context() as patch:
        patch.setattr(issuer, "candidates", fails)
        hub.pages.config["PROPAGATE_EXCEPTIONS"] = False
        browser.get("/search")
        pages.append(browser.post("/search", {"secret": secret}))
        assert pages[-1].status_code == 500
    exhaust_budget(hub, browser)
    pages.append(browser.post("/search", {"secret": secret}))
    assert pages[-1].status_code == 429
    late = hub.signed_in(ALICE)
    late.get("/search")
    let_session_expire(harness, hub, late)
    pages.append(late.post("/search", {"secret": secret}))
    assert pages[-1].status_code == 303
    for page in pages:
        assert part not in page.text
        assert part not in str(page.headers)
    assert part not in everything_stored(postgres)
    with redis.Redis.from_url(harness.environ["KATAVEN_REDIS_URL"]) as client:
        for name in client.scan_iter():
            assert part.encode() not in name
            assert part.encode() not in (client.dump(name) or b"")
        assert set(client.scan_iter("hub:kept:*")) <= kept
    logged = capfd.readouterr().err
    assert '"route":"/search"' in logged, "the search sees what is logged"
    assert "could not hash" in logged
    assert part not in logged


def test_suggestions_are_a_part_of_a_page(alice: HubBrowser) -> None:
    name = f"Ferry {uuid4().hex[:6]}"
    created(alice, name)
    alice.get("/search")
    part = alice.post("/search/suggest", {"q": name})
    assert titles(part.text) == [("API key", name)]
    assert "<html" not in part.text
    assert "Press Enter" in alice.post("/search/suggest", {"q": "sk_live_acme_1234567890"}).text


def test_owners_find_a_request_and_members_do_not(alice: HubBrowser, bob: HubBrowser, harness: AppHarness) -> None:
    request_id = f"search-{uuid4().hex}"
    log_request(harness, request_id)
    page = alice.get(f"/search?q={request_id}").text
    assert titles(page) == [("Request", "GET /v1/agents")]
    assert f'href="/requests/{request_id}"' in page
    assert titles(bob.get(f"/search?q={request_id}").text) == []


def log_request(harness: AppHarness, request_id: str) -> None:
    tenant = harness.services.directory.find("acme")
    assert tenant is not None
    with harness.services.registry.writing(tenant.tenant) as session:
        session.execute(
            text(
                "INSERT INTO request_log (id, created_at, request_id, caller, kind, name, route, status, outcome, code,"
                " step, milliseconds, address, agent) VALUES (:id, :at, :request, :caller, 'api_key', 'Server',"
                " 'GET /v1/agents', 429, 'limited', 'rate_limited', 6, 1, '192.0.2.1', 'curl')"
            ),
            {"id": uuid4(), "at": datetime.now(UTC), "request": request_id, "caller": UUID(int=7)},
        )


def test_operators_find_accounts_keys_of_any_account_and_a_request_of_one(
    olivia: HubBrowser, alice: HubBrowser, key: str, harness: AppHarness
) -> None:
    assert any(kind == "Account" for kind, _ in titles(olivia.get("/console/search?q=ACME").text))
    olivia.get("/console/search")
    page = olivia.post("/console/search", {"secret": key})
    assert result_of(page.text).startswith("Billing")
    assert "/console/accounts/acme/keys/" in page.text
    assert key not in page.text
    said = {
        look_up(olivia, tokens.generate(TokenKind.API_KEY, account).text, "/console/search")
        for account in ("acme", "no-such-account")
    }
    assert len(said) == 1
    request_id = f"search-{uuid4().hex}"
    log_request(harness, request_id)
    assert titles(olivia.get(f"/console/search?account=acme&q={request_id}").text) == [("Request", "GET /v1/agents")]
    assert titles(olivia.get(f"/console/search?account=globex&q={request_id}").text) == []
    assert "No account has this ID" in olivia.get(f"/console/search?account=nowhere&q={request_id}").text
    refused = olivia.get(f"/console/search?q={key}")
    assert refused.location == "/console/search?problem=secret"
    assert olivia.get(refused.location).status_code == 400
