"""Filters of the audit log: by action, actor, target and time, and the values that exist.

From `account_0007` on, every filter uses an index. Before, only the newest events are searched for values that
exist, and the filters read the log from its newest event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, String, cast, func, literal, or_, select, text
from sqlalchemy.orm import InstrumentedAttribute, Session

from kataven.account.models import Agent, ApiKey, AuditEvent, WidgetKey
from kataven.account.paging import Page, Position, newest_first
from kataven.tenancy.directory import Tenant

SINCE = "account_0007"
FACET_EVENTS = 10_000
"""Before `account_0007`: the number of newest events whose actors and actions are offered as filters."""
MAX_FACETS = 500
MAX_TARGETS = 1_000
"""The number of keys and agents of each kind that are found by a part of their name, and of names in events."""

_ACTIONS = text(
    """WITH RECURSIVE found AS (
           (SELECT action FROM audit_events ORDER BY action LIMIT 1)
           UNION ALL
           SELECT (SELECT action FROM audit_events WHERE action > found.action ORDER BY action LIMIT 1)
           FROM found WHERE found.action IS NOT NULL
       )
       SELECT action FROM found WHERE action IS NOT NULL LIMIT :most"""
)
_ACTORS = text(
    """WITH RECURSIVE found AS (
           (SELECT actor, actor_name FROM audit_events ORDER BY actor, created_at DESC, id DESC LIMIT 1)
           UNION ALL
           SELECT next.actor, next.actor_name FROM found, LATERAL (
               SELECT actor, actor_name FROM audit_events WHERE actor > found.actor
               ORDER BY actor, created_at DESC, id DESC LIMIT 1
           ) AS next
       )
       SELECT actor, actor_name FROM found LIMIT :most"""
)
"""Each actor with the name in its newest event. Both statements read one row of an index per value."""
_NAME = """lower(detail ->> 'name') COLLATE "C\""""
_NAMED = "detail ->> 'name' IS NOT NULL AND target IS NOT NULL"
_TARGETS_BY_NAME = text(
    f"""WITH RECURSIVE found AS (
           (SELECT {_NAME} AS name, target FROM audit_events
            WHERE {_NAMED} AND {_NAME} >= :start AND {_NAME} < :beyond ORDER BY {_NAME}, target LIMIT 1)
           UNION ALL
           SELECT next.name, next.target FROM found, LATERAL (
               SELECT {_NAME} AS name, target FROM audit_events
               WHERE {_NAMED} AND ({_NAME}, target) > (found.name, found.target) AND {_NAME} < :beyond
               ORDER BY {_NAME}, target LIMIT 1
           ) AS next
       )
       SELECT target FROM found LIMIT :most"""  # noqa: S608  constants
)
"""The targets of events whose name starts with a text: one row of an index per name and target."""


@dataclass(frozen=True, slots=True)
class AuditFacets:
    """The actors and actions that are offered as filters."""

    actors: Mapping[str, str]
    """Names by label, such as `jwt:alice`."""
    actions: Sequence[str]
    indexed: bool = False
    """Whether the database has the indexes of `account_0007`."""
    complete: bool = False
    """Whether these are all values. Then prefixes are compared with them instead of with every event."""


@dataclass(frozen=True, slots=True)
class AuditSearch:
    """Filters of the audit log. Empty strings match everything; case is ignored."""

    action: str = ""
    """A prefix of the action, or of its part after the dot: `api_key`, `revoked`."""
    actor: str = ""
    """A prefix of the actor's label or name, with or without the kind: `jwt:alice`, `ali`."""
    target: str = ""
    """The id of the target, or its name: a part of the name of an existing key or agent, or the start of a name in an
    event."""
    since: datetime | None = None
    until: datetime | None = None
    """Exclusive."""


def has_indexes(tenant: Tenant) -> bool:
    """Whether the account's database has the indexes of `account_0007`, by the revision in the directory."""
    return tenant.revision is not None and tenant.revision >= SINCE


def facets(session: Session, *, indexed: bool) -> AuditFacets:
    """The available filters: all values that exist or, without the indexes, those of the newest events."""
    execute = session.connection().execute
    if indexed:
        actors = {row.actor: row.actor_name for row in execute(_ACTORS, {"most": MAX_FACETS + 1})}
        actions = [row.action for row in execute(_ACTIONS, {"most": MAX_FACETS + 1})]
        return AuditFacets(actors, actions, True, max(len(actors), len(actions)) <= MAX_FACETS)
    newest = select(AuditEvent.actor, AuditEvent.actor_name, AuditEvent.action)
    events = newest.order_by(AuditEvent.created_at.desc(), AuditEvent.id.desc()).limit(FACET_EVENTS).subquery()
    found = session.execute(select(events).distinct()).all()
    return AuditFacets({actor: name for actor, name, _ in found}, sorted({action for *_, action in found}))


@dataclass(frozen=True, slots=True)
class ResolvedSearch:
    """Filters in SQL."""

    where: Sequence[ColumnElement[bool]]
    too_many_names: bool = False
    """Whether more names match than are searched for, so that events are missing."""


