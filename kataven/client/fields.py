"""What may be sent, for type checkers. What is not given is not sent: the API keeps it, or takes its default."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict
from uuid import UUID


class AgentFields(TypedDict, total=False):
    """All of a new agent but its name."""

    description: str | None
    category: Literal["customer_support", "sales", "operations", "custom"]
    status: Literal["draft", "active", "paused", "archived"]
    system_prompt: str | None
    greeting_message: str | None
    greeting_mode: Literal["interruptible", "locked"]
    llm_model: str
    voice_provider: Literal["cartesia", "elevenlabs", "deepgram"]
    voice_id: str | None
    auth_mode: Literal["public", "authenticated"]
    ringing_enabled: bool
    background_audio_enabled: bool
    background_audio_volume: float
    noise_suppression_enabled: bool


class AgentChanges(AgentFields, total=False):
    """What can be changed of an agent."""

    name: str


class AgentWidgetChanges(TypedDict, total=False):
    """What can be changed of an agent's widget settings."""

    widget_enabled: bool
    auth_mode: Literal["guest", "user", "both"]


class WidgetKeyChanges(TypedDict, total=False):
    """What can be changed of a widget key."""

    name: str
    domain_allowlist: Sequence[str]
    agent_id: str | UUID | None
    disabled: bool


class WidgetSettingsChanges(TypedDict, total=False):
    """What can be changed of the widget's looks."""

    title: str | None
    launcher_label: str | None
    accent_color: str
    logo_url: str | None
    position: Literal["bottom-right", "bottom-left"]
    theme: Literal["auto", "light", "dark"]
