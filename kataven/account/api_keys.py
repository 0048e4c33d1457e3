"""Operations on API keys: issue, list, rename, limit, revoke and remove.

These functions change rows only. After `revoke` or `cap_expiry`, the caller must commit and then wait for the receipt
of `kataven.revocation`, which invalidates the key in every worker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session, undefer_group

from kataven.account import audit
from kataven.account.audit import Actor
from kataven.account.errors import Conflict, LimitAboveAccount, NotFound, WiderScopes
from kataven.account.key_status import ANY_COLUMNS, KeyStatus, has_status, moment_in
from kataven.account.models import KEY_COLUMNS, KEY_RULES, ApiKey, FormerSecret
from kataven.account.paging import Page, Position, newest_first
from kataven.account.rotation import has_former_secrets
from kataven.identity import scopes
from kataven.identity.issuer import IssuedKey
from kataven.identity.peppers import KeyHash
from kataven.ratelimit.policy import LIMIT_FIELDS, KeyLimits, Limits, contradictions


@dataclass(frozen=True, slots=True)
class KeyRules:
    """What a key may do, from where and since when. The default is full access from everywhere, except browsers."""

    scopes: tuple[str, ...] | None = None
    """None: full access."""
    allowed_addresses: tuple[str, ...] = ()
    denied_addresses: tuple[str, ...] = ()
    from_browsers: bool = False
    not_before: datetime | None = None

    @classmethod
    def of(cls, key: ApiKey) -> KeyRules:
        """The rules of a stored key."""
        return cls.of_columns(key.columns)

    @classmethod
    def of_columns(cls, columns: Mapping[str, Any]) -> KeyRules:
        """The rules in a row as JSON (`KEY_COLUMNS`). A database before `account_0003` has no rules."""
        if not has_rules(columns):
            return DEFAULT_RULES
        scopes = columns["scopes"]
        return cls(
            None if scopes is None else tuple(scopes),
            tuple(columns["allowed_addresses"]),
            tuple(columns["denied_addresses"]),
            columns["from_browsers"],
            moment_in(columns, "not_before"),
        )

    def as_columns(self) -> dict[str, Any]:
        """The columns of `api_keys`."""
        return {
            "scopes": None if self.scopes is None else list(self.scopes),
            "allowed_addresses": list(self.allowed_addresses),
            "denied_addresses": list(self.denied_addresses),
            "from_browsers": self.from_browsers,
            "not_before": self.not_before,
        }

    def as_json(self) -> dict[str, Any]:
        """For the audit log."""
        moment = None if self.not_before is None else self.not_before.isoformat()
        return {**asdict(self), "not_before": moment}


DEFAULT_RULES = KeyRules()


def has_rules(columns: Mapping[str, Any]) -> bool:
    """Whether a row as JSON has columns for rules. False before `account_0003`."""
    return "scopes" in columns


def issue(
    session: Session,
    name: str,
    issued: IssuedKey,
    expires_at: datetime | None,
    actor: Actor,
    rules: KeyRules = DEFAULT_RULES,
    limits: Mapping[str, int] | None = None,
) -> ApiKey:
    """Store the hash of a new key. This function does not receive the key itself."""
    values: dict[str, Any] = {
        "name": name,
        "key_hash": issued.hash.digest,
        "pepper_id": issued.hash.pepper_id,
        "hint": issued.hint,
        "created_by": actor.label,
        "expires_at": expires_at,
    }
    if limits:
        values["limits"] = dict(limits)
    if rules != DEFAULT_RULES:  # so that keys without rules can be created before `account_0003`
        values |= rules.as_columns()
    # Not `session.add`, which names every column.
    key = session.scalars(insert(ApiKey).values(**values).returning(ApiKey)).one()
    expiry = None if expires_at is None else expires_at.isoformat()
    detail: dict[str, Any] = {"name": name, "hint": key.hint, "expires_at": expiry}
    if rules != DEFAULT_RULES:
        detail["rules"] = rules.as_json()
    if limits:
        detail["limits"] = dict(limits)
    audit.record(session, actor, "api_key.created", key.id, detail)
    return key


def listing(session: Session, limit: int, after: Position | None) -> Page[ApiKey]:
    """A page of keys, newest first, including revoked and expired keys."""
    return newest_first(session, ApiKey, limit, after)


def find(session: Session, candidates: Sequence[KeyHash]) -> ApiKey | None:
    """The key that has or had one of these hashes: the candidates of one secret. None if no key has."""
    digests = [candidate.digest for candidate in candidates]
    found = session.scalar(select(ApiKey).where(ApiKey.key_hash.in_(digests)))
    if found is not None or not has_former_secrets(session):
        return found
    former = select(FormerSecret.key_id).where(FormerSecret.key_hash.in_(digests))
    return session.scalar(select(ApiKey).where(ApiKey.id.in_(former)))


def read(session: Session, key_id: UUID) -> ApiKey:
    """Raises NotFound."""
    key = session.get(ApiKey, key_id)
    if key is None:
        raise NotFound("API key")
    return key


def is_usable(session: Session, key_id: UUID, scope: str) -> bool:
    """Whether a key exists, its status is active by the clock of the database, and it has `scope`."""
    statement = select(KEY_COLUMNS).where(ApiKey.id == key_id, *has_status(KeyStatus.ACTIVE))
    columns = session.scalar(statement)
    if columns is None:
        return False
    own = KeyRules.of_columns(columns).scopes
    return own is None or scope in scopes.granted(own)


def rename(session: Session, key_id: UUID, name: str | None, actor: Actor) -> ApiKey:
    """Rename a key; None keeps its name. Raises NotFound."""
    key = _locked(session, key_id)
    if name is not None and key.name != name:
        audit.record(session, actor, "api_key.renamed", key_id, {"from": key.name, "to": name})
        key.name = name
        session.flush()
    return key


def revoke(session: Session, key_id: UUID, actor: Actor) -> tuple[ApiKey, UUID | None]:
    """Revoke a key permanently. Returns the key and the id of its revocation event if that has no receipt yet.

    A key that is already revoked is not changed. Raises NotFound.
    """
    key = _locked(session, key_id)
    if key.disabled_at is not None:
        return key, audit.without_receipt(session, "api_key.revoked", key_id, key.disabled_at)
    key.disabled_at = session.scalar(select(func.clock_timestamp()))
    event = audit.record(session, actor, "api_key.revoked", key_id, {"name": key.name, "hint": key.hint})
    session.flush()
    return key, event.id


def pause(session: Session, key_id: UUID, actor: Actor) -> tuple[ApiKey, UUID | None]:
    """Pause a key until it is resumed. Returns the key and the id of its event if that has no receipt yet.

    A paused key is not changed. Raises NotFound, or Conflict if it is revoked.
    """
    key = _not_revoked(session, key_id)
    if key.paused_at is not None:
        return key, audit.without_receipt(session, "api_key.paused", key_id, key.paused_at)
    key.paused_at = session.scalar(select(func.clock_timestamp()))
    event = audit.record(session, actor, "api_key.paused", key_id, {"name": key.name, "hint": key.hint})
    session.flush()
    return key, event.id


def resume(session: Session, key_id: UUID, actor: Actor) -> tuple[ApiKey, None]:
    """Accept a paused key again. Its event gets no receipt. Raises NotFound, or Conflict if it is revoked."""
    key = _not_revoked(session, key_id)
    if key.paused_at is not None:
        key.paused_at = None
        audit.record(session, actor, "api_key.resumed", key_id, {"name": key.name, "hint": key.hint})
        session.flush()
    return key, None


def change_rules(session: Session, key_id: UUID, changes: Mapping[str, Any], actor: Actor) -> ApiKey:
    """Change fields of the key's rules. Raises NotFound, Conflict if it is revoked, or WiderScopes."""
    key = _not_revoked(session, key_id)
    before = KeyRules.of(key)
    after = replace(before, **changes)
    if not scopes.includes_all(before.scopes, after.scopes):
        raise WiderScopes
    if after != before:
        for name, value in after.as_columns().items():
            setattr(key, name, value)
        audit.record(session, actor, "api_key.rules_changed", key_id, {"from": before.as_json(), "to": after.as_json()})
        session.flush()
    return key


