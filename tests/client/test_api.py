"""Tests both clients against the real API under gunicorn."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from kataven.client import (
    Agent,
    AgentWidgetSettings,
    ApiKey,
    ArgumentError,
    AuthenticationError,
    ExplainedRequest,
    IdError,
    InvalidRequestError,
    Me,
    NotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    RateLimitError,
    WidgetKey,
    WidgetSettings,
)
from kataven.identity import token as tokens
from kataven.identity.token import TokenKind
from tests.client.both import KINDS, client_of
from tests.support.app_harness import AppHarness, new_account
from tests.support.gunicorn import Gunicorn
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def server(harness: AppHarness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    with Gunicorn(harness.environ, tmp_path_factory.mktemp("client") / "log") as running:
        yield running


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def kataven(harness: AppHarness, server: Gunicorn, kind: str) -> Iterator[Any]:
    with client_of(kind, harness.new_key("acme"), base_url=f"{server.url}/v1") as client:
        yield client


def test_me_returns_account_credential_and_quota(kataven: Any) -> None:
    me = kataven.me()
    assert isinstance(me, Me)
    assert (me.account, me.credential.kind, me.role) == ("acme", "api_key", None)
    assert 0 <= me.limits.per_minute.remaining <= me.limits.per_minute.limit


def test_agent_lifecycle(kataven: Any) -> None:
    created = kataven.agents.create("Front desk", category="sales", background_audio_volume=1)
    assert isinstance(created, Agent)
    assert (created.name, created.category, created.status, created.description) == (
        "Front desk",
        "sales",
        "draft",
        None,
    )
    assert created.created_at.tzinfo is not None
    assert abs((datetime.now(UTC) - created.created_at).total_seconds()) < 600
    assert kataven.agents.get(created.id) == created
    assert kataven.agents.get(uuid.UUID(created.id)) == created
    changed = kataven.agents.update(created.id, status="active", description="Answers the phone.")
    assert (changed.status, changed.description, changed.name) == ("active", "Answers the phone.", "Front desk")
    assert kataven.agents.delete(created.id) is None
    with pytest.raises(NotFoundError) as raised:
        kataven.agents.get(created.id)
    assert (raised.value.code, raised.value.status) == ("not_found", 404)
    assert raised.value.request_id


def test_if_match_prevents_lost_updates(kataven: Any) -> None:
    read = kataven.agents.create("Shared")
    kataven.agents.update(read.id, name="Theirs")
    for write in (
        lambda: kataven.agents.update(read.id, name="Ours", if_match=read.etag),
        lambda: kataven.agents.delete(read.id, if_match=read.etag),
    ):
        with pytest.raises(PreconditionFailedError):
            write()
    fresh = kataven.agents.get(read.id)
    assert fresh.name == "Theirs"
    assert kataven.agents.update(read.id, name="Ours", if_match=fresh.etag).name == "Ours"


def test_if_match_works_with_the_etag_of_a_compressed_response(kataven: Any) -> None:
    read = kataven.agents.create("Wordy", system_prompt="word " * 5_000)
    again = kataven.agents.get(read.id)
    assert again.system_prompt == read.system_prompt
    assert kataven.agents.update(read.id, name="x", if_match=again.etag).name == "x"


def test_agent_widget_settings_can_be_read_and_updated(kataven: Any) -> None:
    agent = kataven.agents.create("On the page")
    assert kataven.agents.get_widget_settings(agent.id).widget_enabled is False
    settings = kataven.agents.update_widget_settings(agent.id, widget_enabled=True, auth_mode="both")
    assert isinstance(settings, AgentWidgetSettings)
    assert (settings.widget_enabled, settings.auth_mode) == (True, "both")
    assert settings == kataven.agents.get_widget_settings(agent.id)


def test_widget_key_lifecycle(kataven: Any) -> None:
    agent = kataven.agents.create("Pinned")
    created = kataven.widget_keys.create("Shop", domain_allowlist=["acme.com", "*.acme.com"], agent_id=agent.id)
    assert created.key.startswith("pk_live_acme_")
    assert created.key in created.snippet
    assert created.key not in repr(created)
    assert created.domain_allowlist == ("acme.com", "*.acme.com")
    read = kataven.widget_keys.get(created.id)
    assert type(read) is WidgetKey
    assert (read.etag, read.hint, read.agent_id) == (created.etag, created.key[-8:], agent.id)
    narrowed = kataven.widget_keys.update(created.id, domain_allowlist=["acme.com"], agent_id=None)
    assert (narrowed.domain_allowlist, narrowed.agent_id) == (("acme.com",), None)
    assert narrowed.receipt.workers == narrowed.receipt.acknowledged
    assert kataven.widget_keys.update(created.id, disabled=True).disabled
    assert kataven.widget_keys.delete(created.id).outcome == "removed"


def test_widget_settings_can_be_read_and_updated(harness: AppHarness, server: Gunicorn, kind: str) -> None:
    account = f"sdk-widget-settings-{kind}"  # other tests use the settings of acme
    new_account(harness.services, account)
    with client_of(kind, harness.new_key(account), base_url=f"{server.url}/v1") as kataven:
        assert kataven.widget_settings.get().title is None
        changed = kataven.widget_settings.update(title="Ask us", accent_color="#AABBCC", theme="dark")
        assert isinstance(changed, WidgetSettings)
        assert (changed.title, changed.accent_color, changed.theme) == ("Ask us", "#aabbcc", "dark")
        assert kataven.widget_settings.get() == changed


def test_api_keys_are_read_only(kataven: Any) -> None:
    key = next(iter(kataven.api_keys.list()))
    assert isinstance(key, ApiKey)
    assert (key.status, key.limits) == ("active", None)
    assert kataven.api_keys.page(limit=1).items[0].hint
    assert not {"create", "update", "delete", "revoke"} & set(dir(kataven.api_keys))


def test_usage_and_requests_are_read(kataven: Any) -> None:
    with pytest.raises(NotFoundError) as missing:
        kataven.agents.get(uuid.uuid4())
    key_id = kataven.me().credential.id
    request = _logged(kataven, missing.value.request_id)
    assert isinstance(request, ExplainedRequest)
    assert (request.status, request.code, request.step, request.caller_id) == (404, "not_found", "handler", key_id)
    assert [step.result for step in request.steps][6:] == ["decided", "not_reached"]
    assert kataven.usage.get(caller=key_id, group_by="code", interval="minute").calls >= 1
    assert request.id in {one.id for one in kataven.requests.list(caller=key_id, outcome="invalid")}
    assert kataven.requests.page(caller=key_id, outcome="invalid", limit=1).items
    assert next(iter(kataven.requests.list(caller=key_id))).caller_id == key_id
    assert kataven.api_keys.usage(key_id).calls.invalid >= 1


def _logged(kataven: Any, request_id: str) -> ExplainedRequest:
    """The request, once a worker has written it."""
    found: list[ExplainedRequest] = []

    def is_logged() -> bool:
        with contextlib.suppress(NotFoundError):
            found.append(kataven.requests.get(request_id))
        return bool(found)

    wait_until(is_logged, 60)
    return found[0]


def test_times_and_request_ids_are_checked_before_they_are_sent(kataven: Any) -> None:
    with pytest.raises(ArgumentError, match="time zone"):
        kataven.usage.get(start=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(IdError):
        kataven.requests.get("../agents")


def test_list_iterates_over_all_pages_despite_concurrent_changes(
    harness: AppHarness, server: Gunicorn, kind: str
) -> None:
    account = f"sdk-{kind}"
    new_account(harness.services, account)
    with client_of(kind, harness.new_key(account), base_url=f"{server.url}/v1") as kataven:
        created = [kataven.agents.create(f"Agent {n}").id for n in range(7)]
        iterator = iter(kataven.agents.list(page_size=3))
        listed = [next(iterator).id]
        kataven.agents.create("Added during the iteration")
        kataven.agents.delete(created[4])  # the last row of the current page, which its cursor points to
        listed += [agent.id for agent in iterator]
        assert listed == created[::-1]
        first = kataven.agents.page(limit=2)
        assert len(first.items) == 2
        assert first.items[0].etag is None
        rest = kataven.agents.page(cursor=first.next_cursor, limit=200)
        assert rest.next_cursor is None
        assert len(rest.items) == 5
        assert list(kataven.widget_keys.list()) == []


def test_invalid_request_error_names_each_field(kataven: Any) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        kataven.agents.create("", categroy="sales")
    assert {problem.field for problem in raised.value.errors} == {"name", "categroy"}


def test_unknown_key_raises_authentication_error(server: Gunicorn, kind: str) -> None:
    unknown_key = tokens.generate(TokenKind.API_KEY, "acme").text
    with (
        client_of(kind, unknown_key, base_url=f"{server.url}/v1") as kataven,
        pytest.raises(AuthenticationError) as raised,
    ):
        kataven.me()
    assert raised.value.code == "invalid_credential"


def test_revoked_key_raises_permission_denied_error(harness: AppHarness, server: Gunicorn, kind: str) -> None:
    key = harness.new_key("acme", disabled_at=datetime.now(UTC))
    with client_of(kind, key, base_url=f"{server.url}/v1") as kataven, pytest.raises(PermissionDeniedError) as raised:
        kataven.me()
    assert raised.value.code == "revoked_credential"


def test_exceeded_limit_raises_rate_limit_error_with_retry_after(
    harness: AppHarness, server: Gunicorn, kind: str
) -> None:
    account = f"sdk-busy-{kind}"
    new_account(harness.services, account)
    harness.set_limits(account, per_minute=1)
    with client_of(kind, harness.new_key(account), base_url=f"{server.url}/v1") as kataven:
        kataven.me()
        with pytest.raises(RateLimitError) as raised:
            kataven.me()
    assert 0 < raised.value.retry_after <= 62
    assert "per-minute (1)" in str(raised.value)
