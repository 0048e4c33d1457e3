"""No message contains a regular expression, a message of a library or the name of a class.

The tests send invalid values of every kind to each field of each input, so that new fields are tested too.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any, get_args

import click
import pytest
from flask import Flask
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel

import app as factory
from kataven import settings, validation
from kataven.client import AsyncKatavenClient
from kataven.hub.page_blueprint import read_form
from kataven.mcp_server.callers import single_caller
from kataven.mcp_server.tools import create_server
from kataven.web import misplaced_keys
from kataven.web.openapi import operations_of
from kataven.web.problems import InvalidRequest
from kataven.web.schema import Input, dump_json, read_body, read_query
from tests.commands.test_help import leaves
from tests.support.app_harness import AppHarness

WRONG: list[Any] = [
    *(
        "",
        " ",
        "\u200b",
        "a\nb",
        "a\u009bb",
        "a\u202eb",
        "x" * 101_000,
        "red",
        "'; --",
        "null",
        "true",
        "1e999",
        "not-a-uuid",
    ),
    *(0, -1, 1.5, 2, 10**30, True, False, None),
    *([], [1], [""], ["a"] * 101, {}, {"a": 1}),
]
FORBIDDEN = re.compile(
    r"pattern|\^|\\[dswx]|\[a-z|Input should|String should|List should|Value error|should be a valid|valid integer|"
    r"validation error|NoneType|Traceback|pydantic|<class|object at 0x|"
    r"\b[A-Z][a-z]+[A-Z]\w+(?:Input|Patch|Query|Form|Error)\b"
)


def is_own_message(message: str) -> bool:
    return FORBIDDEN.search(message) is None and validation.CANT_BE_USED not in message


def subclasses(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for found in model.__subclasses__():
        yield from (found, *subclasses(found))


@pytest.fixture(scope="module")
def hub(harness: AppHarness) -> Flask:
    return factory.create_hub(settings.load({**harness.environ, "KATAVEN_HUB_URL": "http://localhost:8000"}))


def test_library_messages_are_detected() -> None:
    for sample in (
        "String should match pattern '^#[0-9a-fA-F]{6}$'",
        "Input should be True",
        "List should have at most 100 items after validation, not 101",
        "'abc' is not a valid integer range",
        "expected string or bytes-like object, got 'NoneType'",
        validation.CANT_BE_USED,
    ):
        assert not is_own_message(sample)


def test_messages_of_every_field_of_every_operation(harness: AppHarness) -> None:
    tried = 0
    for operation in operations_of(harness.app):
        for model in filter(None, (operation.body, operation.query)):
            for message in refusals(harness.app, model):
                assert is_own_message(message), (operation.method, operation.path, message)
                tried += 1
    assert tried > 500


def refusals(app: Flask, model: type[BaseModel]) -> Iterator[str]:
    given = [(name, value) for name in (*model.model_fields, "nonsense") for value in WRONG]
    for name, value in given:
        if issubclass(model, Input):
            body: dict[str, Any] = {"data": dump_json({name: value} if abs(number(value)) < 2**63 else {name: 1e300})}
            context = app.test_request_context("/", method="POST", content_type="application/json", **body)
        else:
            context = app.test_request_context("/", query_string={name: str(value)[:3000]})
        with context as here:
            try:
                read_body(here.request, model) if issubclass(model, Input) else read_query(here.request, model)  # type: ignore[type-var]
            except InvalidRequest as error:
                yield from (f"{one.field}: {one.message}" for one in error.errors)
                yield str(error)


def number(value: Any) -> float:
    return value if isinstance(value, int | float) else 0


@pytest.mark.parametrize(
    "body", [b"", b" ", b"{", b"[]", b"1", b"nul", b'{"name": }', b'{"name":"\xff"}', b'{"a":1,"a":1}']
)
def test_messages_of_a_body_that_is_not_an_object(harness: AppHarness, body: bytes) -> None:
    for operation in operations_of(harness.app):
        if operation.body is None:
            continue
        context = harness.app.test_request_context("/", method="POST", content_type="application/json", data=body)
        with context as here, pytest.raises(InvalidRequest) as refused:
            read_body(here.request, operation.body)
        assert is_own_message(str(refused.value)), str(refused.value)


def test_messages_of_every_form_of_the_hub(hub: Flask) -> None:
    tried = 0
    for model in {found for found in subclasses(Input) if found.__module__.startswith("kataven.")}:
        for name in model.model_fields:
            for value in WRONG:
                data = {name: value} if isinstance(value, str) else {}
                parsed = {} if isinstance(value, str) else {name: value}
                with hub.test_request_context(
                    "/", method="POST", data={name: text[:9_000] for name, text in data.items()}
                ):
                    _, problems = read_form(model, **parsed)
                assert all(map(is_own_message, problems.values())), (model, problems)
                tried += len(problems)
    assert tried > 500


def test_messages_of_every_argument_of_every_mcp_tool() -> None:
    asyncio.run(every_tool())


async def every_tool() -> None:
    key = "sk_live_acme_" + "0" * 49
    async with AsyncKatavenClient(key, base_url="http://127.0.0.1:9/v1") as client:
        server = create_server(single_caller(client))
        tried = 0
        for tool in await server.list_tools():
            properties = tool.input_schema["properties"]
            for name in properties:
                for value in [
                    *WRONG,
                    *({inner: one} for inner in inner_fields(tool.input_schema, name) for one in WRONG),
                ]:
                    message = await refusal(server, tool.name, {name: value})
                    assert is_own_message(message), (tool.name, name, message[:300])
                    tried += bool(message)
        assert tried > 500


async def refusal(server: MCPServer, tool: str, arguments: dict[str, Any]) -> str:
    try:
        await server.call_tool(tool, arguments)
    except ToolError as error:
        return str(error)
    return ""


def inner_fields(schema: dict[str, Any], name: str) -> list[str]:
    found = re.findall(r"#/\$defs/(\w+)", str(schema["properties"][name]))
    return (
        [*(inner for model in found for inner in schema["$defs"][model].get("properties", ())), "nonsense"]
        if found
        else []
    )


def test_messages_of_every_option_of_every_command(harness: AppHarness) -> None:
    runner = harness.app.test_cli_runner()
    tried = 0
    for path, command in leaves(harness.app.cli):
        for option in command.params:
            if path[0] in {"limiter"} or not isinstance(option, click.Option) or option.is_flag:
                continue
            if isinstance(option.type, click.types.StringParamType):
                continue  # accepts any string; the tests of the commands test its meaning
            for value in ("abc", "0", "-1", "1.5", "9" * 30, "", "nan", "/nowhere/at/all"):
                with harness.app.app_context(), pytest.MonkeyPatch.context() as patch:
                    patch.setattr(command, "callback", lambda **_: None)
                    refused = runner.invoke(args=[*path, option.opts[0], value])
                assert is_own_message(refused.output), (path, value, refused.output)
                tried += refused.exit_code == 2
    assert tried > 50


def test_messages_of_every_setting(harness: AppHarness) -> None:
    for name, field in settings.Settings.model_fields.items():
        for value in ("abc", "-1", "1.5", "9" * 30, "\x00", "[", "://"):
            try:
                settings.load({**harness.environ, f"KATAVEN_{name.upper()}": value})
            except settings.SettingsError as error:
                for problem in error.problems:
                    assert is_own_message(problem), (name, get_args(field.annotation), problem)


def test_messages_of_http_errors(harness: AppHarness) -> None:
    for method, path, options, message in (
        ("GET", "/v1/agent", {}, "Did you mean /v1/agents?"),
        ("GET", "/agents", {}, "Did you mean /v1/agents?"),
        ("GET", f"/v1/api_keys/{'0' * 8}", {}, "Did you mean /v1/api-keys/{key_id}?"),
        ("GET", "/docs/", {}, "Did you mean /docs?"),
        ("GET", "/v1/docs", {}, "Did you mean /docs?"),
        ("GET", "/swagger", {}, "Did you mean /docs?"),
        ("GET", "/v1/keys", {}, "Did you mean /v1/api-keys?"),
        ("GET", "/v1/status", {}, "Did you mean /readyz?"),
        ("GET", "/v2/agents", {}, "Did you mean /v1/agents?"),
        ("GET", "/nothing", {}, "No resource exists at this path."),
        ("GET", f"/v1/{'agent' * 100}", {}, "No resource exists at this path."),
        ("PUT", "/v1/agents", {}, "This path supports GET, HEAD, OPTIONS, POST."),
    ):
        response = harness.caller().call(method, path, **options)
        assert response.get_json()["detail"].endswith(message), response.get_json()["detail"]


@pytest.mark.parametrize("header", misplaced_keys.HEADERS)
def test_key_in_another_header_is_reported_with_its_name(harness: AppHarness, header: str) -> None:
    key = harness.new_key("acme")
    response = harness.caller().call("GET", "/v1/me", headers={header.lower(): key})
    assert (response.status_code, response.get_json()["code"]) == (401, "missing_credential")
    assert response.get_json()["detail"].startswith(f"The `{header}` header is not supported.")
    both = {header: key, "Authorization": f"Bearer {key}"}
    assert harness.caller().call("GET", "/v1/me", headers=both).status_code == 200


@pytest.mark.parametrize("parameter", ["api_key", "apikey", "access_token", "key", "token"])
def test_key_in_the_url_is_refused_with_the_reason(harness: AppHarness, parameter: str) -> None:
    for query in (f"{parameter}={harness.new_key('acme')}", f"limit=1&{parameter}=x"):
        response = harness.caller().get(f"/v1/agents?{query}")
        assert (response.status_code, response.get_json()["code"]) == (401, "missing_credential")
        assert f"query parameter `{parameter}` is not supported" in response.get_json()["detail"]
        assert "URLs are logged" in response.get_json()["detail"]
    assert "query parameter" not in harness.caller().get("/v1/agents?monkey=1").get_json()["detail"]


def test_misspelled_field_gets_a_suggestion(alice: Any) -> None:
    def message(response: Any) -> dict[str, str]:
        return {error["field"]: error["message"] for error in response.get_json()["errors"]}

    wrong = {"nmae": "x", "systemPrompt": "x", "quite-something-else": 1}
    assert message(alice.post("/v1/agents", wrong)) == {
        "name": "is required",
        "nmae": "is not a known field; did you mean name?",
        "systemPrompt": "is not a known field; did you mean system_prompt?",
        "quite-something-else": "is not a known field",
    }
    assert message(alice.get("/v1/agents?page=2")) == {
        "page": "is not a known field; supported parameters: cursor, limit"
    }


def test_post_without_a_body_gets_a_clear_message(alice: Any) -> None:
    assert "The request has no body." in alice.post("/v1/agents").get_json()["detail"]
    empty = alice.post("/v1/agents", headers={"Content-Type": "application/json"}, data=b"")
    assert "is empty; send a JSON object" in empty.get_json()["detail"]


def test_restoring_a_revoked_key_is_rejected_with_a_next_step(alice: Any) -> None:
    key = alice.post("/v1/api-keys", {"name": "x", "expiry": "never"}).get_json()
    refused = alice.patch(f"/v1/api-keys/{key['id']}", {"disabled": False})
    assert refused.status_code == 400
    assert "create a new one" in refused.get_json()["detail"]


@pytest.mark.parametrize("name", ["生产环境", "Ünïcode", "🦜", "Ж", "a"])
def test_document_and_api_accept_the_same_names(harness: AppHarness, alice: Any, name: str) -> None:
    document = alice.get("/v1/openapi.json").get_json()
    field = document["components"]["schemas"]["AgentInput"]["properties"]["name"]
    assert re.search(field["pattern"], name)
    assert alice.post("/v1/agents", {"name": name}).status_code == 201


@pytest.mark.parametrize(
    "name", ["\u200b", "a\u009bb", "a\u0085b", "\u202eabc", "a\u2066b", "\u2028", " ", "\u3164", "a\tb"]
)
def test_document_and_api_reject_invisible_and_bidirectional_names(alice: Any, name: str) -> None:
    document = alice.get("/v1/openapi.json").get_json()
    field = document["components"]["schemas"]["AgentInput"]["properties"]["name"]
    assert not re.search(field["pattern"], name)
    refused = alice.post("/v1/agents", {"name": name})
    assert refused.status_code == 400
    assert refused.get_json()["errors"][0]["field"] == "name"
