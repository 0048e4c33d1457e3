"""Tests all tools with the official MCP client, over both transports, against the real API."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from mcp import Client
from mcp.server.mcpserver import MCPServer

from kataven.identity import token as tokens
from kataven.identity.token import TokenKind
from kataven.mcp_server.callers import callers_with_keys, client_for_key
from kataven.mcp_server.tool_schemas import shorten
from kataven.mcp_server.tools import create_server
from tests.mcp_server.conftest import (
    Connect,
    HttpServer,
    environ,
    message_text,
    over_http,
    over_stdio,
    structured_result,
)
from tests.support.app_harness import AppHarness, new_account
from tests.support.gunicorn import Gunicorn, free_port

AN_ID = "00000000-0000-4000-8000-000000000000"
TOOLS = {
    "kataven_get_caller": "read",
    "kataven_get_limits": "read",
    "kataven_get_usage": "read",
    "kataven_list_requests": "read",
    "kataven_explain_request": "read",
    "kataven_list_agents": "read",
    "kataven_get_agent": "read",
    "kataven_create_agent": "create",
    "kataven_update_agent": "change",
    "kataven_delete_agent": "change",
    "kataven_get_agent_widget_settings": "read",
    "kataven_update_agent_widget_settings": "change",
    "kataven_list_widget_keys": "read",
    "kataven_get_widget_key": "read",
    "kataven_create_widget_key": "create",
    "kataven_update_widget_key": "change",
    "kataven_delete_widget_key": "change",
    "kataven_get_widget_settings": "read",
    "kataven_update_widget_settings": "change",
}
HINTS = {"read": (True, False, True), "create": (False, False, False), "change": (False, True, True)}


@pytest.fixture(scope="module")
def account(harness: AppHarness) -> str:
    """A separate account, because other tests use the branding of acme."""
    new_account(harness.services, "tooled")
    return "tooled"


@pytest.fixture
def key(harness: AppHarness, account: str) -> str:
    return harness.new_key(account)


def in_session(connect: Connect, key: str, work: Callable[[Client], Awaitable[None]]) -> None:
    async def session() -> None:
        async with connect(key) as client:
            await work(client)

    anyio.run(session)


def test_tools_have_schemas_and_hints(connect: Connect, key: str) -> None:
    async def work(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == set(TOOLS)
        for name, tool in tools.items():
            hints = tool.annotations
            assert (hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint) == HINTS[TOOLS[name]], name
            assert hints.open_world_hint is False
            assert tool.title
            assert tool.description
            assert tool.output_schema["type"] == "object"
            assert "context" not in tool.input_schema["properties"]
            assert tool.input_schema["additionalProperties"] is False
        create = tools["kataven_create_agent"].input_schema
        assert create["required"] == ["name"]
        assert "system_prompt" in str(create)
        assert "elevenlabs" in str(create)
        assert create["$defs"]["AgentFields"]["properties"]["status"]["default"] == "draft"
        assert create["$defs"]["AgentFields"]["properties"]["system_prompt"]["maxLength"] == 100_000
        assert '"title":' not in json.dumps([tool.output_schema for tool in tools.values()])
        # A default in an update would say that an omitted field is reset.
        update = tools["kataven_update_agent"].input_schema["$defs"]["AgentChanges"]
        assert not [name for name, field in update["properties"].items() if "default" in field]
        assert "required" not in update

    in_session(connect, key, work)


def test_only_tools_are_advertised(connect: Connect, key: str) -> None:
    async def work(client: Client) -> None:
        capabilities = client.server_capabilities.model_dump(exclude_none=True)
        assert set(capabilities) == {"tools"}

    in_session(connect, key, work)


MAX_LIST_BYTES = 16_000
"""About 4,000 tokens: models' tokenizers encode at least four bytes of JSON per token on average."""


