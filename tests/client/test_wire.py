"""What both clients make of servers that are down, slow, odd or hostile."""

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
    ApiError,
    ConnectionFailed,
    KatavenError,
    NotFoundError,
    RateLimitError,
    RequestTimedOut,
    Retry,
    ServerError,
    UnavailableError,
    UnexpectedAnswer,
    asynchronous,
    sync,
)
from kataven.identity import token as tokens
from kataven.identity.token import TokenKind
from tests.client.both import KINDS, client_of
from tests.client.scripted import Script, Scripted, scripted_server

AN_ID = "00000000-0000-4000-8000-000000000000"
LOOKS = {
    "title": None,
    "launcher_label": None,
    "accent_color": "#1746a2",
    "logo_url": None,
    "position": "bottom-right",
    "theme": "auto",
}
OK = Scripted(body=LOOKS)
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
}


def busy(status: int = 429, **headers: str) -> Scripted:
    problem = {"code": "rate_limited", "detail": "per-minute (60) exceeded", "status": status}
    return Scripted(status, problem, {name.replace("_", "-"): text for name, text in headers.items()})


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
    """How long the clients would have slept."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(sync, "sleep", slept.append)
    monkeypatch.setattr(asynchronous, "sleep", sleep)
    return slept


# --- retries


def test_nothing_is_tried_again_unless_that_is_asked_for(script: Script, kind: str, key: str, waits: Any) -> None:
    script.will(busy(Retry_After="1"))
    with client_of(kind, key, base_url=script.url) as kataven, pytest.raises(RateLimitError):
        kataven.widget_settings.get()
    assert (len(script.asked), waits) == (1, [])


def test_retries_wait_as_long_as_was_asked_and_up_to_a_tenth_more(
    script: Script, kind: str, key: str, waits: list[float]
) -> None:
    script.will(busy(Retry_After="7"), busy(503, Retry_After="20"), OK)
    with client_of(kind, key, base_url=script.url, retry=True) as kataven:
        assert kataven.widget_settings.get().theme == "auto"
    assert 7 <= waits[0] <= 7.7
    assert 20 <= waits[1] <= 22


def test_the_third_refusal_is_raised(script: Script, kind: str, key: str, waits: list[float]) -> None:
    script.will(busy(), busy(), busy(Retry_After="3"), OK)
    with client_of(kind, key, base_url=script.url, retry=True) as kataven, pytest.raises(RateLimitError) as refusal:
        kataven.widget_settings.get()
    assert refusal.value.retry_after == 3
    assert (len(script.asked), len(waits)) == (3, 2)
    assert 0.5 <= waits[0] <= 0.55
    assert 1 <= waits[1] <= 1.1


def test_a_lost_answer_is_asked_for_again(script: Script, kind: str, key: str, waits: list[float]) -> None:
    script.will(Scripted(hang_up=True), Scripted(502, b"<html>"), OK)
    with client_of(kind, key, base_url=script.url, retry=True) as kataven:
        assert kataven.widget_settings.get().theme == "auto"
    assert len(waits) == 2


def test_a_wait_that_is_too_long_is_not_begun(script: Script, kind: str, key: str, waits: list[float]) -> None:
    script.will(busy(Retry_After="7200"))
    with client_of(kind, key, base_url=script.url, retry=True) as kataven, pytest.raises(RateLimitError) as refusal:
        kataven.widget_settings.get()
    assert (refusal.value.retry_after, waits) == (7200, [])


def test_writes_are_not_sent_again_unless_that_is_said(script: Script, kind: str, key: str, waits: list[float]) -> None:
    script.will(busy(Retry_After="1"), Scripted(hang_up=True))
    with client_of(kind, key, base_url=script.url, retry=True) as kataven:
        with pytest.raises(RateLimitError):
            kataven.widget_settings.update(theme="dark")
        with pytest.raises(ConnectionFailed):
            kataven.agents.delete(AN_ID)
    assert waits == []
    script.will(Scripted(hang_up=True), OK)
    with client_of(kind, key, base_url=script.url, retry=Retry(unsafe=True)) as kataven:
        assert kataven.widget_settings.update(theme="dark").theme == "auto"
    assert [asked.method for asked in script.asked] == ["PATCH", "DELETE", "PATCH", "PATCH"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 412, 500])
def test_what_another_try_would_not_change_is_raised_at_once(
    script: Script, kind: str, key: str, waits: list[float], status: int
) -> None:
    script.will(busy(status))
    with client_of(kind, key, base_url=script.url, retry=True) as kataven, pytest.raises(ApiError):
        kataven.widget_settings.get()
    assert waits == []


def test_retry_after_may_be_a_date(script: Script, kind: str, key: str) -> None:
    until = datetime.now(UTC) + timedelta(seconds=100)
    script.will(busy(Retry_After=format_datetime(until, usegmt=True)), busy(Retry_After="soon"))
    with client_of(kind, key, base_url=script.url) as kataven:
        with pytest.raises(RateLimitError) as refusal:
            kataven.widget_settings.get()
        assert 0 < refusal.value.retry_after <= 100
        with pytest.raises(RateLimitError) as refusal:
            kataven.widget_settings.get()
        assert refusal.value.retry_after is None


@pytest.mark.parametrize("asked", ["9" * 400, "-1", "1e3", "Mon, 01 Jan 99999 00:00:00 GMT", "\u00b2"])
def test_a_retry_after_that_is_none_is_as_if_absent(script: Script, kind: str, key: str, asked: str) -> None:
    script.will(busy(Retry_After=asked))
    with client_of(kind, key, base_url=script.url) as kataven, pytest.raises(RateLimitError) as refusal:
        kataven.widget_settings.get()
    assert refusal.value.retry_after is None


# --- answers


@pytest.mark.parametrize(
    ("status", "error"), [(404, NotFoundError), (418, ApiError), (500, ServerError), (503, UnavailableError)]
)
def test_a_code_of_the_future_is_an_error_of_its_status(
    script: Script, kind: str, key: str, status: int, error: type[ApiError]
) -> None:
    script.will(Scripted(status, {"code": "not_thought_of_yet", "detail": "New."}))
    with client_of(kind, key, base_url=script.url) as kataven, pytest.raises(error) as refusal:
        kataven.widget_settings.get()
    assert type(refusal.value) is error
    assert (refusal.value.code, refusal.value.detail) == ("not_thought_of_yet", "New.")


def test_an_error_page_of_a_proxy_is_an_error_too(script: Script, kind: str, key: str) -> None:
    script.will(Scripted(502, b"<html>Bad gateway</html>", {"Content-Type": "text/html"}))
    with client_of(kind, key, base_url=script.url) as kataven, pytest.raises(ServerError) as refusal:
        kataven.widget_settings.get()
    assert refusal.value.code == "http_502"


def test_fields_of_the_future_are_left_out(script: Script, kind: str, key: str) -> None:
    script.will(Scripted(body={**LOOKS, "theme": "sepia", "corners": "round"}))
    with client_of(kind, key, base_url=script.url) as kataven:
        looks = kataven.widget_settings.get()
    assert looks.theme == "sepia"
    assert not hasattr(looks, "corners")


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Welcome</html>",
        b"",
        b"\xff",
        b"null",
        [],
        {},
        {**LOOKS, "theme": None},
        {**LOOKS, "theme": 7},
        b"[" * 100_000,
        b'{"theme": ' + b"1" * 5_000 + b"}",
        {name: text for name, text in LOOKS.items() if name != "theme"},
    ],
)
def test_an_answer_that_is_not_the_apis(script: Script, kind: str, key: str, body: Any) -> None:
    script.will(Scripted(body=body))
    with client_of(kind, key, base_url=script.url) as kataven, pytest.raises(UnexpectedAnswer):
        kataven.widget_settings.get()


def test_bytes_that_are_not_what_their_header_says(script: Script, kind: str, key: str) -> None:
    script.will(Scripted(body=gzip.compress(b"{}")[:-9] + b"junk", headers={"Content-Encoding": "gzip"}))
    with client_of(kind, key, base_url=script.url) as kataven, pytest.raises(UnexpectedAnswer):
        kataven.widget_settings.get()


def test_a_redirect_is_not_followed(script: Script, kind: str, key: str) -> None:
    script.will(Scripted(307, {}, {"Location": f"{script.url}/me"}))
    with client_of(kind, key, base_url=script.url) as kataven, pytest.raises(UnexpectedAnswer, match="redirect"):
        kataven.widget_settings.get()
    assert len(script.asked) == 1


def test_the_next_page_is_asked_for_here_whatever_the_link_says(script: Script, kind: str, key: str) -> None:
    elsewhere = "http://attacker.example/v1/steal?limit=1&cursor=1-abc"
    script.will(Scripted(body=[KEY_LISTED], headers={"Link": f'<{elsewhere}>; rel="next", </x>; rel="canonical"'}))
    script.will(Scripted(body=[KEY_LISTED]))
    with client_of(kind, key, base_url=script.url) as kataven:
        assert len(list(kataven.api_keys.list(page_size=1))) == 2
    assert [asked.path for asked in script.asked] == ["/v1/api-keys?limit=1", "/v1/api-keys?limit=1&cursor=1-abc"]


def test_a_list_that_links_to_itself_ends(script: Script, kind: str, key: str) -> None:
    page = Scripted(body=[KEY_LISTED], headers={"Link": '<?cursor=same>; rel="next"'})
    script.will(page, page)
    with client_of(kind, key, base_url=script.url) as kataven, pytest.raises(UnexpectedAnswer, match="itself"):
        list(kataven.api_keys.list())


# --- connections


def test_connections_are_kept(script: Script, kind: str, key: str) -> None:
    script.will(OK, OK, OK)
    with client_of(kind, key, base_url=script.url) as kataven:
        for _ in range(3):
            kataven.widget_settings.get()
    assert len({asked.connection for asked in script.asked}) == 1


def test_a_server_that_does_not_listen_is_a_failed_connection(kind: str, key: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with client_of(kind, key, base_url=url) as kataven, pytest.raises(ConnectionFailed):
            kataven.me()


def test_a_server_that_does_not_respond_is_a_timeout(kind: str, key: str) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        with client_of(kind, key, base_url=url, timeout=0.05) as kataven, pytest.raises(RequestTimedOut):
            kataven.me()


@pytest.mark.parametrize("agent_id", ["", "..", "../api-keys", "x", "a/b", f"{AN_ID}/widget-settings", f"{AN_ID}?x"])
def test_only_ids_get_into_a_path(script: Script, kind: str, key: str, agent_id: str) -> None:
    with client_of(kind, key, base_url=script.url) as kataven, pytest.raises(ValueError, match="UUID"):
        kataven.agents.get(agent_id)
    assert script.asked == []


@pytest.mark.parametrize("if_match", ['"\u00fc"', '"a\nb"', "", " "])
def test_an_etag_that_is_none_is_not_sent(script: Script, kind: str, key: str, if_match: str) -> None:
    with client_of(kind, key, base_url=script.url) as kataven, pytest.raises(ValueError, match="if_match is an ETag"):
        kataven.agents.delete(AN_ID, if_match=if_match)
    assert script.asked == []


def test_an_allowlist_is_a_list(script: Script, kind: str, key: str) -> None:
    with client_of(kind, key, base_url=script.url) as kataven:
        with pytest.raises(ValueError, match="list"):
            kataven.widget_keys.create("Shop", domain_allowlist="acme.com")
        with pytest.raises(ValueError, match="list"):
            kataven.widget_keys.update(AN_ID, domain_allowlist="acme.com")
    assert script.asked == []


def test_an_agents_id_may_be_a_uuid_wherever_one_is_taken(script: Script, kind: str, key: str) -> None:
    with client_of(kind, key, base_url=script.url) as kataven:
        for pin in (UUID(AN_ID), AN_ID, None):
            script.will(busy(404))
            with pytest.raises(NotFoundError):
                kataven.widget_keys.update(AN_ID, agent_id=pin)
        with pytest.raises(ValueError, match="UUID"):
            kataven.widget_keys.update(AN_ID, agent_id="front desk")
    assert len(script.asked) == 3


def test_every_error_is_of_one_family() -> None:
    for error in (ApiError, ConnectionFailed, UnexpectedAnswer):
        assert issubclass(error, KatavenError)
