"""The widget's branding: one row per account, shared by all of its widget keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from kataven.account import audit
from kataven.account.audit import Actor
from kataven.account.models import WidgetPosition, WidgetSettings, WidgetTheme

ROW_ID = 1


@dataclass(frozen=True, slots=True)
class Branding:
    """The appearance of the widget. An account without changes has the defaults."""

    title: str | None = None
    launcher_label: str | None = None
    accent_color: str = "#1746a2"
    logo_url: str | None = None
    position: str = WidgetPosition.BOTTOM_RIGHT
    theme: str = WidgetTheme.AUTO


_FIELDS = tuple(field.name for field in fields(Branding))


def read(session: Session) -> Branding:
    """The stored branding, or the defaults."""
    row = session.get(WidgetSettings, ROW_ID)
    return Branding() if row is None else _shape(row)


def change(
    session: Session, given: Mapping[str, Any], actor: Actor, condition: Callable[[Branding], None] | None = None
) -> Branding:
    """Set only the given fields. Raises the error of `condition` if it does not hold."""
    session.execute(insert(WidgetSettings).values(id=ROW_ID).on_conflict_do_nothing())
    row = session.get_one(WidgetSettings, ROW_ID, with_for_update=True)
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
