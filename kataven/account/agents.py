"""Operations on agents: create, list, read, change and delete."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from kataven.account import audit
from kataven.account.audit import Actor
from kataven.account.errors import NotFound
from kataven.account.models import Agent, AgentStatus
from kataven.account.paging import Page, Position, newest_first

Condition = Callable[[Agent], None]
"""Called with the locked row. Raises if a precondition of the caller does not hold."""


def create(session: Session, fields: Mapping[str, Any], actor: Actor) -> Agent:
    """Create an agent from validated fields."""
    agent = Agent(**fields, created_by=actor.label)
    session.add(agent)
    session.flush()
    audit.record(session, actor, "agent.created", agent.id, {"name": agent.name})
    return agent


def listing(session: Session, limit: int, after: Position | None) -> Page[Agent]:
    """A page of agents, newest first."""
    return newest_first(session, Agent, limit, after)


def search(
    session: Session, limit: int, start: Position | None, text: str = "", status: AgentStatus | None = None
) -> Page[Agent]:
    """A page of agents whose name or description contains `text`, or whose id it is, with the given status."""
    return newest_first(session, Agent, limit, start, *conditions(text, status))


def conditions(text: str, status: AgentStatus | None = None) -> list[ColumnElement[bool]]:
    """The conditions of `search`."""
    where: list[ColumnElement[bool]] = [] if status is None else [Agent.status == status]
    if text:
        found = [Agent.name.icontains(text, autoescape=True), Agent.description.icontains(text, autoescape=True)]
        with contextlib.suppress(ValueError):
            found.append(Agent.id == UUID(text))
        where.append(or_(*found))
    return where


def count_by_status(session: Session, text: str = "") -> Mapping[str, int]:
    """The number of agents by status, of those that `search` finds for `text`."""
    counted = select(Agent.status, func.count().label("agents")).where(*conditions(text)).group_by(Agent.status)
    return {row.status: row.agents for row in session.execute(counted)}


def used_values(session: Session, limit: int) -> tuple[Sequence[str], Sequence[str]]:
    """The language models and the voice ids of the account's agents, those of most agents first."""
    models = select(Agent.llm_model).group_by(Agent.llm_model).order_by(func.count().desc(), Agent.llm_model)
    voices = (
        select(Agent.voice_id)
        .where(Agent.voice_id.is_not(None))
        .group_by(Agent.voice_id)
        .order_by(func.count().desc(), Agent.voice_id)
    )
    read = session.scalars
    return read(models.limit(limit)).all(), [voice for voice in read(voices.limit(limit)) if voice is not None]


def names(session: Session, agent_ids: Collection[UUID]) -> Mapping[UUID, str]:
    """Names by id. Ids of agents that don't exist are omitted."""
    if not agent_ids:
        return {}
    found = select(Agent.id, Agent.name).where(Agent.id.in_(agent_ids))
    return {row.id: row.name for row in session.execute(found)}


def find(session: Session, text: str, limit: int) -> Sequence[Agent]:
    """Find agents by id or name, ignoring case. If no name is equal to `text`, returns names that contain it."""
    with contextlib.suppress(ValueError):
        if (by_id := session.get(Agent, UUID(text))) is not None:
            return [by_id]
    newest = select(Agent).order_by(Agent.created_at.desc(), Agent.id.desc()).limit(limit)
    exactly = session.scalars(newest.where(func.lower(Agent.name) == func.lower(text))).all()
    return exactly or session.scalars(newest.where(Agent.name.icontains(text, autoescape=True))).all()


def read(session: Session, agent_id: UUID) -> Agent:
    """Raises NotFound."""
    agent = session.get(Agent, agent_id)
    if agent is None:
        raise NotFound("agent")
    return agent


def change(
    session: Session, agent_id: UUID, fields: Mapping[str, Any], actor: Actor, condition: Condition | None = None
) -> Agent:
    """Set only the given fields. Raises NotFound, and the error of `condition` if it does not hold."""
    agent = _locked(session, agent_id, condition)
    changed = {name for name, value in fields.items() if getattr(agent, name) != value}
    for name in changed:
        setattr(agent, name, fields[name])
    if changed:
        session.flush()
        audit.record(session, actor, "agent.changed", agent_id, {"name": agent.name, "fields": sorted(changed)})
    return agent


def delete(session: Session, agent_id: UUID, actor: Actor, condition: Condition | None = None) -> None:
    """Raises NotFound and the error of `condition`. A widget key that is pinned to this agent then serves no page."""
    agent = _locked(session, agent_id, condition)
    session.delete(agent)
    audit.record(session, actor, "agent.deleted", agent_id, {"name": agent.name})


def _locked(session: Session, agent_id: UUID, condition: Condition | None) -> Agent:
    agent = session.get(Agent, agent_id, with_for_update=True)
    if agent is None:
        raise NotFound("agent")
    if condition is not None:
        condition(agent)
    return agent
