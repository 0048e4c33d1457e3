"""Access to the tools over HTTP: API keys, `Host`, `Origin` and the listen address."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from kataven.dev.personas import ALICE
from kataven.identity import token as tokens
from kataven.identity.token import TokenKind
from kataven.mcp_server.callers import bearer
from kataven.mcp_server.http import Address, UnsafeAddressError
from tests.mcp_server.conftest import HttpServer
from tests.support.app_harness import AppHarness

LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
ACCEPT = {"Accept": "application/json, text/event-stream"}


def post(server: HttpServer, **headers: str) -> httpx2.Response:
    sent = {name.replace("_", "-"): text for name, text in headers.items()}
    return httpx2.post(server.url, json=LIST, headers={**ACCEPT, **sent}, trust_env=False, timeout=60)


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Basic abc", "sk_live_acme_x"])
def test_request_without_a_bearer_token_returns_401(http_server: HttpServer, authorization: str | None) -> None:
    response = post(http_server, **({} if authorization is None else {"Authorization": authorization}))
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_request_with_a_key_lists_tools_without_a_session(http_server: HttpServer, harness: AppHarness) -> None:
    response = post(http_server, Authorization=f"Bearer {harness.new_key('acme')}")
    assert response.status_code == 200
    assert "kataven_list_agents" in response.text
    assert "mcp-session-id" not in response.headers


INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
DISCOVER = {"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {}}
CALL = {
    "jsonrpc": "2.0",
    "id": 2,
    "method": "tools/call",
    "params": {"name": "kataven_get_caller", "arguments": {}},
}


def post_message(server: HttpServer, key: str, message: dict[str, Any]) -> httpx2.Response:
    headers = {**ACCEPT, "Authorization": f"Bearer {key}"}
    return httpx2.post(server.url, json=message, headers=headers, trust_env=False, timeout=60)


@pytest.mark.parametrize("message", [INITIALIZE, DISCOVER, LIST, CALL], ids=["initialize", "discover", "list", "call"])
@pytest.mark.parametrize("kind", ["unknown", "expired", "revoked", "mistyped", "nonsense", "a JWT"])
def test_key_that_the_api_refuses_returns_401(
    http_server: HttpServer, harness: AppHarness, kind: str, message: dict[str, Any]
) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    good = harness.new_key("acme")
    key = {
        "unknown": tokens.generate(TokenKind.API_KEY, "acme").text,
        "expired": harness.new_key("acme", expires_at=past),
        "revoked": harness.new_key("acme", disabled_at=past),
        "mistyped": good[:-1] + ("1" if good[-1] == "0" else "0"),
        "nonsense": "nonsense",
        "a JWT": harness.issuer.token(),
    }[kind]
    response = post_message(http_server, key, message)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="kataven", error="invalid_token"'
    assert response.headers["Content-Type"].startswith("text/plain")
    assert "Ask the user to set a valid API key" in response.text
    assert key not in response.text


def test_key_revoked_while_the_client_is_connected_returns_401_on_the_next_message(
    http_server: HttpServer, harness: AppHarness
) -> None:
    alice = harness.user(ALICE)
    created = alice.post("/v1/api-keys", {"name": "mcp", "expiry": "never"}).get_json()
    for message in (INITIALIZE, LIST, CALL):
        assert post_message(http_server, created["key"], message).status_code == 200
    assert alice.patch(f"/v1/api-keys/{created['id']}", {"disabled": True}).status_code == 200
    for message in (CALL, LIST, INITIALIZE):
        assert post_message(http_server, created["key"], message).status_code == 401


@pytest.mark.parametrize("message", [INITIALIZE, CALL], ids=["initialize", "call"])
def test_valid_key_is_accepted(http_server: HttpServer, harness: AppHarness, message: dict[str, Any]) -> None:
    response = post_message(http_server, harness.new_key("acme"), message)
    assert response.status_code == 200, response.text
    assert response.json()["result"]


def test_errors_that_a_model_can_fix_are_tool_errors_with_status_200(
    http_server: HttpServer, harness: AppHarness
) -> None:
    wrong = {**CALL, "params": {"name": "kataven_get_agent", "arguments": {"agent_id": str(uuid4())}}}
    response = post_message(http_server, harness.new_key("acme"), wrong)
    assert response.status_code == 200
    assert "not_found" in response.text


def test_long_first_message_is_forwarded_completely(http_server: HttpServer, harness: AppHarness) -> None:
    padded = {**INITIALIZE, "params": {**INITIALIZE["params"], "_meta": {"x": "y" * 100_000}}}
    assert post_message(http_server, harness.new_key("acme"), padded).status_code == 200
    assert (
        post_message(http_server, harness.new_key("acme"), {**padded, "params": {"x": "y" * 2_000_000}}).status_code
        == 413
    )


@pytest.mark.parametrize("host", ["attacker.example", "attacker.example:80", "127.0.0.1.attacker.example", "127.0.0.1"])
def test_unknown_host_returns_421(http_server: HttpServer, harness: AppHarness, host: str) -> None:
    assert post(http_server, Authorization=f"Bearer {harness.new_key('acme')}", Host=host).status_code == 421


@pytest.mark.parametrize("origin", ["https://attacker.example", "null", "http://localhost:6274"])
def test_request_of_a_web_page_returns_403(http_server: HttpServer, harness: AppHarness, origin: str) -> None:
    assert post(http_server, Authorization=f"Bearer {harness.new_key('acme')}", Origin=origin).status_code == 403


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "mcp.acme.com"])  # noqa: S104
def test_public_address_requires_an_allowed_host(host: str) -> None:
    with pytest.raises(UnsafeAddressError, match="--allowed-host"):
        Address(host).check()
    Address(host, allowed_hosts=("mcp.acme.com",)).check()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback_address_needs_no_allowed_host(host: str) -> None:
    Address(host).check()


def test_bearer_parses_authorization_headers() -> None:
    assert bearer("Bearer abc") == bearer("bearer  abc ") == "abc"
    assert bearer(None) is bearer("") is bearer("Bearer") is bearer("Token abc") is None
