"""Tool results that differ from the API's responses, for example because lists would be too long for a model."""

from __future__ import annotations

from dataclasses import dataclass  # without slots: the library treats a slot as a default
from datetime import datetime

from kataven.client import Agent, Page, WidgetKey


@dataclass(frozen=True)
class AgentSummary:
    """An agent in a list, without its prompts, which can be long. kataven_get_agent returns them."""

    id: str
    name: str
    status: str
    category: str
    description: str | None
    updated_at: datetime


@dataclass(frozen=True)
class AgentList:
    """Agents, newest first. If `next_cursor` is not null, more pages follow."""

    agents: list[AgentSummary]
    next_cursor: str | None


@dataclass(frozen=True)
class WidgetKeyList:
    """Widget keys, newest first. If `next_cursor` is not null, more pages follow."""

    widget_keys: list[WidgetKey]
    next_cursor: str | None


@dataclass(frozen=True)
class Deleted:
    """The resource with this id was deleted."""

    id: str
    deleted: bool = True


def agent_list(page: Page[Agent]) -> AgentList:
    return AgentList(
        [
            AgentSummary(one.id, one.name, one.status, one.category, one.description, one.updated_at)
            for one in page.items
        ],
        page.next_cursor,
    )


def widget_key_list(page: Page[WidgetKey]) -> WidgetKeyList:
    return WidgetKeyList(list(page.items), page.next_cursor)
