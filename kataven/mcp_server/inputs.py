"""What a model may send, described for it. What it leaves out is not sent, so it stays as it is."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from kataven.validation import Shaped

AgentId = Annotated[str, Field(description="The agent's id (a UUID), from kataven_list_agents.")]
WidgetKeyId = Annotated[str, Field(description="The widget key's id (a UUID), from kataven_list_widget_keys.")]
IfMatch = Annotated[
    str | None,
    Field(description="The `etag` from your last reading: the call is then refused if somebody changed it since."),
]
Cursor = Annotated[str | None, Field(description="`next_cursor` of the page before; leave it out for the first page.")]
PageSize = Annotated[int, Field(ge=1, le=100, description="How many at most.")]
Domains = Annotated[
    list[str],
    Field(
        description="Pages that may carry the key: `acme.com` (that host, https), `*.acme.com` (any subdomain, not "
        "acme.com itself), `https://acme.com:8443`, `localhost:*`. An empty list blocks the key."
    ),
]

Color = Annotated[str, Shaped("^#[0-9a-fA-F]{6}$", "must be a color like #1746a2: # and six hexadecimal digits")]


class Fields(BaseModel):
    """Fields of which any may be left out."""

    model_config = ConfigDict(extra="forbid")

    def given(self) -> Any:
        """Those that were sent, null included."""
        return self.model_dump(exclude_unset=True)


class AgentFields(Fields):
    """An agent, all but its name."""

    description: str | None = Field(None, description="For people who manage it; up to 2,000 characters.")
    category: Literal["customer_support", "sales", "operations", "custom"] = "custom"
    status: Literal["draft", "active", "paused", "archived"] = Field(
        "draft", description="Only an active agent takes visitors."
    )
    system_prompt: str | None = Field(None, description="What the agent is told to be; up to 100,000 characters.")
    greeting_message: str | None = Field(None, description="What it says first; up to 5,000 characters.")
    greeting_mode: Literal["interruptible", "locked"] = "interruptible"
    llm_model: str = "gpt-4o"
    voice_provider: Literal["cartesia", "elevenlabs", "deepgram"] = "cartesia"
    voice_id: str | None = Field(None, description="A voice of that provider.")
    auth_mode: Literal["public", "authenticated"] = "authenticated"
    ringing_enabled: bool = False
    background_audio_enabled: bool = False
    background_audio_volume: float = Field(0.5, ge=0, le=1)
    noise_suppression_enabled: bool = False


class AgentChanges(AgentFields):
    """Fields of an agent to change; the others stay as they are."""

    name: str = Field("", min_length=1, max_length=200)


class AgentWidgetChanges(Fields):
    """Whether web pages may embed the agent, and which visitors it takes."""

    widget_enabled: bool = False
    auth_mode: Literal["guest", "user", "both"] = Field(
        "guest", description="guest: anybody; user: people for whom the customer's own server vouches."
    )


class WidgetKeyChanges(Fields):
    """Fields of a widget key to change; the others stay as they are."""

    name: str = Field("", min_length=1, max_length=200)
    domain_allowlist: Domains = Field(default_factory=list)
    agent_id: str | None = Field(None, description="Pin the key to one agent; null: any agent of the account.")
    disabled: bool = False


class WidgetSettingsChanges(Fields):
    """Looks of the widget to change; the others stay as they are."""

    title: str | None = Field(None, description="Above the conversation; null: the agent's name.")
    launcher_label: str | None = Field(None, description="Beside the launcher's icon; null: the icon alone.")
    accent_color: Color = Field("#1746a2", description="Six hexadecimal digits, like #1746a2.")
    logo_url: str | None = Field(None, description="An https URL.")
    position: Literal["bottom-right", "bottom-left"] = "bottom-right"
    theme: Literal["auto", "light", "dark"] = "auto"