def test_tool_list_fits_into_4000_tokens() -> None:
    server = create_server(callers_with_keys(client_for_key(None)))
    tools = anyio.run(server.list_tools)
    listed = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools]
    assert len(json.dumps(listed, separators=(",", ":")).encode()) <= MAX_LIST_BYTES


def test_shortened_schemas_accept_the_same_arguments() -> None:
    """Only titles, null defaults and the spelling of `null` differ; all names, types and limits remain."""
    tools = anyio.run(MCPServer.list_tools, create_server(callers_with_keys(client_for_key(None))))
    for tool in tools:
        arguments: list[dict[str, Any]] = [
            {name: value} | {"changes": {name: value}, "fields": {name: value}}
            for name in ("name", "title", "logo_url", "limit", "cursor", "agent_id", "status", "nonsense")
            for value in (None, "", "x", "active", "x" * 501, 0, 1, 0.5, True, [], ["x"], {})
        ]
        before, after = (Draft202012Validator(schema) for schema in (tool.input_schema, shorten(tool.input_schema)))
        for one in arguments:
            assert before.is_valid(one) == after.is_valid(one), (tool.name, one)


def test_schemas_are_shortened_without_losing_a_property_named_title() -> None:
    schema = {
        "title": "Branding",
        "type": "object",
        "properties": {
            "title": {"title": "Title", "anyOf": [{"type": "string", "maxLength": 60}, {"type": "null"}]},
            "theme": {"title": "Theme", "anyOf": [{"type": "string", "enum": ["dark"]}, {"type": "null"}]},
            "agent": {"title": "Agent", "anyOf": [{"$ref": "#/$defs/Agent"}, {"type": "null"}], "default": None},
        },
        "$defs": {"Agent": {"title": "Agent", "type": "array", "items": {"title": "Item", "type": "integer"}}},
    }
    assert shorten(schema) == {
        "type": "object",
        "properties": {
            "title": {"type": ["string", "null"], "maxLength": 60},
            "theme": {"anyOf": [{"type": "string", "enum": ["dark"]}, {"type": "null"}]},
            "agent": {"anyOf": [{"$ref": "#/$defs/Agent"}, {"type": "null"}]},
        },
        "$defs": {"Agent": {"type": "array", "items": {"type": "integer"}}},
    }


def test_lifecycle_of_an_agent_and_its_widget(connect: Connect, key: str) -> None:
    async def work(client: Client) -> None:
        async def call(tool: str, /, **arguments: Any) -> Any:
            return structured_result(await client.call_tool(f"kataven_{tool}", arguments))

        caller = await call("get_caller")
        assert caller["account"] == "tooled"
        assert key not in str(caller)
        limits = await call("get_limits")
        assert set(limits) == {"per_minute", "per_hour", "per_day", "concurrent"}

        agent = await call(
            "create_agent", name="Front desk", fields={"category": "sales", "system_prompt": "Be brief."}
        )
        assert (agent["category"], agent["status"]) == ("sales", "draft")
        listed = (await call("list_agents", limit=100))["agents"]
        mine = next(one for one in listed if one["id"] == agent["id"])
        assert "system_prompt" not in mine
        read = await call("get_agent", agent_id=agent["id"])
        assert read == agent
        changes = {"status": "active", "voice_id": None}
        changed = await call("update_agent", agent_id=agent["id"], changes=changes, if_match=read["etag"])
        assert (changed["status"], changed["system_prompt"]) == ("active", "Be brief.")
        on = {"widget_enabled": True}
        settings = await call("update_agent_widget_settings", agent_id=agent["id"], changes=on)
        assert settings["widget_enabled"] is True
        assert await call("get_agent_widget_settings", agent_id=agent["id"]) == settings

        created = await call("create_widget_key", name="Shop", domain_allowlist=["acme.com"], agent_id=agent["id"])
        assert created["key"] in created["snippet"]
        assert created["id"] in [one["id"] for one in (await call("list_widget_keys", limit=100))["widget_keys"]]
        disabled = await call("update_widget_key", key_id=created["id"], changes={"disabled": True})
        assert disabled["disabled"] is True
        assert disabled["receipt"]["workers"] == disabled["receipt"]["acknowledged"]
        assert (await call("get_widget_key", key_id=created["id"]))["domain_allowlist"] == ["acme.com"]
        assert (await call("delete_widget_key", key_id=created["id"]))["outcome"] == "removed"

        title = uuid.uuid4().hex
        assert (await call("update_widget_settings", changes={"title": title}))["title"] == title
        assert (await call("get_widget_settings"))["accent_color"].startswith("#")
        assert await call("delete_agent", agent_id=agent["id"]) == {"id": agent["id"], "deleted": True}
        assert (await call("get_usage", group_by="route"))["group_by"] == "route"
        assert isinstance((await call("list_requests", outcome="ok"))["items"], list)

    in_session(connect, key, work)


