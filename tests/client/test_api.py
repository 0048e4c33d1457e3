"""Both clients against the real API behind gunicorn."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from kataven.client import (
    Agent,
    AgentWidgetSettings,
    ApiKey,
    AuthenticationError,
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


def test_who_am_i(kataven: Any) -> None:
    me = kataven.me()
    assert isinstance(me, Me)
    assert (me.account, me.credential.kind, me.role) == ("acme", "api_key", None)
    assert 0 <= me.limits.per_minute.remaining <= me.limits.per_minute.limit


def test_an_agent_from_its_beginning_to_its_end(kataven: Any) -> None:
    made = kataven.agents.create("Front desk", category="sales", background_audio_volume=1)
    assert isinstance(made, Agent)
    assert (made.name, made.category, made.status, made.description) == ("Front desk", "sales", "draft", None)
    assert made.created_at.tzinfo is not None
    assert abs((datetime.now(UTC) - made.created_at).total_seconds()) < 600
    assert kataven.agents.get(made.id) == made
    assert kataven.agents.get(uuid.UUID(made.id)) == made
    changed = kataven.agents.update(made.id, status="active", description="Answers the phone.")
    assert (changed.status, changed.description, changed.name) == ("active", "Answers the phone.", "Front desk")
    assert kataven.agents.delete(made.id) is None
    with pytest.raises(NotFoundError) as refusal:
        kataven.agents.get(made.id)
    assert (refusal.value.code, refusal.value.status) == ("not_found", 404)
    assert refusal.value.request_id


def test_an_update_is_not_lost(kataven: Any) -> None:
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


def test_an_update_is_not_lost_when_the_answer_was_compressed(kataven: Any) -> None:
    read = kataven.agents.create("Wordy", system_prompt="word " * 5_000)
    again = kataven.agents.get(read.id)
    assert again.system_prompt == read.system_prompt
    assert kataven.agents.update(read.id, name="x", if_match=again.etag).name == "x"


def test_widget_settings_of_an_agent(kataven: Any) -> None:
    agent = kataven.agents.create("On the page")
    assert kataven.agents.get_widget_settings(agent.id).widget_enabled is False
    settings = kataven.agents.update_widget_settings(agent.id, widget_enabled=True, auth_mode="both")
    assert isinstance(settings, AgentWidgetSettings)
    assert (settings.widget_enabled, settings.auth_mode) == (True, "both")
    assert settings == kataven.agents.get_widget_settings(agent.id)


def test_a_widget_key_from_its_beginning_to_its_end(kataven: Any) -> None:
    agent = kataven.agents.create("Pinned")
    made = kataven.widget_keys.create("Shop", domain_allowlist=["acme.com", "*.acme.com"], agent_id=agent.id)
    assert made.key.startswith("pk_live_acme_")
    assert made.key in made.snippet
    assert made.key not in repr(made)
    assert made.domain_allowlist == ("acme.com", "*.acme.com")
    read = kataven.widget_keys.get(made.id)
    assert type(read) is WidgetKey
    assert (read.etag, read.hint, read.agent_id) == (made.etag, made.key[-8:], agent.id)
    narrowed = kataven.widget_keys.update(made.id, domain_allowlist=["acme.com"], agent_id=None)
    assert (narrowed.domain_allowlist, narrowed.agent_id) == (("acme.com",), None)
    assert narrowed.receipt.workers == narrowed.receipt.acknowledged
    assert kataven.widget_keys.update(made.id, disabled=True).disabled
    assert kataven.widget_keys.delete(made.id).outcome == "removed"


def test_the_looks_of_the_widget(harness: AppHarness, server: Gunicorn, kind: str) -> None:
    account = f"sdk-looks-{kind}"  # other tests look at acme's
    new_account(harness.services, account)
    with client_of(kind, harness.new_key(account), base_url=f"{server.url}/v1") as kataven:
        assert kataven.widget_settings.get().title is None
        changed = kataven.widget_settings.update(title="Ask us", accent_color="#AABBCC", theme="dark")
        assert isinstance(changed, WidgetSettings)
        assert (changed.title, changed.accent_color, changed.theme) == ("Ask us", "#aabbcc", "dark")
        assert kataven.widget_settings.get() == changed


def test_api_keys_can_be_looked_at(kataven: Any) -> None:
    key = next(iter(kataven.api_keys.list()))
    assert isinstance(key, ApiKey)
    assert (key.status, key.limits) == ("active", None)
    assert kataven.api_keys.page(limit=1).items[0].hint
    assert not {"create", "update", "delete", "revoke"} & set(dir(kataven.api_keys))


def test_lists_are_walked_page_by_page_to_their_end(harness: AppHarness, server: Gunicorn, kind: str) -> None:
    account = f"sdk-{kind}"
    new_account(harness.services, account)
    with client_of(kind, harness.new_key(account), base_url=f"{server.url}/v1") as kataven:
        made = [kataven.agents.create(f"Agent {n}").id for n in range(7)]
        walk = iter(kataven.agents.list(page_size=3))
        seen = [next(walk).id]
        kataven.agents.create("Added meanwhile")
        kataven.agents.delete(made[4])  # the last row of the page that is being read: where its cursor stands
        seen += [agent.id for agent in walk]
        assert seen == made[::-1]
        first = kataven.agents.page(limit=2)
        assert len(first.items) == 2
        assert first.items[0].etag is None
        rest = kataven.agents.page(cursor=first.next_cursor, limit=200)
        assert rest.next_cursor is None
        assert len(rest.items) == 5
        assert list(kataven.widget_keys.list()) == []


def test_what_does_not_fit_names_its_field(kataven: Any) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        kataven.agents.create("", categroy="sales")
    assert {problem.field for problem in refusal.value.errors} == {"name", "categroy"}


def test_a_key_that_was_never_created(server: Gunicorn, kind: str) -> None:
    stray = tokens.generate(TokenKind.API_KEY, "acme").text
    with client_of(kind, stray, base_url=f"{server.url}/v1") as kataven, pytest.raises(AuthenticationError) as refusal:
        kataven.me()
    assert refusal.value.code == "invalid_credential"


def test_a_revoked_key(harness: AppHarness, server: Gunicorn, kind: str) -> None:
    key = harness.new_key("acme", disabled_at=datetime.now(UTC))
    with client_of(kind, key, base_url=f"{server.url}/v1") as kataven, pytest.raises(PermissionDeniedError) as refusal:
        kataven.me()
    assert refusal.value.code == "revoked_credential"


def test_over_the_limit(harness: AppHarness, server: Gunicorn, kind: str) -> None:
    account = f"sdk-busy-{kind}"
    new_account(harness.services, account)
    harness.set_limits(account, per_minute=1)
    with client_of(kind, harness.new_key(account), base_url=f"{server.url}/v1") as kataven:
        kataven.me()
        with pytest.raises(RateLimitError) as refusal:
            kataven.me()
    assert 0 < refusal.value.retry_after <= 62
    assert "per-minute (1)" in str(refusal.value)
