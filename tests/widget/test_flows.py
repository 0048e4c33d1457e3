"""Who is let in, and who is not: each refusal by its own code, and nothing minted before the page is known."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
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
Vouch = Callable[..., str]
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"


def admitted(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    pair: dict[str, Any] = answer.get_json()
    return pair


# --- what is let in


def test_the_config_shows_the_public_face_and_nothing_more(site: Site) -> None:
    site.agent(system_prompt="Never tell.", description="For us alone.")
    answer = site.config()
    assert answer.headers["Cache-Control"] == "no-store"
    config = answer.get_json()
    assert config["agent"] == {
        "id": site.agent_id,
        "name": "Front desk",
        "greeting_message": "Good day!",
        "greeting_mode": "interruptible",
    }
    assert set(config) == {"agent", "branding", "auth", "voice_url"}
    assert config["auth"] == ["guest", "user"]
    assert config["voice_url"] is None
    assert "Never tell" not in answer.text
    assert "For us alone" not in answer.text


def test_a_guest_gets_a_token_that_says_who_and_where(site: Site, edge: VoiceEdge) -> None:
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


def test_a_user_comes_in_by_the_word_of_the_customers_server(site: Site, vouch: Vouch, edge: VoiceEdge) -> None:
    pair = admitted(site.exchange(vouch(display_name="Uma", email="uma@acme.example")))
    claims = edge.claims(pair["visitor_token"])
    assert (claims["kind"], claims["sub"], claims["name"], claims["email"]) == (
        "user",
        "u-17",
        "Uma",
        "uma@acme.example",
    )
    again = edge.claims(admitted(site.refresh(pair["refresh_token"]))["visitor_token"])
    assert {**again, "iat": 0, "exp": 0, "jti": ""} == {**claims, "iat": 0, "exp": 0, "jti": ""}


def test_a_visit_goes_on_by_refreshing(site: Site, edge: VoiceEdge) -> None:
    pair = admitted(site.guest())
    first = edge.claims(pair["visitor_token"])
    for _ in range(3):
        pair = admitted(site.refresh(pair["refresh_token"]))
        assert edge.claims(pair["visitor_token"])["sub"] == first["sub"]


def test_a_referer_will_do_where_there_is_no_origin(site: Site) -> None:
    elsewhere = site.at(None)
    query = {"client_key": site.key, "agent_id": site.agent_id}
    for referer, status in ((f"{ORIGIN}/shop?x=1", 200), ("https://evil.example/www.acme.com", 403)):
        answer = site.harness.anybody(Referer=referer).get("/v1/widget/config", query_string=query)
        assert answer.status_code == status
    assert refusal(elsewhere.config()) == (403, "origin_refused")


def test_a_pinned_key_needs_no_agent_and_takes_no_other(new_site: NewSite, alice: Caller, edge: VoiceEdge) -> None:
    site = new_site(alice, pinned=True)
    pair = admitted(site.guest(agent_id=None))
    assert edge.claims(pair["visitor_token"])["agent_id"] == pair["agent_id"] == site.agent_id
    assert site.guest().status_code == 200
    other = new_agent(alice)
    for answer in (site.config(agent_id=other), site.guest(agent_id=other)):
        assert refusal(answer) == (403, "wrong_agent")


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
def test_every_kind_of_entry_lets_its_pages_in(
    new_site: NewSite, alice: Caller, domains: tuple[str, ...], origin: str
) -> None:
    assert new_site(alice, domains=domains).at(origin).guest().status_code == 200


# --- what is not, each by its own code


ASKED: dict[str, Callable[[Site, Vouch], Any]] = {
    "config": lambda site, vouch: site.config(),
    "guest": lambda site, vouch: site.guest(),
    "exchange": lambda site, vouch: site.exchange(vouch()),
}
EVERY_WAY_IN = pytest.mark.parametrize("asked", ASKED)


@EVERY_WAY_IN
@pytest.mark.parametrize(
    "origin",
    [
        *("https://evil.example", "https://www.acme.com.evil.example", "https://www.acme.com@evil.example"),
        *("http://www.acme.com", "https://acme.com", "https://www.acme.com:8443", "null", ""),
    ],
)
def test_a_page_that_is_not_listed(site: Site, vouch: Vouch, asked: str, origin: str) -> None:
    assert refusal(ASKED[asked](site.at(origin), vouch)) == (403, "origin_refused")


@EVERY_WAY_IN
def test_an_empty_list_blocks_the_key(new_site: NewSite, alice: Caller, vouch: Vouch, asked: str) -> None:
    answer = ASKED[asked](new_site(alice, domains=()), vouch)
    assert refusal(answer) == (403, "origin_refused")
    assert "lists no domains" in answer.get_json()["detail"]


@EVERY_WAY_IN
def test_a_disabled_key(site: Site, vouch: Vouch, asked: str) -> None:
    site.change(disabled=True)
    assert refusal(ASKED[asked](site, vouch)) == (403, "widget_key_disabled")


@EVERY_WAY_IN
def test_a_removed_key(site: Site, vouch: Vouch, asked: str) -> None:
    assert site.owner.delete(f"/v1/widget-keys/{site.key_id}").status_code == 200
    assert refusal(ASKED[asked](site, vouch)) == (403, "unknown_widget_key")


@EVERY_WAY_IN
@pytest.mark.parametrize("status", ["draft", "paused", "archived"])
def test_an_agent_that_is_not_active(site: Site, vouch: Vouch, asked: str, status: str) -> None:
    site.agent(status=status)
    answer = ASKED[asked](site, vouch)
    assert refusal(answer) == (403, "agent_not_active")
    assert status in answer.get_json()["detail"]


@EVERY_WAY_IN
def test_a_widget_that_is_off(site: Site, vouch: Vouch, asked: str) -> None:
    site.agent_widget(widget_enabled=False)
    assert refusal(ASKED[asked](site, vouch)) == (403, "widget_off")


@EVERY_WAY_IN
def test_an_agent_that_was_deleted(site: Site, vouch: Vouch, asked: str) -> None:
    assert site.owner.delete(f"/v1/agents/{site.agent_id}").status_code == 204
    assert refusal(ASKED[asked](site, vouch)) == (404, "unknown_agent")


def test_a_key_that_is_pinned_to_a_deleted_agent_serves_nothing(new_site: NewSite, alice: Caller) -> None:
    site = new_site(alice, pinned=True)
    alice.delete(f"/v1/agents/{site.agent_id}")
    assert refusal(site.guest(agent_id=None)) == (404, "unknown_agent")
    assert refusal(site.guest(agent_id=new_agent(alice))) == (403, "wrong_agent")


def test_no_agent_where_one_has_to_be_named(site: Site) -> None:
    for answer in (site.config(agent_id=None), site.guest(agent_id=None)):
        assert refusal(answer) == (400, "agent_missing")


def test_another_accounts_agent(site: Site, charlie: Caller) -> None:
    assert refusal(site.guest(agent_id=new_agent(charlie))) == (404, "unknown_agent")


def test_a_kind_of_visitor_that_the_agent_does_not_take(site: Site, vouch: Vouch) -> None:
    site.agent_widget(auth_mode="user")
    assert refusal(site.guest()) == (403, "visitor_kind_forbidden")
    assert site.config().get_json()["auth"] == ["user"]
    site.agent_widget(auth_mode="guest")
    token = vouch()
    assert refusal(site.exchange(token)) == (403, "visitor_kind_forbidden")
    site.agent_widget(auth_mode="both")
    assert site.exchange(token).status_code == 200, "what was refused before did not use the token up"


def test_keys_that_nobody_made(site: Site) -> None:
    for account in ("acme", "no-such-account", "kataven-admin"):
        unknown = tokens.generate(TokenKind.WIDGET_KEY, account).text
        assert refusal(site.guest(client_key=unknown)) == (403, "unknown_widget_key")


@pytest.mark.parametrize("asked", ["config", "guest"])
def test_a_suspended_account(harness: AppHarness, new_site: NewSite, asked: str) -> None:
    account = f"closed-{asked}"
    new_account(harness.services, account)
    site = new_site(harness.bearer(harness.new_key(account)))
    pair = admitted(site.guest())
    suspended = harness.app.test_cli_runner().invoke(args=["accounts", "suspend", account])
    assert suspended.exit_code == 0
    assert refusal(site.config() if asked == "config" else site.guest()) == (403, "account_suspended")
    assert refusal(site.refresh(pair["refresh_token"])) == (403, "account_suspended")


# --- what is malformed costs no look-up, and says what to do


@pytest.mark.parametrize(
    ("client_key", "says"),
    [
        (lambda key: key[:-1], "no widget key"),
        (lambda key: key[:-1] + ("0" if key[-1] != "0" else "1"), "no widget key"),
        (lambda key: "pk_live_x", "no widget key"),
        (lambda key: key + "\n", "no widget key"),
        (lambda key: tokens.generate(TokenKind.API_KEY, "acme").text, "take it out of the page and revoke it"),
    ],
    ids=["cut", "mistyped", "short", "newline", "secret"],
)
def test_a_client_key_of_the_wrong_shape(
    site: Site, monkeypatch: pytest.MonkeyPatch, client_key: Callable[[str], str], says: str
) -> None:
    def asked(*_: Any, **__: Any) -> Any:
        raise AssertionError("junk was looked up")

    services = site.harness.services
    for owner, name in (
        # Refused input is counted in memory; these are the windows in Redis.
        *((services.limiter.windows, "take"), (services.directory, "find"), (services.registry, "reading")),
        (services.widget.store, "run"),
    ):
        monkeypatch.setattr(owner, name, asked)
    shown = client_key(site.key)
    for answer in (site.config(client_key=shown), site.guest(client_key=shown)):
        assert refusal(answer) == (400, "invalid_request")
        [error] = answer.get_json()["errors"]
        assert error["field"] == "client_key"
        assert says in error["message"]
        assert shown not in answer.text or len(shown) < 20
    for body, field in (
        ({"client_key": site.key, "user_token": "ut_x"}, "user_token"),
        ({"client_key": site.key, "user_token": opaque_tokens.new_user_token()[:-1]}, "user_token"),
    ):
        answer = site.harness.anybody(Origin=ORIGIN).post("/v1/widget/auth/exchange", body)
        assert [error["field"] for error in answer.get_json()["errors"]] == [field]
    answer = site.refresh(opaque_tokens.new_refresh_token(opaque_tokens.new_name())[:-1])
    assert [error["field"] for error in answer.get_json()["errors"]] == ["refresh_token"]


# --- user tokens


def test_only_an_api_key_vouches(harness: AppHarness, site: Site, alice: Caller) -> None:
    path, body = "/v1/widget/auth/user-token", {"external_user_id": "u-17"}
    assert refusal(alice.post(path, body)) == (403, "forbidden")
    assert refusal(harness.anybody().post(path, body)) == (401, "missing_credential")
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
def test_a_user_that_does_not_fit(acme_key: Caller, user: dict[str, Any]) -> None:
    assert refusal(acme_key.post("/v1/widget/auth/user-token", user)) == (400, "invalid_request")


def test_a_user_token_is_good_once(site: Site, vouch: Vouch) -> None:
    token = vouch()
    assert site.exchange(token).status_code == 200
    for _ in range(2):
        assert refusal(site.exchange(token)) == (403, "user_token_used")


def test_a_stolen_user_token_is_refused_on_another_page_and_stays_good_on_its_own(site: Site, vouch: Vouch) -> None:
    token = vouch()
    for thief in ("https://evil.example", "https://www.acme.com.evil.example", "null", None):
        assert refusal(site.at(thief).exchange(token)) == (403, "origin_refused")
    assert site.exchange(token).status_code == 200


def test_a_user_token_shown_with_another_accounts_key(
    harness: AppHarness, site: Site, new_site: NewSite, charlie: Caller, vouch: Vouch
) -> None:
    token = vouch()
    globex = new_site(charlie)
    assert refusal(globex.exchange(token)) == (403, "user_token_of_another_account")
    assert site.exchange(token).status_code == 200


def test_a_user_token_that_nobody_issued_or_that_redis_forgot(
    site: Site, vouch: Vouch, shared_redis: EmbeddedRedis
) -> None:
    assert refusal(site.exchange(opaque_tokens.new_user_token())) == (403, "user_token_unknown")
    token = vouch()
    with redis.Redis.from_url(shared_redis.url) as client:
        client.delete(f"kataven:widget:user-token:{opaque_tokens.digest(token)}")
    assert refusal(site.exchange(token)) == (403, "user_token_unknown")


# --- what ends a visit


def test_a_refresh_token_used_twice_ends_the_whole_family(site: Site) -> None:
    first = admitted(site.guest())["refresh_token"]
    second = admitted(site.refresh(first))["refresh_token"]
    third = admitted(site.refresh(second))["refresh_token"]
    assert refusal(site.refresh(first)) == (403, "refresh_token_reused")
    for token in (third, second, first):
        assert refusal(site.refresh(token)) == (403, "refresh_token_reused")


def test_a_stolen_refresh_token_is_refused_on_another_page(site: Site) -> None:
    site.change(domain_allowlist=["www.acme.com", "shop.acme.com"])
    pair = admitted(site.guest())
    for thief in ("https://evil.example", "https://shop.acme.com", None):
        assert refusal(site.at(thief).refresh(pair["refresh_token"])) == (403, "origin_refused")
    assert site.refresh(pair["refresh_token"]).status_code == 200


def test_a_used_refresh_token_ends_the_family_wherever_it_is_shown(site: Site) -> None:
    first = admitted(site.guest())["refresh_token"]
    second = admitted(site.refresh(first))["refresh_token"]
    assert refusal(site.at("https://evil.example").refresh(first)) == (403, "refresh_token_reused")
    assert refusal(site.refresh(second)) == (403, "refresh_token_reused")


def test_one_visit_ends_and_no_other(site: Site) -> None:
    mine, other = admitted(site.guest())["refresh_token"], admitted(site.guest())["refresh_token"]
    site.refresh(mine)
    site.refresh(mine)
    assert site.refresh(other).status_code == 200


def test_a_visit_that_nobody_began_or_that_redis_forgot(site: Site, shared_redis: EmbeddedRedis) -> None:
    unknown = opaque_tokens.new_refresh_token(opaque_tokens.new_name())
    assert refusal(site.refresh(unknown)) == (403, "refresh_token_unknown")
    token = admitted(site.guest())["refresh_token"]
    visit = opaque_tokens.session_of(token)
    assert visit is not None
    with redis.Redis.from_url(shared_redis.url) as client:
        assert client.delete(f"kataven:widget:visit:{opaque_tokens.digest(visit)}") == 1
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
    "kind forbidden": (lambda site: site.agent_widget(auth_mode="user"), "visitor_kind_forbidden"),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_let_a_visitor_in_is_asked_again_at_each_refresh(site: Site, ending: str) -> None:
    end, code = ENDINGS[ending]
    pair = admitted(site.refresh(admitted(site.guest())["refresh_token"]))
    end(site)
    assert refusal(site.refresh(pair["refresh_token"])) == (404 if code == "unknown_agent" else 403, code)


@pytest.mark.parametrize("ending", ["revoked", "removed", "expired"])
def test_the_end_of_the_minting_key_ends_its_user_tokens_and_visits_at_once(
    harness: AppHarness, alice: Caller, site: Site, vouch: Vouch, ending: str
) -> None:
    made = alice.post("/v1/api-keys", {"name": "Vouches", "expiry": "30d"}).get_json()
    server, path = harness.bearer(made["key"]), f"/v1/api-keys/{made['id']}"
    in_hand = vouch(server)
    pair = admitted(site.exchange(vouch(server)))
    assert site.refresh(pair["refresh_token"]).status_code == 200
    pair = admitted(site.exchange(vouch(server)))
    if ending == "expired":
        _expire(harness, made["id"])
    else:
        ended = alice.patch(path, {"disabled": True}) if ending == "revoked" else alice.delete(path)
        assert ended.get_json()["receipt"]["acknowledged"] == 1
    assert refusal(site.exchange(in_hand)) == (403, "minting_key_ended")
    assert refusal(site.refresh(pair["refresh_token"])) == (403, "minting_key_ended")


def _expire(harness: AppHarness, key_id: str) -> None:
    record = harness.services.directory.read("acme")
    assert record is not None
    with harness.services.registry.writing(record.tenant) as session:
        session.get_one(ApiKey, key_id).expires_at = datetime.now(UTC)


def test_a_guests_visit_does_not_hang_on_any_api_key(harness: AppHarness, alice: Caller, site: Site) -> None:
    pair = admitted(site.guest())
    made = alice.post("/v1/api-keys", {"name": "Bystander", "expiry": "30d"}).get_json()
    alice.patch(f"/v1/api-keys/{made['id']}", {"disabled": True})
    assert site.refresh(pair["refresh_token"]).status_code == 200


# --- isolation, and what is kept


def test_nothing_of_one_account_is_let_in_at_another(
    harness: AppHarness, site: Site, new_site: NewSite, charlie: Caller, edge: VoiceEdge
) -> None:
    globex = new_site(charlie)
    assert edge.claims(admitted(globex.guest())["visitor_token"])["account"] == "globex"
    assert edge.claims(admitted(site.guest())["visitor_token"])["account"] == "acme"
    assert refusal(globex.guest(client_key=site.key)) == (404, "unknown_agent")
    forged = site.key.replace("pk_live_acme_", "pk_live_globex_")
    forged = forged[:-6] + tokens.checksum(forged[:-6])
    assert refusal(globex.guest(client_key=forged)) == (403, "unknown_widget_key")


def test_no_token_is_kept_anywhere(
    harness: AppHarness, site: Site, vouch: Vouch, shared_redis: EmbeddedRedis, capfd: pytest.CaptureFixture[str]
) -> None:
    user_token = vouch()
    first = admitted(site.exchange(user_token))
    second = admitted(site.refresh(first["refresh_token"]))
    vouched = vouch()
    secrets = [part[:40] for token in (user_token, vouched) for part in [token.removeprefix("ut_")]]
    for pair in (first, second):
        secrets += [part[:40] for part in pair["refresh_token"].removeprefix("rt_").split("_")]
        secrets.append(pair["visitor_token"].rpartition(".")[2])
    with redis.Redis.from_url(shared_redis.url) as client:
        kept = b"".join(name + (client.dump(name) or b"") for name in client.scan_iter())
    assert b"kataven:widget:visit:" in kept, "the search sees what is kept"
    logged = capfd.readouterr().err
    assert '"route":"/v1/widget/auth/refresh","status":200,"account":"acme"' in logged, "the search sees what is logged"
    for secret in secrets:
        assert secret.encode() not in kept
        assert secret not in logged


def test_the_cast_may_not_sign_visitors_in_with_a_jwt(harness: AppHarness, site: Site) -> None:
    token = harness.issuer.token(ALICE)
    answer = harness.bearer(token, "acme").post(
        "/v1/widget/auth/guest", without_none({"client_key": site.key}), headers={"Origin": "https://evil.example"}
    )
    assert refusal(answer) == (403, "origin_refused")


def test_the_published_keys_hold_nothing_private(harness: AppHarness) -> None:
    answer = harness.anybody().get("/v1/widget/jwks.json")
    assert re.fullmatch(r"public, max-age=\d+", answer.headers["Cache-Control"])
    for key in answer.get_json()["keys"]:
        assert set(key) == {"kid", "kty", "crv", "x", "y", "alg", "use"}
