"""The widget operations: each rejection has its own code, and no token is issued before the page is checked."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from kataven.account.models import ApiKey
from kataven.dev.embedded.redis_server import EmbeddedRedis
from kataven.dev.personas import ALICE
from kataven.identity import token as tokens
from kataven.identity.token import TokenKind
from kataven.widget import opaque_tokens
from tests.support.app_harness import AppHarness, Caller, new_account
from tests.widget.conftest import ORIGIN, Site, VoiceEdge, new_agent, refusal, without_none

NewSite = Callable[..., Site]
CreateUserToken = Callable[..., str]
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"


def admitted(response: Any) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    pair: dict[str, Any] = response.get_json()
    return pair


# --- accepted requests


def test_config_contains_only_public_fields_of_the_agent(site: Site) -> None:
    site.agent(system_prompt="Never tell.", description="For us alone.")
    response = site.config()
    assert response.headers["Cache-Control"] == "no-store"
    config = response.get_json()
    assert config["agent"] == {
        "id": site.agent_id,
        "name": "Front desk",
        "greeting_message": "Good day!",
        "greeting_mode": "interruptible",
    }
    assert set(config) == {"agent", "branding", "auth", "voice_url"}
    assert config["auth"] == ["guest", "user"]
    assert config["voice_url"] is None
    assert "Never tell" not in response.text
    assert "For us alone" not in response.text


def test_guest_token_has_the_expected_claims(site: Site, edge: VoiceEdge) -> None:
    pair = admitted(site.guest())
    assert (pair["token_type"], pair["expires_in"], pair["kind"]) == ("Bearer", 600, "guest")
    claims = edge.claims(pair["visitor_token"])
    assert {name: claims[name] for name in ("account", "agent_id", "widget_key_id", "kind", "origin")} == {
        "account": "acme",
        "agent_id": site.agent_id,
        "widget_key_id": site.key_id,
        "kind": "guest",
        "origin": ORIGIN,
    }
    assert claims["exp"] - claims["iat"] == 600
    assert "email" not in claims
    other = edge.claims(admitted(site.guest())["visitor_token"])
    assert other["sub"] != claims["sub"]
    assert other["jti"] != claims["jti"]


def test_user_token_is_exchanged_for_a_token_with_the_users_claims(
    site: Site, create_user_token: CreateUserToken, edge: VoiceEdge
) -> None:
    pair = admitted(site.exchange(create_user_token(display_name="Uma", email="uma@acme.example")))
    claims = edge.claims(pair["visitor_token"])
    assert (claims["kind"], claims["sub"], claims["name"], claims["email"]) == (
        "user",
        "u-17",
        "Uma",
        "uma@acme.example",
    )
    again = edge.claims(admitted(site.refresh(pair["refresh_token"]))["visitor_token"])
    assert {**again, "iat": 0, "exp": 0, "jti": ""} == {**claims, "iat": 0, "exp": 0, "jti": ""}


def test_refresh_extends_the_session(site: Site, edge: VoiceEdge) -> None:
    pair = admitted(site.guest())
    first = edge.claims(pair["visitor_token"])
    for _ in range(3):
        pair = admitted(site.refresh(pair["refresh_token"]))
        assert edge.claims(pair["visitor_token"])["sub"] == first["sub"]


def test_referer_is_used_if_origin_is_missing(site: Site) -> None:
    elsewhere = site.at(None)
    query = {"client_key": site.key, "agent_id": site.agent_id}
    for referer, status in ((f"{ORIGIN}/shop?x=1", 200), ("https://evil.example/www.acme.com", 403)):
        response = site.harness.caller(Referer=referer).get("/v1/widget/config", query_string=query)
        assert response.status_code == status
    assert refusal(elsewhere.config()) == (403, "origin_refused")


def test_pinned_key_needs_no_agent_and_rejects_others(new_site: NewSite, alice: Caller, edge: VoiceEdge) -> None:
    site = new_site(alice, pinned=True)
    pair = admitted(site.guest(agent_id=None))
    assert edge.claims(pair["visitor_token"])["agent_id"] == pair["agent_id"] == site.agent_id
    assert site.guest().status_code == 200
    other = new_agent(alice)
    for response in (site.config(agent_id=other), site.guest(agent_id=other)):
        assert refusal(response) == (403, "wrong_agent")


@pytest.mark.parametrize(
    ("domains", "origin"),
    [
        (("*.acme.com",), "https://a.b.acme.com"),
        (("https://acme.com:8443",), "https://acme.com:8443"),
        (("localhost:*",), "http://localhost:5173"),
        (("b\u00fccher.example",), "https://xn--bcher-kva.example"),
    ],
    ids=["wildcard", "port", "loopback", "punycode"],
)
def test_every_kind_of_allowlist_entry_admits_its_pages(
    new_site: NewSite, alice: Caller, domains: tuple[str, ...], origin: str
) -> None:
    assert new_site(alice, domains=domains).at(origin).guest().status_code == 200


# --- rejected requests, each with its own code


OPERATIONS: dict[str, Callable[[Site, CreateUserToken], Any]] = {
    "config": lambda site, create_user_token: site.config(),
    "guest": lambda site, create_user_token: site.guest(),
    "exchange": lambda site, create_user_token: site.exchange(create_user_token()),
}
EVERY_OPERATION = pytest.mark.parametrize("operation", OPERATIONS)


@EVERY_OPERATION
@pytest.mark.parametrize(
    "origin",
    [
        *("https://evil.example", "https://www.acme.com.evil.example", "https://www.acme.com@evil.example"),
        *("http://www.acme.com", "https://acme.com", "https://www.acme.com:8443", "null", ""),
    ],
)
def test_unlisted_page_is_rejected(site: Site, create_user_token: CreateUserToken, operation: str, origin: str) -> None:
    assert refusal(OPERATIONS[operation](site.at(origin), create_user_token)) == (403, "origin_refused")


@EVERY_OPERATION
def test_empty_allowlist_rejects_all_pages(
    new_site: NewSite, alice: Caller, create_user_token: CreateUserToken, operation: str
) -> None:
    response = OPERATIONS[operation](new_site(alice, domains=()), create_user_token)
    assert refusal(response) == (403, "origin_refused")
    assert "domain_allowlist is empty" in response.get_json()["detail"]


@EVERY_OPERATION
def test_disabled_key_is_rejected(site: Site, create_user_token: CreateUserToken, operation: str) -> None:
    site.change(disabled=True)
    assert refusal(OPERATIONS[operation](site, create_user_token)) == (403, "widget_key_disabled")


@EVERY_OPERATION
def test_removed_key_is_rejected(site: Site, create_user_token: CreateUserToken, operation: str) -> None:
    assert site.owner.delete(f"/v1/widget-keys/{site.key_id}").status_code == 200
    assert refusal(OPERATIONS[operation](site, create_user_token)) == (403, "unknown_widget_key")


@EVERY_OPERATION
@pytest.mark.parametrize("status", ["draft", "paused", "archived"])
def test_inactive_agent_is_rejected(
    site: Site, create_user_token: CreateUserToken, operation: str, status: str
) -> None:
    site.agent(status=status)
    response = OPERATIONS[operation](site, create_user_token)
    assert refusal(response) == (403, "agent_not_active")
    assert status in response.get_json()["detail"]


@EVERY_OPERATION
def test_disabled_widget_is_rejected(site: Site, create_user_token: CreateUserToken, operation: str) -> None:
    site.agent_widget(widget_enabled=False)
    assert refusal(OPERATIONS[operation](site, create_user_token)) == (403, "widget_off")


@EVERY_OPERATION
def test_deleted_agent_is_rejected(site: Site, create_user_token: CreateUserToken, operation: str) -> None:
    assert site.owner.delete(f"/v1/agents/{site.agent_id}").status_code == 204
    assert refusal(OPERATIONS[operation](site, create_user_token)) == (404, "unknown_agent")


def test_key_that_is_pinned_to_a_deleted_agent_serves_no_page(new_site: NewSite, alice: Caller) -> None:
    site = new_site(alice, pinned=True)
    alice.delete(f"/v1/agents/{site.agent_id}")
    assert refusal(site.guest(agent_id=None)) == (404, "unknown_agent")
    assert refusal(site.guest(agent_id=new_agent(alice))) == (403, "wrong_agent")


def test_missing_agent_is_rejected(site: Site) -> None:
    for response in (site.config(agent_id=None), site.guest(agent_id=None)):
        assert refusal(response) == (400, "agent_missing")


def test_agent_of_another_account_is_rejected(site: Site, charlie: Caller) -> None:
    assert refusal(site.guest(agent_id=new_agent(charlie))) == (404, "unknown_agent")


def test_disallowed_visitor_type_is_rejected(site: Site, create_user_token: CreateUserToken) -> None:
    site.agent_widget(auth_mode="user")
    assert refusal(site.guest()) == (403, "visitor_kind_forbidden")
    assert site.config().get_json()["auth"] == ["user"]
    site.agent_widget(auth_mode="guest")
    token = create_user_token()
    assert refusal(site.exchange(token)) == (403, "visitor_kind_forbidden")
    site.agent_widget(auth_mode="both")
    assert site.exchange(token).status_code == 200, "a rejected request does not use the token"


def test_unknown_keys_are_rejected(site: Site) -> None:
    for account in ("acme", "no-such-account", "kataven-admin"):
        unknown = tokens.generate(TokenKind.WIDGET_KEY, account).text
        assert refusal(site.guest(client_key=unknown)) == (403, "unknown_widget_key")


@pytest.mark.parametrize("operation", ["config", "guest"])
def test_suspended_account_is_rejected(harness: AppHarness, new_site: NewSite, operation: str) -> None:
    account = f"closed-{operation}"
    new_account(harness.services, account)
    site = new_site(harness.bearer(harness.new_key(account)))
    pair = admitted(site.guest())
    suspended = harness.app.test_cli_runner().invoke(args=["accounts", "suspend", account])
    assert suspended.exit_code == 0
    assert refusal(site.config() if operation == "config" else site.guest()) == (403, "account_suspended")
    assert refusal(site.refresh(pair["refresh_token"])) == (403, "account_suspended")


# --- malformed input needs no lookup and names the fix


@pytest.mark.parametrize(
    ("client_key", "says"),
    [
        (lambda key: key[:-1], "must be a widget key"),
        (lambda key: key[:-1] + ("0" if key[-1] != "0" else "1"), "must be a widget key"),
        (lambda key: "pk_live_x", "must be a widget key"),
        (lambda key: key + "\n", "must be a widget key"),
        (lambda key: tokens.generate(TokenKind.API_KEY, "acme").text, "remove this one from the page and revoke it"),
    ],
    ids=["cut", "mistyped", "short", "newline", "secret"],
)
def test_malformed_client_key_is_rejected_without_lookup(
    site: Site, monkeypatch: pytest.MonkeyPatch, client_key: Callable[[str], str], says: str
) -> None:
    def lookup(*_: Any, **__: Any) -> Any:
        raise AssertionError("malformed input was looked up")

    services = site.harness.services
    for owner, name in (
        # Invalid requests are counted in memory; these are the windows in Redis.
        *((services.limiter.windows, "take"), (services.directory, "find"), (services.registry, "reading")),
        (services.widget.store, "run"),
    ):
        monkeypatch.setattr(owner, name, lookup)
    shown = client_key(site.key)
    for response in (site.config(client_key=shown), site.guest(client_key=shown)):
        assert refusal(response) == (400, "invalid_request")
        [error] = response.get_json()["errors"]
        assert error["field"] == "client_key"
        assert says in error["message"]
        assert shown not in response.text or len(shown) < 20
    for body, field in (
        ({"client_key": site.key, "user_token": "ut_x"}, "user_token"),
        ({"client_key": site.key, "user_token": opaque_tokens.new_user_token()[:-1]}, "user_token"),
    ):
        response = site.harness.caller(Origin=ORIGIN).post("/v1/widget/auth/exchange", body)
        assert [error["field"] for error in response.get_json()["errors"]] == [field]
    response = site.refresh(opaque_tokens.new_refresh_token(opaque_tokens.new_secret())[:-1])
    assert [error["field"] for error in response.get_json()["errors"]] == ["refresh_token"]


# --- user tokens


def test_only_an_api_key_can_create_a_user_token(harness: AppHarness, site: Site, alice: Caller) -> None:
    path, body = "/v1/widget/auth/user-token", {"external_user_id": "u-17"}
    assert refusal(alice.post(path, body)) == (403, "forbidden")
    assert refusal(harness.caller().post(path, body)) == (401, "missing_credential")
    assert refusal(harness.bearer(site.key).post(path, body)) == (401, "not_a_credential")


@pytest.mark.parametrize(
    "user",
    [
        {"external_user_id": ""},
        {"external_user_id": "x" * 201},
        {"external_user_id": 17},
        {"external_user_id": "u", "email": "nobody"},
        {"external_user_id": "u", "display_name": "a\nb"},
        {"external_user_id": "u", "role": "admin"},
    ],
    ids=range(6),
)
def test_invalid_user_is_rejected(acme_key: Caller, user: dict[str, Any]) -> None:
    assert refusal(acme_key.post("/v1/widget/auth/user-token", user)) == (400, "invalid_request")


def test_user_token_is_valid_once(site: Site, create_user_token: CreateUserToken) -> None:
    token = create_user_token()
    assert site.exchange(token).status_code == 200
    for _ in range(2):
        assert refusal(site.exchange(token)) == (403, "user_token_used")


def test_stolen_user_token_is_rejected_on_another_page_and_remains_valid(
    site: Site, create_user_token: CreateUserToken
) -> None:
    token = create_user_token()
    for thief in ("https://evil.example", "https://www.acme.com.evil.example", "null", None):
        assert refusal(site.at(thief).exchange(token)) == (403, "origin_refused")
    assert site.exchange(token).status_code == 200


def test_user_token_with_another_accounts_widget_key_is_rejected(
    harness: AppHarness, site: Site, new_site: NewSite, charlie: Caller, create_user_token: CreateUserToken
) -> None:
    token = create_user_token()
    globex = new_site(charlie)
    assert refusal(globex.exchange(token)) == (403, "user_token_of_another_account")
    assert site.exchange(token).status_code == 200


def test_unknown_user_token_is_rejected(
    site: Site, create_user_token: CreateUserToken, shared_redis: EmbeddedRedis
) -> None:
    assert refusal(site.exchange(opaque_tokens.new_user_token())) == (403, "user_token_unknown")
    token = create_user_token()
    with redis.Redis.from_url(shared_redis.url) as client:
        client.delete(f"kataven:widget:user-token:{opaque_tokens.digest(token)}")
    assert refusal(site.exchange(token)) == (403, "user_token_unknown")


# --- the end of a session


def test_reused_refresh_token_ends_the_family(site: Site) -> None:
    first = admitted(site.guest())["refresh_token"]
    second = admitted(site.refresh(first))["refresh_token"]
    third = admitted(site.refresh(second))["refresh_token"]
    assert refusal(site.refresh(first)) == (403, "refresh_token_reused")
    for token in (third, second, first):
        assert refusal(site.refresh(token)) == (403, "refresh_token_reused")


def test_stolen_refresh_token_is_rejected_on_another_page(site: Site) -> None:
    site.change(domain_allowlist=["www.acme.com", "shop.acme.com"])
    pair = admitted(site.guest())
    for thief in ("https://evil.example", "https://shop.acme.com", None):
        assert refusal(site.at(thief).refresh(pair["refresh_token"])) == (403, "origin_refused")
    assert site.refresh(pair["refresh_token"]).status_code == 200


def test_reused_refresh_token_ends_the_family_from_any_page(site: Site) -> None:
    first = admitted(site.guest())["refresh_token"]
    second = admitted(site.refresh(first))["refresh_token"]
    assert refusal(site.at("https://evil.example").refresh(first)) == (403, "refresh_token_reused")
    assert refusal(site.refresh(second)) == (403, "refresh_token_reused")


def test_ending_a_session_does_not_affect_others(site: Site) -> None:
    mine, other = admitted(site.guest())["refresh_token"], admitted(site.guest())["refresh_token"]
    site.refresh(mine)
    site.refresh(mine)
    assert site.refresh(other).status_code == 200


def test_unknown_refresh_token_is_rejected(site: Site, shared_redis: EmbeddedRedis) -> None:
    unknown = opaque_tokens.new_refresh_token(opaque_tokens.new_secret())
    assert refusal(site.refresh(unknown)) == (403, "refresh_token_unknown")
    token = admitted(site.guest())["refresh_token"]
    session_name = opaque_tokens.session_name(token)
    assert session_name is not None
    with redis.Redis.from_url(shared_redis.url) as client:
        assert client.delete(f"kataven:widget:visit:{opaque_tokens.digest(session_name)}") == 1
    assert refusal(site.refresh(token)) == (403, "refresh_token_unknown")


ENDINGS: dict[str, tuple[Callable[[Site], Any], str]] = {
    "key disabled": (lambda site: site.change(disabled=True), "widget_key_disabled"),
    "key disabled and enabled": (
        lambda site: (site.change(disabled=True), site.change(disabled=False)),
        "widget_key_disabled",
    ),
    "key removed": (lambda site: site.owner.delete(f"/v1/widget-keys/{site.key_id}"), "unknown_widget_key"),
    "domain taken off": (lambda site: site.change(domain_allowlist=["shop.acme.com"]), "origin_refused"),
    "list emptied": (lambda site: site.change(domain_allowlist=[]), "origin_refused"),
    "pinned elsewhere": (lambda site: site.change(agent_id=new_agent(site.owner)), "wrong_agent"),
    "agent paused": (lambda site: site.agent(status="paused"), "agent_not_active"),
    "agent deleted": (lambda site: site.owner.delete(f"/v1/agents/{site.agent_id}"), "unknown_agent"),
    "widget off": (lambda site: site.agent_widget(widget_enabled=False), "widget_off"),
    "visitor type disallowed": (lambda site: site.agent_widget(auth_mode="user"), "visitor_kind_forbidden"),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_refresh_checks_all_conditions_again(site: Site, ending: str) -> None:
    end, code = ENDINGS[ending]
    pair = admitted(site.refresh(admitted(site.guest())["refresh_token"]))
    end(site)
    assert refusal(site.refresh(pair["refresh_token"])) == (404 if code == "unknown_agent" else 403, code)


ENDINGS_OF_A_CREATING_KEY = {
    "revoked": {"disabled": True},
    "paused": {"paused": True},
    "not yet valid": {"not_before": (datetime.now(UTC) + timedelta(days=7)).isoformat()},
    "without the scope": {"scopes": ["agents:read"]},
}


@pytest.mark.parametrize("ending", [*ENDINGS_OF_A_CREATING_KEY, "removed", "expired"])
def test_revoking_the_creating_key_ends_its_user_tokens_and_sessions(
    harness: AppHarness, alice: Caller, site: Site, create_user_token: CreateUserToken, ending: str
) -> None:
    created = alice.post("/v1/api-keys", {"name": "CreateUserTokenes", "expiry": "30d"}).get_json()
    server, path = harness.bearer(created["key"]), f"/v1/api-keys/{created['id']}"
    unused = create_user_token(server)
    pair = admitted(site.exchange(create_user_token(server)))
    assert site.refresh(pair["refresh_token"]).status_code == 200
    pair = admitted(site.exchange(create_user_token(server)))
    if ending == "expired":
        _expire(harness, created["id"])
    else:
        change = ENDINGS_OF_A_CREATING_KEY.get(ending)
        ended = alice.delete(path) if change is None else alice.patch(path, change)
        assert ended.get_json()["receipt"]["acknowledged"] == 1
    assert refusal(site.exchange(unused)) == (403, "minting_key_ended")
    assert refusal(site.refresh(pair["refresh_token"])) == (403, "minting_key_ended")


def _expire(harness: AppHarness, key_id: str) -> None:
    record = harness.services.directory.read("acme")
    assert record is not None
    with harness.services.registry.writing(record.tenant) as session:
        session.get_one(ApiKey, key_id).expires_at = datetime.now(UTC)


def test_guest_session_does_not_depend_on_an_api_key(harness: AppHarness, alice: Caller, site: Site) -> None:
    pair = admitted(site.guest())
    created = alice.post("/v1/api-keys", {"name": "Bystander", "expiry": "30d"}).get_json()
    alice.patch(f"/v1/api-keys/{created['id']}", {"disabled": True})
    assert site.refresh(pair["refresh_token"]).status_code == 200


# --- isolation and storage


def test_accounts_are_isolated(
    harness: AppHarness, site: Site, new_site: NewSite, charlie: Caller, edge: VoiceEdge
) -> None:
    globex = new_site(charlie)
    assert edge.claims(admitted(globex.guest())["visitor_token"])["account"] == "globex"
    assert edge.claims(admitted(site.guest())["visitor_token"])["account"] == "acme"
    assert refusal(globex.guest(client_key=site.key)) == (404, "unknown_agent")
    forged = site.key.replace("pk_live_acme_", "pk_live_globex_")
    forged = forged[:-6] + tokens.checksum(forged[:-6])
    assert refusal(globex.guest(client_key=forged)) == (403, "unknown_widget_key")


def test_tokens_are_neither_stored_nor_logged(
    harness: AppHarness,
    site: Site,
    create_user_token: CreateUserToken,
    shared_redis: EmbeddedRedis,
    capfd: pytest.CaptureFixture[str],
) -> None:
    user_token = create_user_token()
    first = admitted(site.exchange(user_token))
    second = admitted(site.refresh(first["refresh_token"]))
    unused = create_user_token()
    secrets = [part[:40] for token in (user_token, unused) for part in [token.removeprefix("ut_")]]
    for pair in (first, second):
        secrets += [part[:40] for part in pair["refresh_token"].removeprefix("rt_").split("_")]
        secrets.append(pair["visitor_token"].rpartition(".")[2])
    with redis.Redis.from_url(shared_redis.url) as client:
        stored = b"".join(name + (client.dump(name) or b"") for name in client.scan_iter())
    assert b"kataven:widget:visit:" in stored, "the search covers stored values"
    logged = capfd.readouterr().err
    assert '"route":"/v1/widget/auth/refresh","status":200,"account":"acme"' in logged, "the search covers the log"
    for secret in secrets:
        assert secret.encode() not in stored
        assert secret not in logged


def test_jwt_does_not_bypass_the_allowlist(harness: AppHarness, site: Site) -> None:
    token = harness.issuer.token(ALICE)
    response = harness.bearer(token, "acme").post(
        "/v1/widget/auth/guest", without_none({"client_key": site.key}), headers={"Origin": "https://evil.example"}
    )
    assert refusal(response) == (403, "origin_refused")


def test_published_keys_contain_no_private_fields(harness: AppHarness) -> None:
    response = harness.caller().get("/v1/widget/jwks.json")
    assert re.fullmatch(r"public, max-age=\d+", response.headers["Cache-Control"])
    for key in response.get_json()["keys"]:
        assert set(key) == {"kid", "kty", "crv", "x", "y", "alg", "use"}
