"""The API key occurs only in the `Authorization` header: in no repr, log or error, and in no attribute of an error."""

from __future__ import annotations

import copy
import logging
import pickle
import traceback
from collections.abc import Iterator

import pytest

from kataven.client import ApiError, ConfigurationError, KatavenError, asynchronous, sync
from kataven.identity import token as tokens
from kataven.identity.token import TokenKind
from tests.client.both import KINDS, client_of
from tests.client.scripted import Script, ScriptedResponse, scripted_server

AN_ID = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def script() -> Iterator[Script]:
    with scripted_server() as running:
        yield running


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def key() -> str:
    return tokens.generate(TokenKind.API_KEY, "acme").text


def failing(key: str) -> list[ScriptedResponse]:
    """One failing response per branch. Each one echoes the key back."""
    problem = {"code": f"echo_{key}", "detail": f"Bearer {key}", "request_id": key}
    problem["errors"] = [{"field": key, "message": key}]  # type: ignore[assignment]
    return [
        ScriptedResponse(hang_up=True),
        ScriptedResponse(400, problem),
        ScriptedResponse(401, {}, {"X-Request-ID": key}),
        ScriptedResponse(500, f"<html>{key}</html>".encode()),
        ScriptedResponse(200, f"<html>{key}</html>".encode()),
        ScriptedResponse(200, {"title": key}),
        ScriptedResponse(302, {}, {"Location": f"http://127.0.0.1/{key}"}),
        ScriptedResponse(200, b"junk", {"Content-Encoding": "gzip"}),
    ]


@pytest.mark.parametrize("n", range(8))
def test_errors_and_logs_never_contain_the_key(
    script: Script, kind: str, key: str, n: int, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    script.respond_with(failing(key)[n])
    with client_of(kind, key, base_url=script.url) as kataven, pytest.raises(KatavenError) as raised:
        kataven.widget_settings.get()
    assert script.requests[0].headers["Authorization"] == f"Bearer {key}"
    error = raised.value
    assert (error.__cause__, error.__context__) == (None, None)
    for text in (str(error), repr(error), repr(vars(error)), "".join(traceback.format_exception(error))):
        assert key not in text
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename.startswith(("kataven/client", sync.__file__, asynchronous.__file__)):
            assert key not in repr(frame.f_locals)
    if key not in str(failing(key)[n].headers):  # httpcore2 logs response headers at DEBUG
        assert key not in caplog.text
    assert key not in "".join(capfd.readouterr())


def test_errors_can_be_copied_and_pickled(script: Script, key: str) -> None:
    script.respond_with(ScriptedResponse(404, {"code": "not_found", "detail": "Nothing."}))
    with client_of("sync", key, base_url=script.url) as kataven, pytest.raises(ApiError) as raised:
        kataven.agents.get(AN_ID)
    for again in (copy.copy(raised.value), pickle.loads(pickle.dumps(raised.value))):  # noqa: S301
        assert (type(again), str(again)) == (type(raised.value), str(raised.value))


def test_client_repr_has_the_base_url_but_not_the_key(kind: str, key: str) -> None:
    with client_of(kind, key, base_url="https://api.example/v1") as kataven:
        assert "https://api.example/v1" in repr(kataven)
        inner = getattr(kataven, "_inner", kataven)
        for thing in (
            kataven,
            vars(inner),
            vars(inner._sender),
            inner._sender._http.headers,
            vars(inner._sender._http),
        ):
            assert key not in repr(thing)


def test_key_and_base_url_are_read_from_the_environment(
    script: Script, kind: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KATAVEN_API_KEY", f"{key}\n")
    monkeypatch.setenv("KATAVEN_BASE_URL", f"{script.url}/")
    script.respond_with(ScriptedResponse(404, {}))
    with client_of(kind) as kataven, pytest.raises(ApiError):
        kataven.me()
    assert script.requests[0].headers["Authorization"] == f"Bearer {key}"
    assert script.requests[0].path == "/v1/me"


def test_missing_key_raises_configuration_error(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KATAVEN_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="KATAVEN_API_KEY"), client_of(kind):
        pass


@pytest.mark.parametrize(
    "broken", ["junk", "sk_live_acme_short", "Bearer {key}", "{key}x", "{key}\r\nX: y", "{widget_key}"]
)
def test_malformed_key_is_refused_without_repeating_it(kind: str, key: str, broken: str) -> None:
    widget_key = tokens.generate(TokenKind.WIDGET_KEY, "acme").text
    given = broken.format(key=key, widget_key=widget_key)
    with pytest.raises(ConfigurationError) as raised, client_of(kind, given):
        pass
    assert given not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize(
    "url",
    [
        "http://api.kataven.ai/v1",
        "http://10.0.0.1/v1",
        "http://127.0.0.1.attacker.example/v1",
        "http://localhost.attacker.example/v1",
        "http://localhost@attacker.example/v1",
        "https://user:password@api.kataven.ai/v1",
        "https://api.kataven.ai/v1?x=y",
        "https://api.kataven.ai/v1#x",
        "https://",
        "https://api.kataven.ai:port/v1",
        "ftp://api.kataven.ai/v1",
        "api.kataven.ai/v1",
        "//api.kataven.ai/v1",
        "https://[::1",
        "https://api.kataven.ai",
        "http://127.0.0.1:8000/",
    ],
)
def test_unsafe_or_invalid_base_url_is_refused(kind: str, key: str, url: str) -> None:
    with pytest.raises(ConfigurationError), client_of(kind, key, base_url=url):
        pass


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1", "http://[::1]:1/v1", "http://localhost:1/v1", "https://x/v1"])
def test_loopback_and_https_base_urls_are_accepted(kind: str, key: str, url: str) -> None:
    with client_of(kind, key, base_url=url):
        pass


def test_http_proxy_of_the_environment_is_ignored_for_plain_http(
    script: Script, kind: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted_server() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        script.respond_with(ScriptedResponse(404, {}))
        with client_of(kind, key, base_url=script.url) as kataven, pytest.raises(ApiError):
            kataven.me()
        assert (len(script.requests), proxy.requests) == (1, [])


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_invalid_timeout_raises_configuration_error(kind: str, key: str, timeout: float) -> None:
    with pytest.raises(ConfigurationError, match="timeout"), client_of(kind, key, timeout=timeout):
        pass
