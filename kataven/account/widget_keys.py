"""Widget keys: the public identifiers that web pages carry."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.orm import Session

from kataven.account import audit
from kataven.account.audit import Actor
from kataven.account.models import WidgetKey
from kataven.identity.issuer import IssuedKey


def issue(
    session: Session,
    name: str,
    issued: IssuedKey,
    domain_allowlist: Sequence[str],
    agent_id: UUID | None,
    actor: Actor,
) -> WidgetKey:
    """Store a new widget key's hash."""
    key = WidgetKey(
        name=name,
        key_hash=issued.hash.digest,
        pepper_id=issued.hash.pepper_id,
        hint=issued.hint,
        domain_allowlist=list(domain_allowlist),
        agent_id=agent_id,
        created_by=actor.label,
    )
    session.add(key)
    session.flush()
    audit.record(
        session, actor, "widget_key.created", key.id, {"name": name, "domain_allowlist": list(domain_allowlist)}
    )
    return key
