"""Invalid arguments raise an SDK error that names the argument, before a request is sent."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

import app as factory
from kataven import settings
from kataven.client import (
    AsyncKatavenClient,
    ClientClosedError,
    ConfigurationError,
    KatavenClient,
    KatavenError,
    Retry,
    UnexpectedResponse,
)
from kataven.identity import token as tokens
from kataven.identity.token import TokenKind
from kataven.web.services import EXTENSION
from tests.client.both import KINDS, client_of
from tests.client.scripted import Script, ScriptedResponse, scripted_server
from tests.client.test_wire import AN_ID
from tests.support.app_harness import AppHarness

KEY = tokens.generate(TokenKind.API_KEY, "acme").text
WRONG: list[Any] = [
    None,
    "5",
    "",
    3,
    0,
    -1,
    1.5,
    float("nan"),
    float("inf"),
    b"x",
    [],
    {},
    object(),
    datetime.now,
    True,
]
NAMES_OF_CLASSES = re.compile(
    r"\b(NoneType|str|int|float|bytes|dict|object|datetime)\b|Traceback|instances of|argument of"
)
CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "get": lambda kataven, value: kataven.agents.get(value),
    "if_match": lambda kataven, value: kataven.agents.update(AN_ID, if_match=value, name="x"),
    "if_match of delete": lambda kataven, value: kataven.widget_keys.delete(AN_ID, if_match=value),
    "name": lambda kataven, value: kataven.agents.create(value),
    "field": lambda kataven, value: kataven.agents.update(AN_ID, description=value),
    "nested": lambda kataven, value: kataven.agents.update(AN_ID, description=[value]),
    "half a character": lambda kataven, value: kataven.agents.create("\ud800"),
    "domain_allowlist": lambda kataven, value: kataven.widget_keys.create("x", domain_allowlist=value),
    "agent_id": lambda kataven, value: kataven.widget_keys.create("x", agent_id=value),
    "page_size": lambda kataven, value: next(iter(kataven.agents.list(page_size=value))),
    "limit": lambda kataven, value: kataven.agents.page(limit=value, cursor=value),
}


@pytest.fixture(scope="module")
def script() -> Iterator[Script]:
    with scripted_server() as running:
        yield running


def error_of(make: Callable[[dict[str, Any]], object], options: dict[str, Any]) -> KatavenError | None:
    """The SDK error that `make` raises. Any other exception fails the test."""
    try:
        make(options)
    except KatavenError as error:
        return error
    return None


@pytest.mark.parametrize("client", [KatavenClient, AsyncKatavenClient])
@pytest.mark.parametrize("name", ["api_key", "base_url", "timeout", "retry"])
def test_invalid_client_arguments_raise_configuration_error(client: Any, name: str) -> None:
    refused = 0
    for value in WRONG:
        error = error_of(lambda options: client(**options), {"api_key": KEY, name: value})
        assert isinstance(error, ConfigurationError | None)
        assert NAMES_OF_CLASSES.search(str(error or "")) is None, str(error)
        refused += error is not None
    assert refused > 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": None}, "`timeout` must be a number of seconds"),
        ({"timeout": "5"}, "`timeout` must be a number of seconds"),
        ({"retry": 3}, r"write Retry\(tries=3\)"),
        ({"api_key": f'"{KEY}"'}, "in quotes"),
        ({"api_key": KEY[:-5]}, "44 of 49"),
        ({"api_key": b"sk_live"}, "`api_key` must be a string"),
    ],
)
def test_configuration_error_names_the_argument_and_the_fix(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        KatavenClient(**{"api_key": KEY, **options})


@pytest.mark.parametrize("field", ["tries", "unsafe", "max_wait_seconds"])
def test_invalid_retry_arguments_raise_value_error_naming_the_field(field: str) -> None:
    refused = 0
    for value in WRONG:
        error = error_of(lambda options: Retry(**options), {field: value})
        assert isinstance(error, ValueError | None)
        assert error is None or str(error).startswith(f"{field} must be")
        refused += error is not None
    assert refused > 8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("call", CALLS)
def test_invalid_method_arguments_raise_kataven_error_without_class_names(script: Script, kind: str, call: str) -> None:
    with client_of(kind, KEY, base_url=script.url) as kataven:
        for value in WRONG:
            script.respond_with(ScriptedResponse(400, {"code": "invalid_request", "detail": "no"}))
            with pytest.raises(KatavenError) as refused:
                CALLS[call](kataven, value)
            assert NAMES_OF_CLASSES.search(str(refused.value)) is None, str(refused.value)
            script.responses.clear()


@pytest.mark.parametrize("kind", KINDS)
def test_agent_as_if_match_is_refused_with_a_hint(script: Script, kind: str) -> None:
    with (
        client_of(kind, KEY, base_url=script.url) as kataven,
        pytest.raises(ValueError, match=r"`agent\.etag`, not the agent"),
    ):
        kataven.agents.delete(AN_ID, if_match=object())


@pytest.mark.parametrize("kind", KINDS)
def test_closed_client_raises_client_closed_error(script: Script, kind: str) -> None:
    with client_of(kind, KEY, base_url=script.url) as kataven:
        kataven.close()
        with pytest.raises(ClientClosedError, match="is closed"):
            kataven.me()


@pytest.mark.parametrize("kind", KINDS)
def test_base_url_of_the_hub_is_reported(harness: AppHarness, script: Script, kind: str) -> None:
    hub = factory.create_hub(settings.load({**harness.environ, "KATAVEN_HUB_URL": "http://localhost:8000"}))
    try:
        page = hub.test_client().get("/v1/me", base_url="http://localhost:8000")
    finally:
        hub.extensions[EXTENSION].stop()
    headers = {"Content-Type": page.headers["Content-Type"]}
    script.respond_with(
        ScriptedResponse(page.status_code, page.data, headers), ScriptedResponse(404, b"<title>Else</title>", headers)
    )
    with client_of(kind, KEY, base_url=script.url) as kataven:
        with pytest.raises(UnexpectedResponse, match="points to the Hub, not to the API"):
            kataven.me()
        with pytest.raises(KatavenError, match="does not come from the API"):
            kataven.me()