def change_limits(
    session: Session, key_id: UUID, given: Mapping[str, int], account: Limits, actor: Actor, *, clear: bool = False
) -> tuple[ApiKey, dict[str, int]]:
    """Set limits of a key. The others remain, or are removed with `clear`. Returns the key and its old limits.

    Raises NotFound, LimitAboveAccount if a limit exceeds the account's, or ValueError if a limit is invalid or
    contradicts another one.
    """
    key = _locked(session, key_id)
    before = dict(key.limits or {})
    after = {**({} if clear else before), **given}
    own = KeyLimits(**after)
    for limit in LIMIT_FIELDS:
        requested, most = given.get(limit.field), getattr(account, limit.field)
        if requested is not None and requested > most:
            raise LimitAboveAccount(limit.quota, requested, most)
    problems = tuple(contradictions(own, given))
    if problems:
        raise ValueError("; ".join(problems))
    if after != before:
        key.limits = after or None
        audit.record(session, actor, "api_key.limits_changed", key_id, {"from": before, "to": after})
        session.flush()
    return key, before


def remove_if_unused(session: Session, key_id: UUID) -> bool:
    """Delete the row of a revoked key that was never used. Returns whether it was deleted."""
    dropped = session.execute(
        delete(ApiKey)
        .where(ApiKey.id == key_id, ApiKey.last_used_at.is_(None), ApiKey.disabled_at.is_not(None))
        .returning(ApiKey.id)
    )
    return dropped.first() is not None


