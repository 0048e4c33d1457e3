"""The key is in the one header that needs it, and nowhere else: no repr, log or error, nor what an error holds."""

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
from tests.client.scripted import Script, Scripted, scripted_server

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


def failing(key: str) -> list[Scripted]:
    """A way to fail for each branch, each server trying to hand the key back."""
    said = {"code": f"echo_{key}", "detail": f"Bearer {key}", "request_id": key}
    said["errors"] = [{"field": key, "message": key}]  # type: ignore[assignment]
    return [
        Scripted(hang_up=True),
        Scripted(400, said),
        Scripted(401, {}, {"X-Request-ID": key}),
        Scripted(500, f"<html>{key}</html>".encode()),
        Scripted(200, f"<html>{key}</html>".encode()),
        Scripted(200, {"title": key}),
        Scripted(302, {}, {"Location": f"http://127.0.0.1/{key}"}),
        Scripted(200, b"junk", {"Content-Encoding": "gzip"}),
    ]


@pytest.mark.parametrize("n", range(8))
def test_no_error_holds_the_key(
    script: Script, kind: str, key: str, n: int, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    script.will(failing(key)[n])
    with client_of(kind, key, base_url=script.url) as kataven, pytest.raises(KatavenError) as raised:
        kataven.widget_settings.get()
    assert script.asked[0].headers["Authorization"] == f"Bearer {key}"
    error = raised.value
    assert (error.__cause__, error.__context__) == (None, None)
    for text in (str(error), repr(error), repr(vars(error)), "".join(traceback.format_exception(error))):
        assert key not in text
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename.startswith(("kataven/client", sync.__file__, asynchronous.__file__)):
            assert key not in repr(frame.f_locals)
    if key not in str(failing(key)[n].headers):  # what a server's headers say is httpcore2's to log, at DEBUG
        assert key not in caplog.text
    assert key not in "".join(capfd.readouterr())


def test_errors_can_be_copied_and_sent_to_another_process(script: Script, key: str) -> None:
    script.will(Scripted(404, {"code": "not_found", "detail": "Nothing."}))
    with client_of("sync", key, base_url=script.url) as kataven, pytest.raises(ApiError) as raised:
        kataven.agents.get(AN_ID)
    for again in (copy.copy(raised.value), pickle.loads(pickle.dumps(raised.value))):  # noqa: S301
        assert (type(again), str(again)) == (type(raised.value), str(raised.value))


def test_a_client_shows_where_it_goes_and_nothing_more(kind: str, key: str) -> None:
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


def test_the_key_can_come_from_the_environment(
    script: Script, kind: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KATAVEN_API_KEY", f"{key}\n")
    monkeypatch.setenv("KATAVEN_BASE_URL", f"{script.url}/")
    script.will(Scripted(404, {}))
    with client_of(kind) as kataven, pytest.raises(ApiError):
        kataven.me()
    assert script.asked[0].headers["Authorization"] == f"Bearer {key}"
    assert script.asked[0].path == "/v1/me"


def test_without_a_key_nothing_begins(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KATAVEN_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="KATAVEN_API_KEY"), client_of(kind):
        pass


@pytest.mark.parametrize(
    "broken", ["junk", "sk_live_acme_short", "Bearer {key}", "{key}x", "{key}\r\nX: y", "{widget_key}"]
)
def test_a_key_of_the_wrong_shape_is_refused_without_repeating_it(kind: str, key: str, broken: str) -> None:
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
def test_a_key_goes_nowhere_that_it_could_be_read_on_its_way(kind: str, key: str, url: str) -> None:
    with pytest.raises(ConfigurationError), client_of(kind, key, base_url=url):
        pass


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1", "http://[::1]:1/v1", "http://localhost:1/v1", "https://x/v1"])
def test_this_machine_and_encrypted_places_are_fine(kind: str, key: str, url: str) -> None:
    with client_of(kind, key, base_url=url):
        pass


def test_a_proxy_of_the_environment_never_sees_a_key_in_the_clear(
    script: Script, kind: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted_server() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        script.will(Scripted(404, {}))
        with client_of(kind, key, base_url=script.url) as kataven, pytest.raises(ApiError):
            kataven.me()
        assert (len(script.asked), proxy.asked) == (1, [])


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_timeout_is_a_number_of_seconds(kind: str, key: str, timeout: float) -> None:
    with pytest.raises(ConfigurationError, match="timeout"), client_of(kind, key, timeout=timeout):
        pass
