"""How the widget looks on the account's pages: one row, the same for all of its keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from kataven.account import audit
from kataven.account.audit import Actor
from kataven.account.models import WidgetPosition, WidgetSettings, WidgetTheme

ONLY = 1


@dataclass(frozen=True, slots=True)
class Branding:
    """What visitors see around the conversation. The defaults are those of an account that changed nothing."""

    title: str | None = None
    launcher_label: str | None = None
    accent_color: str = "#1746a2"
    logo_url: str | None = None
    position: str = WidgetPosition.BOTTOM_RIGHT
    theme: str = WidgetTheme.AUTO


_FIELDS = tuple(field.name for field in fields(Branding))


def read(session: Session) -> Branding:
    """What is set, or the defaults."""
    row = session.get(WidgetSettings, ONLY)
    return Branding() if row is None else _shape(row)


def change(
    session: Session, given: Mapping[str, Any], actor: Actor, condition: Callable[[Branding], None] | None = None
) -> Branding:
    """Set the given fields and no others, if the condition holds. Raises what the condition raises."""
    session.execute(insert(WidgetSettings).values(id=ONLY).on_conflict_do_nothing())
    row = session.get_one(WidgetSettings, ONLY, with_for_update=True)
    if condition is not None:
        condition(_shape(row))
    changed = sorted(name for name, value in given.items() if getattr(row, name) != value)
    for name in changed:
        setattr(row, name, given[name])
    if changed:
        session.flush()
        audit.record(session, actor, "widget_settings.changed", None, {"fields": changed})
    return _shape(row)


def _shape(row: WidgetSettings) -> Branding:
    return Branding(**{name: getattr(row, name) for name in _FIELDS})
