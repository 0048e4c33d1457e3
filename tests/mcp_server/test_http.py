"""Who gets to the tools over HTTP, and from where."""

from __future__ import annotations

import httpx2
import pytest

from kataven.mcp_server.callers import bearer
from kataven.mcp_server.http import Address, UnsafeAddress
from tests.mcp_server.conftest import HttpServer
from tests.support.house import House

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


def test_with_a_key_the_tools_are_there(http_server: HttpServer, house: House) -> None:
    answer = post(http_server, Authorization=f"Bearer {house.new_key('acme')}")
    assert answer.status_code == 200
    assert "kataven_list_agents" in answer.text
    assert "mcp-session-id" not in answer.headers


@pytest.mark.parametrize("host", ["attacker.example", "attacker.example:80", "127.0.0.1.attacker.example", "127.0.0.1"])
def test_another_host_is_refused(http_server: HttpServer, house: House, host: str) -> None:
    assert post(http_server, Authorization=f"Bearer {house.new_key('acme')}", Host=host).status_code == 421


@pytest.mark.parametrize("origin", ["https://attacker.example", "null", "http://localhost:6274"])
def test_a_web_page_is_refused(http_server: HttpServer, house: House, origin: str) -> None:
    assert post(http_server, Authorization=f"Bearer {house.new_key('acme')}", Origin=origin).status_code == 403


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
