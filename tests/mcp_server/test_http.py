"""Who gets to the tools over HTTP, and from where."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from kataven.identity import token as tokens
from kataven.identity.token import TokenKind
from kataven.mcp_server.callers import bearer
from kataven.mcp_server.http import Address, UnsafeAddress
from tests.mcp_server.conftest import HttpServer
from tests.support.app_harness import AppHarness

LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
ACCEPT = {"Accept": "application/json, text/event-stream"}


def post(server: HttpServer, **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return httpx2.post(server.url, json=LIST, headers={**ACCEPT, **named}, trust_env=False, timeout=60)


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Basic abc", "sk_live_acme_x"])
def test_without_a_key_nothing_is_looked_at(http_server: HttpServer, authorization: str | None) -> None:
    answer = post(http_server, **({} if authorization is None else {"Authorization": authorization}))
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_with_a_key_the_tools_are_there(http_server: HttpServer, harness: AppHarness) -> None:
    answer = post(http_server, Authorization=f"Bearer {harness.new_key('acme')}")
    assert answer.status_code == 200
    assert "kataven_list_agents" in answer.text
    assert "mcp-session-id" not in answer.headers


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


def ask(server: HttpServer, key: str, message: dict[str, Any]) -> httpx2.Response:
    headers = {**ACCEPT, "Authorization": f"Bearer {key}"}
    return httpx2.post(server.url, json=message, headers=headers, trust_env=False, timeout=60)


@pytest.mark.parametrize("message", [INITIALIZE, DISCOVER, CALL], ids=["initialize", "discover", "call"])
@pytest.mark.parametrize("kind", ["unknown", "expired", "revoked", "mistyped", "nonsense", "a JWT"])
def test_a_key_that_the_api_refuses_is_a_401(
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
    refused = ask(http_server, key, message)
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"] == 'Bearer realm="kataven", error="invalid_token"'
    assert refused.headers["Content-Type"].startswith("text/plain")
    assert "Ask the user for a good API key" in refused.text
    assert key not in refused.text


@pytest.mark.parametrize("message", [INITIALIZE, CALL], ids=["initialize", "call"])
def test_a_good_key_is_not_refused(http_server: HttpServer, harness: AppHarness, message: dict[str, Any]) -> None:
    answer = ask(http_server, harness.new_key("acme"), message)
    assert answer.status_code == 200, answer.text
    assert answer.json()["result"]


def test_what_a_model_can_mend_stays_an_error_of_the_tool(http_server: HttpServer, harness: AppHarness) -> None:
    wrong = {**CALL, "params": {"name": "kataven_get_agent", "arguments": {"agent_id": str(uuid4())}}}
    answer = ask(http_server, harness.new_key("acme"), wrong)
    assert answer.status_code == 200
    assert "not_found" in answer.text


def test_a_long_first_message_is_passed_on_whole(http_server: HttpServer, harness: AppHarness) -> None:
    padded = {**INITIALIZE, "params": {**INITIALIZE["params"], "_meta": {"x": "y" * 100_000}}}
    assert ask(http_server, harness.new_key("acme"), padded).status_code == 200
    assert ask(http_server, harness.new_key("acme"), {**padded, "params": {"x": "y" * 2_000_000}}).status_code == 413


@pytest.mark.parametrize("host", ["attacker.example", "attacker.example:80", "127.0.0.1.attacker.example", "127.0.0.1"])
def test_another_host_is_refused(http_server: HttpServer, harness: AppHarness, host: str) -> None:
    assert post(http_server, Authorization=f"Bearer {harness.new_key('acme')}", Host=host).status_code == 421


@pytest.mark.parametrize("origin", ["https://attacker.example", "null", "http://localhost:6274"])
def test_a_web_page_is_refused(http_server: HttpServer, harness: AppHarness, origin: str) -> None:
    assert post(http_server, Authorization=f"Bearer {harness.new_key('acme')}", Origin=origin).status_code == 403


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "mcp.acme.com"])  # noqa: S104
def test_other_machines_are_let_in_only_under_a_name(host: str) -> None:
    with pytest.raises(UnsafeAddress, match="--allowed-host"):
        Address(host).check()
    Address(host, allowed_hosts=("mcp.acme.com",)).check()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_this_machine_is_fine(host: str) -> None:
    Address(host).check()


def test_bearer_reads_what_clients_send() -> None:
    assert bearer("Bearer abc") == bearer("bearer  abc ") == "abc"
    assert bearer(None) is bearer("") is bearer("Bearer") is bearer("Token abc") is None