def resolve(session: Session, wanted: AuditSearch, facets: AuditFacets) -> ResolvedSearch:
    """Look up the names and prefixes in `wanted`. A label or action from `facets` is compared exactly."""
    where, too_many = [], False
    if wanted.action:
        where.append(_of_action(wanted.action, facets))
    if wanted.actor:
        where.append(_of_actor(wanted.actor, facets))
    if wanted.target:
        condition, too_many = _of_target(session, wanted.target, indexed=facets.indexed)
        where.append(condition)
    if wanted.since is not None:
        where.append(AuditEvent.created_at >= wanted.since)
    if wanted.until is not None:
        where.append(AuditEvent.created_at < wanted.until)
    return ResolvedSearch(where, too_many)


def search(session: Session, limit: int, start: Position | None, wanted: ResolvedSearch) -> Page[AuditEvent]:
    """A page of matching events, newest first."""
    return newest_first(session, AuditEvent, limit, start, *wanted.where)


def _of_action(text: str, facets: AuditFacets) -> ColumnElement[bool]:
    if text in facets.actions:
        return AuditEvent.action == text
    if facets.complete:
        return AuditEvent.action.in_([action for action in facets.actions if _starts(action, text, ".")])
    return _has_prefix(AuditEvent.action, text, ".")


def _of_actor(text: str, facets: AuditFacets) -> ColumnElement[bool]:
    if text in facets.actors:
        return AuditEvent.actor == text
    if facets.complete:
        folded = text.casefold()
        return AuditEvent.actor.in_(
            [
                label
                for label, name in facets.actors.items()
                if _starts(label, text, ":") or name.casefold().startswith(folded)
            ]
        )
    by_name = AuditEvent.actor_name.istartswith(text, autoescape=True)
    return or_(_has_prefix(AuditEvent.actor, text, ":"), by_name)


def _of_target(session: Session, text: str, *, indexed: bool) -> tuple[ColumnElement[bool], bool]:
    """An id is compared exactly, and a name is resolved to ids. Returns also whether more names match."""
    folded = text.lower()
    if _is_id(text):
        return AuditEvent.target == folded, False
    if not indexed:
        named = AuditEvent.detail["name"].astext.icontains(text, autoescape=True)
        return or_(AuditEvent.target == folded, named), False
    existing = [session.scalars(_ids_by_name(model, text)).all() for model in (ApiKey, WidgetKey, Agent)]
    # `\U0010ffff` is the last character, so this is the range of all names that start with the text.
    bounds = {"start": folded, "beyond": f"{folded}\U0010ffff", "most": MAX_TARGETS + 1}
    in_events = session.connection().execute(_TARGETS_BY_NAME, bounds).scalars().all()
    ids = {folded, *(str(row) for rows in existing for row in rows), *in_events}
    return AuditEvent.target.in_(sorted(ids)), any(len(rows) > MAX_TARGETS for rows in (*existing, in_events))


def _ids_by_name(model: Any, text: str) -> Select[UUID]:
    return select(model.id).where(model.name.icontains(text, autoescape=True)).limit(MAX_TARGETS + 1)


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return len(text) == 36


def _starts(value: str, text: str, after: str) -> bool:
    """Whether the value, or its part after the separator `after`, starts with `text`."""
    folded, wanted = value.casefold(), text.casefold()
    return folded.startswith(wanted) or folded.partition(after)[2].startswith(wanted)


def _has_prefix(column: InstrumentedAttribute[str], text: str, after: str) -> ColumnElement[bool]:
    """`_starts` in SQL."""
    return or_(
        column.istartswith(text, autoescape=True), func.split_part(column, after, 2).istartswith(text, autoescape=True)
    )


def names_of(session: Session, ids: Sequence[UUID]) -> Mapping[UUID, tuple[str, str]]:
    """The kind (`api_key`, `widget_key`, `agent`) and the name of the keys and agents that exist, in one statement."""
    if not ids:
        return {}
    first, *others = (
        select(model.id, literal(kind, String).label("kind"), cast(model.name, String).label("name")).where(
            model.id.in_(ids)
        )
        for kind, model in (("api_key", ApiKey), ("widget_key", WidgetKey), ("agent", Agent))
    )
    return {row.id: (row.kind, row.name) for row in session.execute(first.union_all(*others))}


def every_event(session_of: Any, wanted: AuditSearch, size: int, *, indexed: bool) -> Iterator[Sequence[AuditEvent]]:
    """All matching events, newest first, `size` at a time. Each part is read in its own session: a slow reader of the
    result holds neither a transaction nor a connection."""
    start: Position | None = None
    resolved: ResolvedSearch | None = None
    while True:
        with session_of() as session:
            if resolved is None:
                resolved = resolve(session, wanted, facets(session, indexed=indexed))
            page = search(session, size, start, resolved)
            rows = list(page.rows)
            session.expunge_all()
        yield rows
        if page.next is None:
            return
        start = page.next
