"""What the API answers. Fields that this version does not know are left out, so a newer API breaks no older client.

Values from a list of choices (`status`, `voice_provider`…) are plain text for the same reason: the list may grow.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Agent:
    """A voice or chat agent."""

    id: str
    name: str
    description: str | None
    category: str
    status: str
    system_prompt: str | None
    greeting_message: str | None
    greeting_mode: str
    llm_model: str
    voice_provider: str
    voice_id: str | None
    auth_mode: str
    ringing_enabled: bool
    background_audio_enabled: bool
    background_audio_volume: float
    noise_suppression_enabled: bool
    created_at: datetime
    updated_at: datetime
    created_by: str
    etag: str | None = None
    """For `if_match`; None in lists."""


@dataclass(frozen=True, kw_only=True)
class AgentWidgetSettings:
    """Whether an agent may be embedded in web pages, and which visitors it takes: `guest`, `user` or `both`."""

    widget_enabled: bool
    auth_mode: str
    etag: str | None = None


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What a revocation answers: when it is out, no worker on any host accepts the key."""

    workers: int
    acknowledged: int
    ms: float


@dataclass(frozen=True, kw_only=True)
class WidgetKey:
    """A public key for web pages, without its text."""

    id: str
    name: str
    hint: str
    """The last 8 characters."""
    domain_allowlist: tuple[str, ...]
    agent_id: str | None
    disabled: bool
    created_at: datetime
    created_by: str
    disabled_at: datetime | None
    receipt: Receipt | None = None
    """Of a change that took something away from pages."""
    etag: str | None = None


@dataclass(frozen=True, kw_only=True)
class NewWidgetKey(WidgetKey):
    """A new key with its text, shown this once, and the snippet to paste into a page."""

    key: str = field(repr=False)
    snippet: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class RemovedWidgetKey:
    """The end of a widget key."""

    id: str
    outcome: str
    receipt: Receipt


@dataclass(frozen=True, kw_only=True)
class WidgetSettings:
    """How the widget looks on the account's pages."""

    title: str | None
    launcher_label: str | None
    accent_color: str
    logo_url: str | None
    position: str
    theme: str
    etag: str | None = None


@dataclass(frozen=True, kw_only=True)
class KeyLimits:
    """Lower limits of one key; a limit that is None is the account's."""

    per_minute: int | None
    per_hour: int | None
    per_day: int | None
    concurrent: int | None


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """What is shown of an API key: never its text."""

    id: str
    name: str
    hint: str
    status: str
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    disabled_at: datetime | None
    last_used_at: datetime | None
    limits: KeyLimits | None


@dataclass(frozen=True, kw_only=True)
class Credential:
    """What the caller showed."""

    kind: str
    id: str
    name: str
    expires_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A limit and what is left of it, this request counted."""

    limit: int
    remaining: int


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits that apply to the caller."""

    per_minute: Limit
    per_hour: Limit
    per_day: Limit
    concurrent: Limit


@dataclass(frozen=True, kw_only=True)
class Me:
    """Who is calling, for which account, and how much is left."""

    account: str
    account_name: str
    credential: Credential
    role: str | None
    limits: Limits


@dataclass(frozen=True)
class Page(Generic[Item]):
    """A part of a list, and the cursor of the part behind it: None on the last one."""

    items: tuple[Item, ...]
    next_cursor: str | None
