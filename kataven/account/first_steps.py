"""Which of the first steps an account has taken. One statement, which reads no more than a row per step."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from kataven.account.models import Agent, ApiKey, WidgetKey


@dataclass(frozen=True, slots=True)
class FirstSteps:
    """What exists in an account."""

    agent: bool
    api_key: bool
    request: bool
    """Whether an API key was ever used."""
    widget_key: bool

    @property
    def complete(self) -> bool:
        """Whether the necessary steps are taken. Not every account uses the widget."""
        return self.agent and self.api_key and self.request


def first_steps(session: Session) -> FirstSteps:
    """The first steps of the account. A deleted agent or widget key counts as missing."""
    found = session.execute(
        select(
            exists(select(Agent.id)),
            exists(select(ApiKey.id)),
            exists(select(ApiKey.id).where(ApiKey.last_used_at.is_not(None))),
            exists(select(WidgetKey.id)),
        )
    ).one()
    return FirstSteps(*found)
