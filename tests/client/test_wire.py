"""How both clients handle servers that are unavailable, slow, faulty or hostile."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import UUID

import pytest

from kataven.client import (
    AddressNotAllowedError,
    ApiError,
    BrowserUseError,
    ConflictError,
    ConnectionFailed,
    InsufficientScopeError,
    KatavenError,
    NotFoundError,
    PausedKeyError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimedOut,
    Retry,
    ServerError,
    UnavailableError,
    UnexpectedResponse,
    async_sender,
    sync_sender,
)
from kataven.identity import token as tokens
from kataven.identity.token import TokenKind
from tests.client.both import KINDS, client_of
from tests.client.scripted import Script, ScriptedResponse, scripted_server

AN_ID = "00000000-0000-4000-8000-000000000000"
WIDGET_SETTINGS = {
    "title": None,
    "launcher_label": None,
    "accent_color": "#1746a2",
    "logo_url": None,
    "position": "bottom-right",
    "theme": "auto",
}
OK = ScriptedResponse(body=WIDGET_SETTINGS)
KEY_LISTED = {
    "id": AN_ID,
    "name": "CI",
    "hint": "abcdefgh",
    "status": "active",
    "created_at": "2026-11-01T10:00:00.123456Z",
    "created_by": "jwt:alice",
    "expires_at": None,
    "disabled_at": None,
    "last_used_at": None,
    "limits": None,
    "scopes": ["agents:read"],
    "allowed_addresses": [],
    "denied_addresses": [],
    "from_browsers": False,
    "browser_use_at": None,
    "not_before": None,
    "paused_at": None,
    "secret_created_at": "2026-01-02T03:04:05Z",
    "rotation_due": False,
    "former_secrets": [],
}


def busy(status: int = 429, **headers: str) -> ScriptedResponse:
    problem = {"code": "rate_limited", "detail": "per-minute (60) exceeded", "status": status}
    return ScriptedResponse(status, problem, {name.replace("_", "-"): text for name, text in headers.items()})


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


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The delays that the clients would have slept, in seconds."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(sync_sender, "sleep", slept.append)
    monkeypatch.setattr(async_sender, "sleep", sleep)
    return slept


# --- retries


def test_requests_are_not_retried_by_default(script: Script, kind: str, key: str, waits: Any) -> None:
    script.respond_with(busy(Retry_After="1"))
    with client_of(kind, key, base_url=script.url) as kataven, pytest.raises(RateLimitError):
        kataven.widget_settings.get()
    assert (len(script.requests), waits) == (1, [])


def test_retries_wait_for_retry_after_plus_up_to_a_tenth(
    script: Script, kind: str, key: str, waits: list[float]
) -> None:
    script.respond_with(busy(Retry_After="7"), busy(503, Retry_After="20"), OK)
    with client_of(kind, key, base_url=script.url, retry=True) as kataven:
        assert kataven.widget_settings.get().theme == "auto"
    assert 7 <= waits[0] <= 7.7
    assert 20 <= waits[1] <= 22


def test_third_failed_attempt_is_raised(script: Script, kind: str, key: str, waits: list[float]) -> None:
    script.respond_with(busy(), busy(), busy(Retry_After="3"), OK)
    with client_of(kind, key, base_url=script.url, retry=True) as kataven, pytest.raises(RateLimitError) as raised:
        kataven.widget_settings.get()
    assert raised.value.retry_after == 3
    assert (len(script.requests), len(waits)) == (3, 2)
    assert 0.5 <= waits[0] <= 0.55
    assert 1 <= waits[1] <= 1.1


def test_read_without_a_response_is_retried(script: Script, kind: str, key: str, waits: list[float]) -> None:
    script.respond_with(ScriptedResponse(hang_up=True), ScriptedResponse(502, b"<html>"), OK)
    with client_of(kind, key, base_url=script.url, retry=True) as kataven:
        assert kataven.widget_settings.get().theme == "auto"
    assert len(waits) == 2


def test_retry_after_above_max_wait_is_raised_immediately(
    script: Script, kind: str, key: str, waits: list[float]
) -> None:
    script.respond_with(busy(Retry_After="7200"))
    with client_of(kind, key, base_url=script.url, retry=True) as kataven, pytest.raises(RateLimitError) as raised:
        kataven.widget_settings.get()
    assert (raised.value.retry_after, waits) == (7200, [])


def test_writes_are_retried_only_with_unsafe(script: Script, kind: str, key: str, waits: list[float]) -> None:
    script.respond_with(busy(Retry_After="1"), ScriptedResponse(hang_up=True))
    with client_of(kind, key, base_url=script.url, retry=True) as kataven:
        with pytest.raises(RateLimitError):
            kataven.widget_settings.update(theme="dark")
        with pytest.raises(ConnectionFailed):
            kataven.agents.delete(AN_ID)
    assert waits == []
    script.respond_with(ScriptedResponse(hang_up=True), OK)
    with client_of(kind, key, base_url=script.url, retry=Retry(unsafe=True)) as kataven:
        assert kataven.widget_settings.update(theme="dark").theme == "auto"
    assert [request.method for request in script.requests] == ["PATCH", "DELETE", "PATCH", "PATCH"]


def test_creations_are_retried_with_one_idempotency_key(
    script: Script, kind: str, key: str, waits: list[float]
) -> None:
    in_progress = ScriptedResponse(409, {"code": "idempotency_in_progress"}, {"Retry-After": "1"})
    mismatch = ScriptedResponse(409, {"code": "idempotency_mismatch"})
    script.respond_with(ScriptedResponse(hang_up=True), in_progress, mismatch, busy(Retry_After="1"), mismatch)
    with client_of(kind, key, base_url=script.url, retry=True) as kataven:
        for create in (lambda: kataven.agents.create("A"), lambda: kataven.widget_keys.create("B")):
            with pytest.raises(ConflictError):
                create()
    assert len(waits) == 3
    sent = [request.headers["Idempotency-Key"] for request in script.requests]
    assert sent[0] == sent[1] == sent[2] != sent[3] == sent[4]
    script.respond_with(OK)
    with client_of(kind, key, base_url=script.url) as kataven:
        kataven.widget_settings.get()
    assert "Idempotency-Key" not in script.requests[-1].headers


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 412, 500])
def test_permanent_errors_are_raised_immediately(
    script: Script, kind: str, key: str, waits: list[float], status: int
) -> None:
    script.respond_with(busy(status))
    with client_of(kind, key, base_url=script.url, retry=True) as kataven, pytest.raises(ApiError):
        kataven.widget_settings.get()
    assert waits == []


def test_retry_after_accepts_an_http_date(script: Script, kind: str, key: str) -> None:
    until = datetime.now(UTC) + timedelta(seconds=100)
    script.respond_with(busy(Retry_After=format_datetime(until, usegmt=True)), busy(Retry_After="soon"))
    with client_of(kind, key, base_url=script.url) as kataven:
        with pytest.raises(RateLimitError) as raised:
            kataven.widget_settings.get()
        assert 0 < raised.value.retry_after <= 100
        with pytest.raises(RateLimitError) as raised:
            kataven.widget_settings.get()
        assert raised.value.retry_after is None


@pytest.mark.parametrize("retry_after", ["9" * 400, "-1", "1e3", "Mon, 01 Jan 99999 00:00:00 GMT", "\u00b2"])
def test_invalid_retry_after_is_ignored(script: Script, kind: str, key: str, retry_after: str) -> None:
    script.respond_with(busy(Retry_After=retry_after))
    with client_of(kind, key, base_url=script.url) as kataven, pytest.raises(RateLimitError) as raised:
        kataven.widget_settings.get()
    assert raised.value.retry_after is None


# --- responses


@pytest.mark.parametrize(
    ("status", "error"), [(404, NotFoundError), (418, ApiError), (500, ServerError), (503, UnavailableError)]
)
def test_unknown_code_raises_the_error_of_its_status(
    script: Script, kind: str, key: str, status: int, error: type[ApiError]
) -> None:
    script.respond_with(ScriptedResponse(status, {"code": "not_thought_of_yet", "detail": "New."}))
    with client_of(kind, key, base_url=script.url) as kataven, pytest.raises(error) as raised:
        kataven.widget_settings.get()
    assert type(raised.value) is error
    assert (raised.value.code, raised.value.detail) == ("not_thought_of_yet", "New.")


def test_missing_scope_is_read_from_the_challenge(script: Script, kind: str, key: str) -> None:
    challenge = 'Bearer realm="kataven", error="insufficient_scope", scope="agents:write"'
    for headers, expected in (({"WWW-Authenticate": challenge}, "agents:write"), ({}, None)):
        script.respond_with(ScriptedResponse(403, {"code": "insufficient_scope", "detail": "No."}, headers))
        with client_of(kind, key, base_url=script.url) as kataven, pytest.raises(InsufficientScopeError) as raised:
            kataven.widget_settings.get()
        assert raised.value.scope == expected


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("paused_credential", PausedKeyError),
        ("address_not_allowed", AddressNotAllowedError),
        ("browser_use", BrowserUseError),
        ("revoked_credential", PermissionDeniedError),
    ],
)
def test_rejection_of_a_key_raises_its_own_error(
    script: Script, kind: str, key: str, code: str, error: type[ApiError]
) -> None:
    script.respond_with(ScriptedResponse(403, {"code": code, "detail": "No."}))
    with client_of(kind, key, base_url=script.url) as kataven, pytest.raises(PermissionDeniedError) as raised:
        kataven.widget_settings.get()
    assert type(raised.value) is error


def test_expiry_of_the_key_is_logged_once(
    script: Script, kind: str, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"Kataven-Key-Expires-In": str(3 * 86_400 + 5)}
    script.respond_with(*(ScriptedResponse(body=WIDGET_SETTINGS, headers=headers) for _ in range(2)))
    with client_of(kind, key, base_url=script.url) as kataven:
        kataven.widget_settings.get()
        kataven.widget_settings.get()
    warnings = [record.getMessage() for record in caplog.records if record.name == "kataven.client"]
    assert warnings == ["kataven: the API key expires in 3 days; create a new one and replace it"]
    assert key not in caplog.text


def test_error_page_of_a_proxy_raises_server_error(script: Script, kind: str, key: str) -> None:
    script.respond_with(ScriptedResponse(502, b"<html>Bad gateway</html>", {"Content-Type": "text/html"}))
    with client_of(kind, key, base_url=script.url) as kataven, pytest.raises(ServerError) as raised:
        kataven.widget_settings.get()
    assert raised.value.code == "http_502"


def test_unknown_response_fields_are_ignored(script: Script, kind: str, key: str) -> None:
    script.respond_with(ScriptedResponse(body={**WIDGET_SETTINGS, "theme": "sepia", "corners": "round"}))
    with client_of(kind, key, base_url=script.url) as kataven:
        settings = kataven.widget_settings.get()
    assert settings.theme == "sepia"
    assert not hasattr(settings, "corners")


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Welcome</html>",
        b"",
        b"\xff",
        b"null",
        [],
        {},
        {**WIDGET_SETTINGS, "theme": None},
        {**WIDGET_SETTINGS, "theme": 7},
        b"[" * 100_000,
        b'{"theme": ' + b"1" * 5_000 + b"}",
        {name: text for name, text in WIDGET_SETTINGS.items() if name != "theme"},
    ],
)
def test_response_that_does_not_come_from_the_api_raises_unexpected_response(
    script: Script, kind: str, key: str, body: Any
) -> None:
    script.respond_with(ScriptedResponse(body=body))
    with client_of(kind, key, base_url=script.url) as kataven, pytest.raises(UnexpectedResponse):
        kataven.widget_settings.get()


def test_undecodable_response_body_raises_unexpected_response(script: Script, kind: str, key: str) -> None:
    script.respond_with(
        ScriptedResponse(body=gzip.compress(b"{}")[:-9] + b"junk", headers={"Content-Encoding": "gzip"})
    )
    with client_of(kind, key, base_url=script.url) as kataven, pytest.raises(UnexpectedResponse):
        kataven.widget_settings.get()


def test_redirects_are_not_followed(script: Script, kind: str, key: str) -> None:
    script.respond_with(ScriptedResponse(307, {}, {"Location": f"{script.url}/me"}))
    with client_of(kind, key, base_url=script.url) as kataven, pytest.raises(UnexpectedResponse, match="redirect"):
        kataven.widget_settings.get()
    assert len(script.requests) == 1


def test_next_page_is_requested_from_the_base_url_whatever_the_link_contains(
    script: Script, kind: str, key: str
) -> None:
    elsewhere = "http://attacker.example/v1/steal?limit=1&cursor=1-abc"
    script.respond_with(
        ScriptedResponse(body=[KEY_LISTED], headers={"Link": f'<{elsewhere}>; rel="next", </x>; rel="canonical"'})
    )
    script.respond_with(ScriptedResponse(body=[KEY_LISTED]))
    with client_of(kind, key, base_url=script.url) as kataven:
        assert len(list(kataven.api_keys.list(page_size=1))) == 2
    assert [request.path for request in script.requests] == [
        "/v1/api-keys?limit=1",
        "/v1/api-keys?limit=1&cursor=1-abc",
    ]


def test_page_that_links_to_itself_raises_unexpected_response(script: Script, kind: str, key: str) -> None:
    page = ScriptedResponse(body=[KEY_LISTED], headers={"Link": '<?cursor=same>; rel="next"'})
    script.respond_with(page, page)
    with client_of(kind, key, base_url=script.url) as kataven, pytest.raises(UnexpectedResponse, match="itself"):
        list(kataven.api_keys.list())


# --- connections


def test_connections_are_reused(script: Script, kind: str, key: str) -> None:
    script.respond_with(OK, OK, OK)
    with client_of(kind, key, base_url=script.url) as kataven:
        for _ in range(3):
            kataven.widget_settings.get()
    assert len({request.connection for request in script.requests}) == 1


def test_closed_port_raises_connection_failed(kind: str, key: str) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/v1"
        with client_of(kind, key, base_url=url) as kataven, pytest.raises(ConnectionFailed):
            kataven.me()


def test_silent_server_raises_request_timed_out(kind: str, key: str) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        with client_of(kind, key, base_url=url, timeout=0.05) as kataven, pytest.raises(RequestTimedOut):
            kataven.me()


@pytest.mark.parametrize("agent_id", ["", "..", "../api-keys", "x", "a/b", f"{AN_ID}/widget-settings", f"{AN_ID}?x"])
def test_id_that_is_not_a_uuid_is_never_sent(script: Script, kind: str, key: str, agent_id: str) -> None:
    with client_of(kind, key, base_url=script.url) as kataven, pytest.raises(ValueError, match="UUID"):
        kataven.agents.get(agent_id)
    assert script.requests == []


@pytest.mark.parametrize("if_match", ['"\u00fc"', '"a\nb"', "", " "])
def test_if_match_that_is_not_an_etag_is_never_sent(script: Script, kind: str, key: str, if_match: str) -> None:
    with (
        client_of(kind, key, base_url=script.url) as kataven,
        pytest.raises(ValueError, match="if_match must be an ETag"),
    ):
        kataven.agents.delete(AN_ID, if_match=if_match)
    assert script.requests == []


def test_domain_allowlist_as_a_string_is_refused(script: Script, kind: str, key: str) -> None:
    with client_of(kind, key, base_url=script.url) as kataven:
        with pytest.raises(ValueError, match="list"):
            kataven.widget_keys.create("Shop", domain_allowlist="acme.com")
        with pytest.raises(ValueError, match="list"):
            kataven.widget_keys.update(AN_ID, domain_allowlist="acme.com")
    assert script.requests == []


def test_agent_id_accepts_uuid_objects_and_strings(script: Script, kind: str, key: str) -> None:
    with client_of(kind, key, base_url=script.url) as kataven:
        for pin in (UUID(AN_ID), AN_ID, None):
            script.respond_with(busy(404))
            with pytest.raises(NotFoundError):
                kataven.widget_keys.update(AN_ID, agent_id=pin)
        with pytest.raises(ValueError, match="UUID"):
            kataven.widget_keys.update(AN_ID, agent_id="front desk")
    assert len(script.requests) == 3


def test_all_errors_are_kataven_errors() -> None:
    for error in (ApiError, ConnectionFailed, UnexpectedResponse):
        assert issubclass(error, KatavenError)
