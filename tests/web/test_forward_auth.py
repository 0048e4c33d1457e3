"""`/v1/verify`, as gateways call it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from werkzeug.test import TestResponse

from kataven.dev.personas import ALICE, BOB, CHARLIE, Persona
from kataven.identity.principal import CredentialKind, Principal, Role
from kataven.identity.token import TokenKind, generate
from kataven.ratelimit.address import client_address
from kataven.ratelimit.budget import PER_MINUTE, AddressBudgetKind
from kataven.revocation.cache import CachingVerifier
from kataven.system import accounts
from kataven.system.models import AccountStatus
from kataven.web import observe
from kataven.web.forward_auth import CREDENTIAL_HEADERS, identity_headers
from kataven.web.problems import PROBLEM_TYPES, status_of
from tests.support.app_harness import AppHarness, Caller, new_account
from tests.web.test_series_at_startup import series

VERIFY = "/v1/verify"
PAST = datetime.now(UTC) - timedelta(days=1)


def refused(response: TestResponse) -> tuple[int, str]:
    body = response.get_json()
    assert body["status"] == response.status_code
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Kataven-Code"] == body["code"]
    assert not response.headers.get("X-Kataven-Account")
    return response.status_code, body["code"]


@pytest.fixture
def limited(harness: AppHarness) -> Callable[..., Caller]:
    """Creates an account with these limits, and returns a caller with a key of it."""

    def create(name: str, **limits: int) -> Caller:
        new_account(harness.services, name)
        harness.set_limits(name, **limits)
        return harness.bearer(harness.new_key(name))

    return create


# Accepted.


def test_key_is_described_in_headers_without_a_body(acme_key: Caller) -> None:
    response = acme_key.get(VERIFY)
    key_id = acme_key.get("/v1/me").get_json()["credential"]["id"]
    assert (response.status_code, response.data) == (200, b"")
    assert "Content-Type" not in response.headers
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Kataven-Account"] == "acme"
    assert response.headers["X-Kataven-Principal"] == f"api_key:{key_id}"
    assert response.headers["X-Kataven-Key-Id"] == key_id
    # Present, so that gateways replace a header of this name that their client sent.
    assert response.headers["X-Kataven-Role"] == ""
    assert response.headers["X-Kataven-Scopes"] == "*"
    assert response.headers["RateLimit"].startswith('"per-minute";r=')


def test_user_is_described_by_subject_and_role(harness: AppHarness) -> None:
    headers = harness.user(BOB).get(VERIFY).headers
    assert (headers["X-Kataven-Principal"], headers["X-Kataven-Role"]) == ("jwt:bob", "member")
    assert (headers["X-Kataven-Key-Id"], headers["X-Kataven-Scopes"]) == ("", "")


def test_gateway_can_require_a_scope(harness: AppHarness, acme_key: Caller) -> None:
    body = {"name": "CI", "expiry": "30d", "scopes": ["agents:write"]}
    key = harness.bearer(harness.user(ALICE).post("/v1/api-keys", body).get_json()["key"])
    assert key.get(VERIFY).headers["X-Kataven-Scopes"] == "agents:read agents:write"
    assert key.get(f"{VERIFY}?scope=agents:read").status_code == 200
    for path in (f"{VERIFY}?scope=reports:read", f"{VERIFY}/envoy;scope=reports:read/orders?scope=agents:read"):
        refused = key.get(path)
        assert (refused.status_code, refused.headers["X-Kataven-Code"]) == (403, "insufficient_scope")
        assert 'scope="reports:read"' in refused.headers["WWW-Authenticate"]
    for unlimited in (acme_key, harness.user(BOB)):
        assert unlimited.get(f"{VERIFY}?scope=reports:read").status_code == 200
    wrong = key.get(f"{VERIFY}?scope=reports")
    assert (wrong.status_code, wrong.get_json()["code"]) == (503, "gateway_misconfigured")


def test_body_has_the_same_values_for_callers_that_accept_json(harness: AppHarness, acme_key: Caller) -> None:
    response = acme_key.get(VERIFY, headers={"Accept": "application/json"})
    key_id = response.headers["X-Kataven-Key-Id"]
    body = {"account": "acme", "principal": f"api_key:{key_id}", "key_id": key_id, "role": None, "scopes": None}
    assert response.get_json() == body
    user = harness.user(ALICE).get(VERIFY, headers={"Accept": "application/json"}).get_json()
    assert user == {"account": "acme", "principal": "jwt:alice", "key_id": None, "role": "owner", "scopes": None}


@pytest.mark.parametrize(
    "subject", ["a\r\nX-Kataven-Role: owner", "a\nb", "bob, owner", "b o b", "ü", "\x00\x7f", "%0d"]
)
def test_no_subject_can_inject_a_header(subject: str) -> None:
    values = identity_headers(Principal(CredentialKind.JWT, "acme", subject, "Bob", Role.MEMBER)).values()
    for value in values:
        assert value.isascii()
        assert value == "" or (value.isprintable() and not set(' ,;"') & set(value))


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
@pytest.mark.parametrize(
    "path",
    [
        *(VERIFY, "/v1/verify/envoy", "/v1/verify/envoy/orders/17", "/api/v1/verify"),
        *("/%2Fv1/verify", "/%2Fv1/verify/envoy/orders/17", "/%2F%2Fapi/v1/verify"),  # the base URL ends in a slash
    ],
)
def test_every_method_is_verified_like_get(harness: AppHarness, acme_key: Caller, method: str, path: str) -> None:
    accepted = acme_key.call(method, path, data=b"x" * 100)
    assert (accepted.status_code, accepted.headers["X-Kataven-Account"], accepted.data) == (200, "acme", b"")
    without = harness.caller().call(method, path)
    assert (without.status_code, without.headers["X-Kataven-Code"]) == (401, "missing_credential")


def test_conditions_of_the_client_are_ignored(acme_key: Caller) -> None:
    for header in ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "Range", "If-Range"):
        assert acme_key.get(VERIFY, headers={header: '"nonsense'}).status_code == 200


def test_paths_for_gateways_are_not_deprecated_aliases(acme_key: Caller) -> None:
    assert "Deprecation" not in acme_key.get("/v1/verify/envoy/orders").headers
    assert "Deprecation" in acme_key.get("/api/v1/verify").headers


# Refused.


def test_statuses_are_those_that_gateways_understand() -> None:
    assert {status_of(code, forward_auth=True) for code in PROBLEM_TYPES} == {401, 403, 429, 503}


def test_refusals_of_credentials(harness: AppHarness) -> None:
    key = harness.new_key("acme")
    assert refused(harness.caller().get(VERIFY)) == (401, "missing_credential")
    for text in (key[:-1], "junk", "", "x" * 9_000, '"quoted"'):
        response = harness.bearer(text).get(VERIFY)
        assert refused(response) == (401, "malformed_token")
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="kataven", error="invalid_token"'
    assert refused(harness.bearer(generate(TokenKind.API_KEY, "acme").text).get(VERIFY)) == (401, "invalid_credential")
    assert refused(harness.bearer(generate(TokenKind.WIDGET_KEY, "acme").text).get(VERIFY)) == (401, "not_a_credential")
    assert refused(harness.bearer(harness.new_key("acme", expires_at=PAST)).get(VERIFY)) == (401, "expired_credential")
    assert refused(harness.bearer(harness.new_key("acme", disabled_at=PAST)).get(VERIFY)) == (403, "revoked_credential")
    assert refused(harness.user(CHARLIE, "acme").get(VERIFY)) == (403, "account_mismatch")
    token = harness.issuer.token(ALICE)
    assert refused(harness.bearer(token).get(VERIFY)) == (403, "missing_account")
    assert refused(harness.bearer(token, "No Name").get(VERIFY)) == (403, "invalid_account")


def test_suspended_account_is_403(harness: AppHarness) -> None:
    new_account(harness.services, "paused-site")
    caller = harness.bearer(harness.new_key("paused-site"))
    with harness.services.directory.database.writing() as session:
        accounts.move(session, "paused-site", AccountStatus.SUSPENDED, AccountStatus.ACTIVE)
    assert refused(caller.get(VERIFY)) == (403, "account_suspended")


def test_type_of_a_problem_is_a_link_to_kataven_and_not_to_the_api_behind_the_gateway(harness: AppHarness) -> None:
    problem = harness.caller().get(VERIFY).get_json()
    assert problem["type"] == "http://127.0.0.1:8000/docs/errors#missing_credential"


@pytest.mark.parametrize("query", ["", "?mode=nginx"])
def test_unexpected_error_refuses_with_503(
    harness: AppHarness, monkeypatch: pytest.MonkeyPatch, acme_key: Caller, query: str
) -> None:
    def fails(*_: object) -> Principal:
        raise RuntimeError("a bug")

    monkeypatch.setattr(CachingVerifier, "verify", fails)
    response = acme_key.get(VERIFY + query)
    assert (response.status_code, response.get_json()["code"]) == (403 if query else 503, "internal_error")
    assert response.headers["Retry-After"] == "1"
    assert response.headers.get("X-Kataven-Status", "503") == "503"


# Parameters.


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("cost=abc", "cost"),
        ("cost=-1", "cost"),
        ("cost=101", "cost"),
        ("cost=1.5", "cost"),
        ("cost=", "cost"),
        ("cost=1&cost=2", "cost"),
        ("account=No+Name", "account"),
        ("account=kataven-admin", "account"),
        ("credential_header=Cookie", "credential_header"),
        ("mode=apache", "mode"),
        ("costs=1", "costs"),
    ],
)
def test_wrong_parameters_refuse_all_requests_and_name_the_field(
    harness: AppHarness, acme_key: Caller, query: str, field: str
) -> None:
    for caller in (acme_key, harness.caller()):
        response = caller.get(f"{VERIFY}?{query}")
        assert refused(response) == (503, "gateway_misconfigured")
        assert response.get_json()["errors"][0]["field"] == field
        assert f"{field}: " in response.get_json()["detail"]


def test_required_account_refuses_credentials_of_others(harness: AppHarness, acme_key: Caller) -> None:
    assert acme_key.get(f"{VERIFY}?account=acme").status_code == 200
    assert refused(acme_key.get(f"{VERIFY}?account=globex")) == (403, "account_mismatch")
    assert refused(harness.user(CHARLIE).get(f"{VERIFY}?account=acme")) == (403, "account_mismatch")


def test_required_account_is_the_account_of_a_jwt_without_x_account_id(harness: AppHarness) -> None:
    alice = harness.bearer(harness.issuer.token(ALICE))
    assert alice.get(f"{VERIFY}?account=acme").headers["X-Kataven-Account"] == "acme"
    assert refused(alice.get(f"{VERIFY}?account=globex")) == (403, "account_mismatch")


@pytest.mark.parametrize("name", CREDENTIAL_HEADERS[1:])
def test_credential_is_read_from_the_named_header_only(harness: AppHarness, name: str) -> None:
    key, query = harness.new_key("acme"), f"{VERIFY}?credential_header={name.lower()}"
    assert harness.caller(**{name: key}).get(query).status_code == 200
    # `Authorization` then belongs to the API behind the gateway.
    assert harness.caller(**{name: key, "Authorization": "Basic eDp5"}).get(query).status_code == 200
    response = harness.bearer(key).get(query)
    assert refused(response) == (401, "missing_credential")
    assert f"`{name}`" in response.get_json()["detail"]
    assert refused(harness.caller(**{name: "junk"}).get(query)) == (401, "malformed_token")


def test_envoys_parameters_come_before_its_clients_path(harness: AppHarness, acme_key: Caller) -> None:
    assert refused(acme_key.get("/v1/verify/envoy;account=globex/orders")) == (403, "account_mismatch")
    assert refused(acme_key.get("/v1/verify/envoy;cost=abc/orders")) == (503, "gateway_misconfigured")
    named = harness.caller(**{"X-API-Key": harness.new_key("acme")})
    assert named.get("/v1/verify/envoy;account=acme;credential_header=x-api-key/orders").status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/;account=acme", "/?account=acme", "/orders;account=acme?account=acme", "//;account=acme", "/..;account=acme/"],
)
def test_envoys_client_can_not_add_parameters(acme_key: Caller, path: str) -> None:
    assert refused(acme_key.get(f"/v1/verify/envoy;account=globex{path}")) == (403, "account_mismatch")
    for wrong in ("cost=abc", "nonsense=1"):
        assert acme_key.get(f"/v1/verify/envoy{path}&{wrong}").status_code == 200


def test_paths_beside_envoys_form_do_not_exist(acme_key: Caller) -> None:
    for path in ("/v1/verify/envoyx", "/v1/verify/other", "/v1/verify/"):
        assert acme_key.get(path).status_code == 404


# nginx.


def test_nginx_receives_the_real_status_and_problem_as_headers(
    harness: AppHarness, limited: Callable[..., Caller]
) -> None:
    caller = limited("nginx-site", per_minute=1)
    accepted = caller.get(f"{VERIFY}?mode=nginx")
    assert (accepted.status_code, accepted.headers["X-Kataven-Status"]) == (200, "200")
    response = caller.get(f"{VERIFY}?mode=nginx")
    assert (response.status_code, response.headers["X-Kataven-Status"]) == (403, "429")
    problem = json.loads(response.headers["X-Kataven-Problem"])
    assert problem == response.get_json()
    assert (problem["status"], problem["code"]) == (429, "rate_limited")
    assert response.headers["X-Kataven-Code"] == "rate_limited"
    assert 1 <= int(response.headers["Retry-After"]) <= 60
    missing = harness.caller().get(f"{VERIFY}?mode=nginx")
    assert (missing.status_code, missing.headers["X-Kataven-Status"]) == (401, "401")
    wrong = caller.get(f"{VERIFY}?mode=nginx&cost=abc")
    assert (wrong.status_code, wrong.headers["X-Kataven-Status"]) == (403, "503")


def test_problem_header_is_one_line_of_ascii(harness: AppHarness) -> None:
    for token in ("junk", "'quoted’", "sk_live_acme_ü", "a\tb"):  # noqa: RUF001
        response = harness.caller().get(f"{VERIFY}?mode=nginx", headers={"Authorization": f"Bearer {token}"})
        value = response.headers["X-Kataven-Problem"]
        assert value.isascii()
        assert value.isprintable()


def test_log_and_metrics_have_the_real_status(harness: AppHarness, capsys: pytest.CaptureFixture[str]) -> None:
    before = series(harness, "gateway_decisions", "outcome")
    caller = harness.caller()
    caller.get(f"{VERIFY}?mode=nginx&cost=abc")
    caller.get(VERIFY)
    after = series(harness, "gateway_decisions", "outcome")
    for code in ("gateway_misconfigured", "missing_credential"):
        assert after[code] == before[code] + 1
    text = harness.caller().get("/metrics").get_data(as_text=True)
    assert 'kataven_requests_total{method="GET",route="/v1/verify",status="503",surface="api"}' in text


# Cost.


def remaining(response: TestResponse) -> int:
    return int(response.headers["RateLimit"].partition('"per-minute";r=')[2].partition(";")[0])


def test_cost_is_consumed_at_once_from_account_and_key(harness: AppHarness) -> None:
    new_account(harness.services, "costly")
    harness.set_limits("costly", per_minute=10)
    caller = harness.bearer(harness.new_key("costly", limits={"per_minute": 8}))
    response = caller.get(f"{VERIFY}?cost=5")
    assert '"per-minute";r=5;' in response.headers["RateLimit"]
    assert '"key-per-minute";r=3;' in response.headers["RateLimit"]
    # 4 are left of the account and too few of the key, so nothing is consumed of either.
    response = caller.get(f"{VERIFY}?cost=4")
    assert refused(response) == (429, "rate_limited")
    assert "a cost of 4 exceeds the 3 left of key-per-minute (8)" in response.get_json()["detail"]
    assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert caller.get(f"{VERIFY}?cost=3").status_code == 200


def test_cost_0_consumes_nothing_and_is_never_limited(limited: Callable[..., Caller]) -> None:
    caller = limited("free", per_minute=1)
    for _ in range(3):
        assert remaining(caller.get(f"{VERIFY}?cost=0")) == 1
    assert caller.get(VERIFY).status_code == 200
    assert refused(caller.get(VERIFY)) == (429, "rate_limited")
    assert remaining(caller.get(f"{VERIFY}?cost=0")) == 0


def test_cost_above_the_whole_limit_names_the_limit(limited: Callable[..., Caller]) -> None:
    response = limited("small-site", per_minute=10).get(f"{VERIFY}?cost=50")
    assert refused(response) == (429, "rate_limited")
    assert "a cost of 50 exceeds the whole of per-minute (10)" in response.get_json()["detail"]


def test_other_routes_do_not_read_the_parameters(acme_key: Caller) -> None:
    assert acme_key.get("/v1/agents?cost=5").status_code == 400


# Client addresses.


def test_bad_keys_of_one_client_do_not_affect_others_at_the_same_gateway(
    harness: AppHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusting_one = lambda peer, forwarded, _: client_address(peer, forwarded, 1)  # noqa: E731
    monkeypatch.setattr(observe, "client_address", trusting_one)

    def guess() -> Caller:
        return harness.bearer(generate(TokenKind.API_KEY, "acme").text)

    def send(caller: Caller, client: str) -> TestResponse:
        # As every gateway of deploy/gateways/ does, which tests/gateways checks.
        gateway: dict[str, Any] = {"environ_base": {"REMOTE_ADDR": "192.0.2.200"}}
        return caller.get(VERIFY, headers={"X-Forwarded-For": client}, **gateway)

    for _ in range(PER_MINUTE[AddressBudgetKind.FAILED]):
        harness.services.limiter.addresses.spend("203.0.113.7", AddressBudgetKind.FAILED)
    budgets = harness.services.limiter.addresses
    assert budgets.exhausted("203.0.113.7", AddressBudgetKind.FAILED) is not None
    send(guess(), "203.0.113.7")
    assert budgets.exhausted("192.0.2.200", AddressBudgetKind.FAILED) is None
    assert budgets.exhausted("203.0.113.8", AddressBudgetKind.FAILED) is None
    before = series(harness, "credential_lookups", "outcome")
    assert refused(send(guess(), "203.0.113.8")) == (401, "invalid_credential")
    assert send(harness.bearer(harness.new_key("acme")), "203.0.113.8").status_code == 200
    after = series(harness, "credential_lookups", "outcome")
    assert after["within_budget"] == before["within_budget"] + 2
    assert (after["lane"], after["refused"]) == (before["lane"], before["refused"])


def test_persona_of_another_organization_can_not_choose_the_account(harness: AppHarness) -> None:
    token = harness.issuer.token(Persona("eve", "Eve", "globex", Role.OWNER))
    assert refused(harness.bearer(token, "acme").get(VERIFY)) == (403, "account_mismatch")