def cap_expiry(session: Session, max_days: int, actor: Actor) -> int:
    """Shorten every key that exceeds a policy of `max_days` from its creation. Returns the number of keys."""
    latest = ApiKey.created_at + timedelta(days=max_days)
    shortened = session.execute(
        update(ApiKey)
        .where(ApiKey.disabled_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > latest))
        .values(expires_at=latest)
        .returning(ApiKey.id)
    )
    count = len(shortened.all())
    if count:
        audit.record(session, actor, "api_keys.expiry_shortened", None, {"max_days": max_days, "keys": count})
    return count


MAX_BULK = 100
"""How many keys one request can change."""


class KeyOutcome(StrEnum):
    """What a change of several keys did to one of them."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    """It was in this state before."""
    REVOKED = "revoked"
    """A revoked key can't be paused or resumed."""
    NOT_FOUND = "not_found"


@dataclass(frozen=True, slots=True)
class KeyChange:
    """What a change of several keys did to one of them, and its audit event if that needs a receipt."""

    key_id: UUID
    outcome: KeyOutcome
    event_id: UUID | None = None


class BulkAction(StrEnum):
    REVOKE = "revoke"
    PAUSE = "pause"
    RESUME = "resume"


def change_many(session: Session, action: BulkAction, key_ids: Sequence[UUID], actor: Actor) -> list[KeyChange]:
    """Revoke, pause or resume keys. Returns the outcomes in the order of `key_ids`."""
    statement = select(ApiKey.id, ApiKey.disabled_at, ANY_COLUMNS.paused_at.is_not(None)).where(ApiKey.id.in_(key_ids))
    # In the order of the ids, so that two requests never wait for each other's rows.
    rows = session.execute(statement.order_by(ApiKey.id).with_for_update()).all()
    known = {key_id: (disabled_at is not None, paused) for key_id, disabled_at, paused in rows}
    return [_change_one(session, action, key_id, known.get(key_id), actor) for key_id in key_ids]


def _change_one(
    session: Session, action: BulkAction, key_id: UUID, state: tuple[bool, bool] | None, actor: Actor
) -> KeyChange:
    if state is None:
        return KeyChange(key_id, KeyOutcome.NOT_FOUND)
    revoked, paused = state
    if action is BulkAction.REVOKE:
        _, event_id = revoke(session, key_id, actor)
        return KeyChange(key_id, KeyOutcome.UNCHANGED if revoked else KeyOutcome.CHANGED, event_id)
    if revoked:
        return KeyChange(key_id, KeyOutcome.REVOKED)
    if action is BulkAction.PAUSE:
        _, event_id = pause(session, key_id, actor)
        return KeyChange(key_id, KeyOutcome.UNCHANGED if paused else KeyOutcome.CHANGED, event_id)
    if paused:
        resume(session, key_id, actor)
    return KeyChange(key_id, KeyOutcome.CHANGED if paused else KeyOutcome.UNCHANGED)


def lock(session: Session, key_id: UUID) -> ApiKey:
    """A key that can still be changed, locked. Raises NotFound, or Conflict if it is revoked."""
    return _not_revoked(session, key_id)


def _not_revoked(session: Session, key_id: UUID) -> ApiKey:
    key = session.get(ApiKey, key_id, with_for_update=True, options=[undefer_group(KEY_RULES)])
    if key is None:
        raise NotFound("API key")
    if key.disabled_at is not None:
        raise Conflict("A revoked API key can't be changed. Create a new one.")
    return key


def _locked(session: Session, key_id: UUID) -> ApiKey:
    key = session.get(ApiKey, key_id, with_for_update=True)
    if key is None:
        raise NotFound("API key")
    return key
