"""The inputs of agents, for the API and the Hub."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kataven.account.models import AgentStatus, AuthMode, Category, GreetingMode, VoiceProvider, WidgetAuthMode
from kataven.web.schema import Input, Prose, SingleLine, no_default, partial

Name = Annotated[str, SingleLine(200)]
ShortText = Annotated[str, SingleLine(200)]
Description = Annotated[str, Prose(2_000)]
Prompt = Annotated[str, Prose(100_000)]
Greeting = Annotated[str, Prose(5_000)]
Volume = Annotated[float, Field(ge=0, le=1, description="From 0 (silent) to 1.")]


class AgentInput(Input):
    """An agent to create."""

    server_set = frozenset({"id", "created_at", "updated_at", "created_by"})

    name: Name
    description: Description | None = Field(default=None, description="A note for the people who manage the agent.")
    category: Category = Category.CUSTOM
    status: AgentStatus = Field(default=AgentStatus.DRAFT, description="Only an `active` agent accepts visitors.")
    system_prompt: Prompt | None = Field(default=None, description="The instructions for the language model.")
    greeting_message: Greeting | None = Field(default=None, description="The first message of a conversation.")
    greeting_mode: GreetingMode = GreetingMode.INTERRUPTIBLE
    llm_model: ShortText = "gpt-4o"
    voice_provider: VoiceProvider = VoiceProvider.CARTESIA
    voice_id: ShortText | None = Field(default=None, description="A voice of the voice provider.")
    auth_mode: AuthMode = AuthMode.AUTHENTICATED
    ringing_enabled: bool = False
    background_audio_enabled: bool = False
    background_audio_volume: Volume = 0.5
    noise_suppression_enabled: bool = False


AgentPatch = partial(AgentInput, "AgentPatch", "The fields of an agent to update. Omitted fields keep their values.")


class AgentWidgetSettingsPatch(Input):
    """The widget settings of an agent to update. Omitted fields keep their values."""

    widget_enabled: bool = Field(default=False, json_schema_extra=no_default)
    auth_mode: WidgetAuthMode = Field(default=WidgetAuthMode.GUEST, json_schema_extra=no_default)
