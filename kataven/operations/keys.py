"""Create, list and revoke the API keys of an account, as an operator.

Both audit logs record each change: the account's own with the operator as the actor, and the operator audit log with
the key's id and name. Neither contains the secret.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from kataven.account import api_keys, audit, expiry, key_revocation
from kataven.account.api_keys import DEFAULT_RULES, KeyRules
from kataven.account.audit import Actor
from kataven.account.errors import NotFound
from kataven.account.expiry import Expiry
from kataven.account.key_search import KeyFilter, search
from kataven.account.key_status import KeyStatus, columns_of, is_rotation_due, moment_in, secret_created_at
from kataven.account.key_status import status as status_of
from kataven.account.models import ApiKey
from kataven.account.paging import Page, Position
from kataven.identity import token as tokens
from kataven.identity.errors import AccountMismatch, NotACredential, VerifierUnavailable
from kataven.identity.token import TokenKind
from kataven.operations.operator import Operator
from kataven.revocation.receipt import Receipt
from kataven.system import accounts, operators
from kataven.system.errors import WrongStatus
from kataven.system.models import Account, AccountStatus

CREATED, REVOKED, PAUSED, RESUMED = "key.created", "key.revoked", "key.paused", "key.resumed"
"""The actions in the operator audit log."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KeyDetails:
    """An API key without its secret."""

    id: UUID
    name: str
    hint: str
    status: KeyStatus
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    pepper: str
    rules: KeyRules
    limits: Mapping[str, int]
    paused_at: datetime | None
    browser_use_at: datetime | None
    """When a browser last sent the key, and it was rejected."""
    secret_created_at: datetime
    rotation_due: bool
    """Whether the account's policy says that the key should get a new secret."""


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A new key. `text` is the complete key, which is not stored."""

    key: KeyDetails
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ChangedKey:
    """A key that was changed, and the receipt: every worker applies the change."""

    key: KeyDetails
    receipt: Receipt
    is_logged: bool
    """False if the operator audit log was unavailable. The account's own audit log has the event."""


@dataclass(frozen=True, slots=True)
class KeyRevocation:
    """A revoked key and the receipt: no worker accepts the key any more."""

    key: KeyDetails
    receipt: Receipt
    was_revoked: bool
    """Whether the key had been revoked before."""
    is_logged: bool
    """False if the operator audit log was unavailable. The account's own audit log has the event."""


def listing(
    operator: Operator,
    account: str,
    limit: int,
    start: Position | None = None,
    *,
    text: str = "",
    status: KeyStatus | None = None,
    rotation_due: bool | None = None,
) -> Page[KeyDetails]:
    """A page of the account's keys. Raises NoSuchAccount, TenancyError or SystemDatabaseUnavailable."""
    record = operator.read_account(account)
    days = record.rotate_after_days
    rotate_after = None if days is None else timedelta(days=days)
    wanted = KeyFilter(text, status, rotation_due=rotation_due, rotate_after=rotate_after)
    with operator.sessions.reading(account) as session:
        page = search(session, limit, start, wanted, columns_of(record.tenant))
        return Page([details_of(key, days) for key in page.rows], page.next, page.previous)


def read(operator: Operator, account: str, key_id: UUID) -> KeyDetails:
    """Raises NoSuchAccount, NotFound, TenancyError or SystemDatabaseUnavailable."""
    record = operator.read_account(account)
    with operator.sessions.reading(account) as session:
        return details_of(api_keys.read(session, key_id), record.rotate_after_days)


def find_by_secret(operator: Operator, secret: str) -> tuple[str, KeyDetails]:
    """The account and the key of a complete API key, found by its hash as a verifier finds it.

    Raises MalformedToken, NotACredential for a widget key, NoSuchAccount, NotFound, TenancyError or
    VerifierUnavailable.
    """
    token = tokens.parse(secret)
    if token.kind is not TokenKind.API_KEY:
        raise NotACredential("This is a widget key, which is public. Disable it on the page Widget keys of the Hub.")
    record = operator.read_account(token.account)
    candidates = operator.services.issuer.candidates(token.text)
    with operator.sessions.reading(token.account) as session:
        key = api_keys.find(session, candidates)
        if key is None:
            raise NotFound("API key")
        return token.account, details_of(key, record.rotate_after_days)


def require_account(found: str, given: str | None) -> None:
    """Raise AccountMismatch if a secret belongs to another account than the one that the operator named."""
    if given is not None and given != found:
        raise AccountMismatch(f"The key belongs to the account {found!r}, not {given!r}. Nothing was revoked.")


def create(
    operator: Operator,
    account: str,
    name: str,
    expires: Expiry | None = None,
    *,
    rules: KeyRules = DEFAULT_RULES,
    limits: Mapping[str, int] | None = None,
    condition: Callable[[Account], None] | None = None,
) -> CreatedKey:
    """Create a key for an active account. Without `expires`, it gets the longest expiry that the policy allows.

    The account's row stays locked until the key is committed, so that a new key policy or a deletion of the account
    that starts at the same time covers the key. `condition` is called with the locked row. Raises what it raises, and
    NoSuchAccount, WrongStatus, ExpiryExceedsPolicy, TenancyError or VerifierUnavailable.
    """
    record = operator.read_account(account)
    issued = operator.services.issuer.issue(TokenKind.API_KEY, account)  # may call the auth-service: before the lock
    with operator.system.writing() as system:
        row = accounts.read(system, account, lock=True)
        if row.status != AccountStatus.ACTIVE:
            raise WrongStatus(account, row.status, AccountStatus.ACTIVE)
        if condition is not None:
            condition(row)
        expires_at = _expires_at(expires, row.max_key_expiry_days)
        with operator.sessions.writing(account) as session:
            new = api_keys.issue(session, name, issued, expires_at, operator.actor, rules, limits)
            key = details_of(new, record.rotate_after_days)
        detail: dict[str, Any] = {"key_id": str(key.id), "name": name, "hint": key.hint}
        detail["expires_at"] = _text(expires_at)
        if rules != DEFAULT_RULES:
            detail["rules"] = rules.as_json()
        operators.record(system, operator.name, CREATED, account, detail)
    return CreatedKey(key, issued.text)