ERRORS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("get_agent", {"agent_id": AN_ID}, ["not_found", "kataven_list_agents"]),
    ("get_widget_key", {"key_id": AN_ID}, ["not_found", "kataven_list_widget_keys"]),
    ("get_agent", {"agent_id": "../api-keys"}, ["UUID", "kataven_list_agents"]),
    ("explain_request", {"request_id": "0" * 32}, ["not_found", "kataven_list_requests"]),
    ("create_agent", {"name": "a\nb"}, ["invalid_request", "- name: must be a single line", "Correct the fields"]),
    (
        "create_agent",
        {"name": "a", "fields": {"categroy": "sales"}},
        ["- fields.categroy: is not a known field", "Correct"],
    ),
    (
        "create_agent",
        {"name": "a", "fields": {"greeting_message": "a" * 5_001}},
        ["- fields.greeting_message: must have at most 5000 characters", "Correct the arguments"],
    ),
    ("update_widget_settings", {"changes": {"accent_color": "red"}}, ["- changes.accent_color: must be a color like"]),
    ("create_agent", {"name": "a", "system_prompt": "Hi"}, ["- system_prompt: is not a known argument", "Correct"]),
    ("delete_agent", {"agent_id": AN_ID, "etag": '"x"'}, ["- etag: is not a known argument", "if_match", "Correct"]),
    ("create_agent", {}, ["- name: is required", "Correct the arguments"]),
    ("list_agents", {"limit": 0}, ["- limit: ", "Correct the arguments"]),
    ("update_widget_settings", {"changes": {"title": "x"}, "if_match": '"\u00fc"'}, ["if_match must be an ETag"]),
    ("create_widget_key", {"name": "a", "domain_allowlist": ["*"]}, ["domain_allowlist[0]", "Correct the fields"]),
    ("update_widget_settings", {"changes": {"title": "x"}, "if_match": '"old"'}, ["precondition_failed", "etag"]),
    ("update_widget_settings", {"changes": {"title": "x"}, "if_match": "old"}, ["If-Match", "quotes"]),
]


def test_errors_state_the_next_step(connect: Connect, key: str) -> None:
    async def work(client: Client) -> None:
        for tool, arguments, expected in ERRORS:
            result = await client.call_tool(f"kataven_{tool}", arguments)
            assert result.is_error, (tool, arguments)
            for words in [*expected, "What to do:"]:
                assert words in message_text(result), (tool, arguments)
            assert key not in message_text(result)
            assert "pydantic" not in message_text(result)

    in_session(connect, key, work)


def test_errors_do_not_repeat_argument_values(connect: Connect, key: str) -> None:
    async def work(client: Client) -> None:
        result = await client.call_tool("kataven_create_agent", {"name": {"secret": key}, key: 1})
        assert result.is_error
        assert key not in message_text(result)

    in_session(connect, key, work)


