"""Agents: create, list, read, change, delete."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from kataven.account import audit
from kataven.account.audit import Actor
from kataven.account.errors import NotFound
from kataven.account.models import Agent
from kataven.account.paging import Page, Position, newest_first

Condition = Callable[[Agent], None]
"""Looks at a row once it is locked, and raises if it is not as the caller wants it."""


def create(session: Session, fields: Mapping[str, Any], actor: Actor) -> Agent:
    """A new agent from validated fields."""
    agent = Agent(**fields, created_by=actor.label)
    session.add(agent)
    session.flush()
    audit.record(session, actor, "agent.created", agent.id, {"name": agent.name})
    return agent


def listing(session: Session, limit: int, after: Position | None) -> Page[Agent]:
    """Newest first."""
    return newest_first(session, Agent, limit, after)


def read(session: Session, agent_id: UUID) -> Agent:
    """Raises NotFound."""
    agent = session.get(Agent, agent_id)
    if agent is None:
        raise NotFound("agent")
    return agent


def change(
    session: Session, agent_id: UUID, fields: Mapping[str, Any], actor: Actor, condition: Condition | None = None
) -> Agent:
    """Set the given fields and no others, if the condition holds. Raises NotFound, and what the condition raises."""
    agent = _locked(session, agent_id, condition)
    changed = {name for name, value in fields.items() if getattr(agent, name) != value}
    for name in changed:
        setattr(agent, name, fields[name])
    if changed:
        session.flush()
        audit.record(session, actor, "agent.changed", agent_id, {"fields": sorted(changed)})
    return agent


def delete(session: Session, agent_id: UUID, actor: Actor, condition: Condition | None = None) -> None:
    """Raises NotFound, and what the condition raises. A widget key that is pinned to this agent then serves nothing."""
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
