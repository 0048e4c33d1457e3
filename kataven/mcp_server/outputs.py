"""What a model is shown where the API's own shape would be too much, or too little."""

from __future__ import annotations

from dataclasses import dataclass  # without slots: the library takes a slot for a default
from datetime import datetime

from kataven.client import Agent, Page, WidgetKey


@dataclass(frozen=True)
class AgentSummary:
    """An agent in a list, without its prompts, which may be long: kataven_get_agent shows them."""

    id: str
    name: str
    status: str
    category: str
    description: str | None
    updated_at: datetime


@dataclass(frozen=True)
class AgentList:
    """Agents, newest first. There are more if `next_cursor` is not null."""

    agents: list[AgentSummary]
    next_cursor: str | None


@dataclass(frozen=True)
class WidgetKeyList:
    """Widget keys, newest first. There are more if `next_cursor` is not null."""

    widget_keys: list[WidgetKey]
    next_cursor: str | None


@dataclass(frozen=True)
class Deleted:
    """The end of something."""

    id: str
    deleted: bool = True


def agent_list(page: Page[Agent]) -> AgentList:
    """A page of agents, in short."""
    return AgentList(
        [
            AgentSummary(one.id, one.name, one.status, one.category, one.description, one.updated_at)
            for one in page.items
        ],
        page.next_cursor,
    )


def widget_key_list(page: Page[WidgetKey]) -> WidgetKeyList:
    """A page of widget keys."""
    return WidgetKeyList(list(page.items), page.next_cursor)