def test_revoked_key_over_stdio_is_reported_as_a_tool_error(
    api: Gunicorn, stdio_log: Path, harness: AppHarness
) -> None:
    """Over HTTP, the server returns 401: see test_http.py."""

    async def work(client: Client) -> None:
        result = await client.call_tool("kataven_get_caller", {})
        assert result.is_error
        assert "revoked_credential" in message_text(result)
        assert "Do not retry" in message_text(result)

    def connect(key: str) -> AbstractAsyncContextManager[Client]:
        return over_stdio(environ(api, key), stdio_log)

    key = harness.new_key("acme", disabled_at=datetime.now(UTC))
    in_session(connect, key, work)
    assert key not in stdio_log.read_text()


@pytest.mark.parametrize("kind", ["revoked", "unknown", "api unavailable"])
def test_problem_with_the_key_is_reported_on_stderr_at_the_start(
    api: Gunicorn, stdio_log: Path, harness: AppHarness, kind: str
) -> None:
    key = {
        "revoked": lambda: harness.new_key("acme", disabled_at=datetime.now(UTC)),
        "unknown": lambda: tokens.generate(TokenKind.API_KEY, "acme").text,
        "api unavailable": lambda: harness.new_key("acme"),
    }[kind]()
    variables = environ(api, key)
    if kind == "api unavailable":
        variables["KATAVEN_BASE_URL"] = f"http://127.0.0.1:{free_port()}/v1"
    expected = "could not be checked" if kind == "api unavailable" else "Set a valid API key"

    async def session() -> None:
        async with over_stdio(variables, stdio_log):
            with anyio.fail_after(60):
                while expected not in stdio_log.read_text():
                    await anyio.sleep(0.05)

    anyio.run(session)
    (line,) = stdio_log.read_text().splitlines()
    assert line.startswith("kataven-mcp: The API ")
    assert key not in line


def test_calls_over_stdio_write_nothing_to_stderr(api: Gunicorn, stdio_log: Path, key: str) -> None:
    async def session() -> None:
        async with over_stdio(environ(api, key), stdio_log) as client:
            await client.call_tool("kataven_get_caller", {})
            await client.call_tool("kataven_get_agent", {"agent_id": AN_ID})
            await client.call_tool("kataven_get_agent", {"agent_id": 1})

    anyio.run(session)
    assert stdio_log.read_text() == ""


def test_exceeded_limit_states_how_long_to_wait(connect: Connect, harness: AppHarness) -> None:
    account = f"mcp-{uuid.uuid4().hex[:8]}"
    new_account(harness.services, account)
    harness.set_limits(account, per_hour=1)

    async def work(client: Client) -> None:
        await client.call_tool("kataven_get_caller", {})
        result = await client.call_tool("kataven_get_caller", {})
        assert result.is_error
        assert "per-hour (1) exceeded" in message_text(result)
        assert "Wait 3" in message_text(result)

    in_session(connect, harness.new_key(account), work)


def test_logs_never_contain_the_key(connect: Connect, key: str, stdio_log: Path, api: Gunicorn) -> None:
    async def work(client: Client) -> None:
        await client.call_tool("kataven_get_caller", {})
        await client.call_tool("kataven_get_agent", {"agent_id": AN_ID})

    in_session(connect, key, work)
    assert not stdio_log.exists() or key not in stdio_log.read_text()
    assert key not in api.log.read_text()


def test_concurrent_http_callers_act_for_their_own_accounts(http_server: HttpServer, harness: AppHarness) -> None:
    seen: dict[str, set[str]] = {"acme": set(), "globex": set()}

    async def post_message(account: str) -> None:
        async with over_http(http_server.url, harness.new_key(account)) as client:
            for _ in range(5):
                caller = structured_result(await client.call_tool("kataven_get_caller", {}))
                seen[account].add(caller["account"])

    async def all_callers() -> None:
        async with anyio.create_task_group() as group:
            for account in seen:
                group.start_soon(post_message, account)
                group.start_soon(post_message, account)

    anyio.run(all_callers)
    assert seen == {"acme": {"acme"}, "globex": {"globex"}}
    assert "sk_live_" not in http_server.log.read_text()