def revoke(operator: Operator, account: str, key_id: UUID) -> KeyRevocation:
    """Revoke a key permanently, and return when no worker accepts it. Can be repeated.

    Uses the same sequence as the API. Raises NoSuchAccount, NotFound, TenancyError or SystemDatabaseUnavailable;
    RevocationUnconfirmed if the key is revoked but no receipt could be obtained.
    """
    record = operator.read_account(account)
    revocation = operator.services.revocation
    with operator.sessions.writing(account) as session:
        was_revoked = api_keys.read(session, key_id).disabled_at is not None
        key, event_id = api_keys.revoke(session, key_id, operator.actor)
        details = details_of(key, record.rotate_after_days)
        intent = key_revocation.write_intent(revocation, account, str(key_id))
    receipt = key_revocation.complete(revocation, intent, event_id, lambda: operator.sessions.writing(account))
    is_logged = record_change(operator, account, REVOKED, details, receipt)
    return KeyRevocation(details, receipt, was_revoked, is_logged)


def pause(operator: Operator, account: str, key_id: UUID) -> ChangedKey:
    """Pause a key, and return when no worker accepts it. Can be repeated. Raises the errors of `revoke`, or Conflict if
    the key is revoked."""
    return _change(operator, account, key_id, api_keys.pause, PAUSED)


def resume(operator: Operator, account: str, key_id: UUID) -> ChangedKey:
    """Accept a paused key again. Raises the errors of `pause`."""
    return _change(operator, account, key_id, api_keys.resume, RESUMED)


def _change(
    operator: Operator,
    account: str,
    key_id: UUID,
    change: Callable[[Session, UUID, Actor], tuple[ApiKey, UUID | None]],
    action: str,
) -> ChangedKey:
    record = operator.read_account(account)
    revocation = operator.services.revocation
    with operator.sessions.writing(account) as session:
        key, event_id = change(session, key_id, operator.actor)
        details = details_of(key, record.rotate_after_days)
        intent = key_revocation.write_intent(revocation, account, str(key_id), revoked=False)
    receipt = key_revocation.complete(revocation, intent, event_id, lambda: operator.sessions.writing(account))
    return ChangedKey(details, receipt, record_change(operator, account, action, details, receipt))


def revoked_by(operator: Operator, account: str, key: KeyDetails) -> str | None:
    """The name of the user or operator who revoked a key, from the account's audit log; None if it is not revoked."""
    if key.revoked_at is None:
        return None
    with operator.sessions.reading(account) as session:
        return audit.revoked_by(session, "api_key.revoked", {key.id: key.revoked_at}).get(str(key.id))


def record_change(
    operator: Operator,
    account: str,
    action: str,
    key: KeyDetails,
    receipt: Receipt | None,
    more: Mapping[str, Any] | None = None,
) -> bool:
    """Add an event to the operator audit log. Returns False if the log is unavailable.

    The key is changed by now, so an unavailable log must not hide the receipt.
    """
    detail: dict[str, Any] = {"key_id": str(key.id), "name": key.name, "hint": key.hint, **(more or {})}
    if receipt is not None:
        detail["receipt"] = receipt.as_json()
    try:
        with operator.system.writing() as system:
            operators.record(system, operator.name, action, account, detail)
    except VerifierUnavailable:
        extra = {"account": account, "key_id": str(key.id), "operator": operator.name}
        _log.warning("the operator audit log is unavailable; a change of a key was not recorded in it", extra=extra)
        return False
    return True


def _expires_at(expires: Expiry | None, max_days: int | None) -> datetime | None:
    if expires is None:
        expires = next(iter(expiry.allowed(max_days)), Expiry.NEVER)
    return expiry.expires_at(expires, datetime.now(UTC), max_days)


def details_of(key: ApiKey, rotate_after_days: int | None) -> KeyDetails:
    """A stored key. The policy of the account says whether it is due for rotation."""
    now = datetime.now(UTC)
    return KeyDetails(
        id=key.id,
        name=key.name,
        hint=key.hint,
        status=status_of(key, now),
        created_at=key.created_at,
        created_by=key.created_by,
        expires_at=key.expires_at,
        revoked_at=key.disabled_at,
        last_used_at=key.last_used_at,
        pepper=key.pepper_id,
        rules=KeyRules.of(key),
        limits=key.limits or {},
        paused_at=moment_in(key.columns, "paused_at"),
        browser_use_at=moment_in(key.columns, "browser_use_at"),
        secret_created_at=secret_created_at(key),
        rotation_due=is_rotation_due(key, now, rotate_after_days),
    )


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
