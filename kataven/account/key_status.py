"""The status of an API key, and the columns that it depends on at each schema revision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Boolean, ColumnElement, DateTime, and_, cast, false, func, literal_column, not_, true

from kataven.account.models import KEY_COLUMNS, ApiKey
from kataven.account.rotation import has_rotation
from kataven.tenancy.directory import Tenant


class KeyStatus(StrEnum):
    """Whether a key is accepted, and if not, the reason."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"
    PAUSED = "paused"
    NOT_YET_VALID = "not_yet_valid"


@dataclass(frozen=True, slots=True)
class KeyColumns:
    """The columns of API keys that `account_0003` and `account_0004` added, in SQL."""

    paused_at: ColumnElement[Any]
    not_before: ColumnElement[Any]
    scopes: ColumnElement[Any]
    from_browsers: ColumnElement[Any]
    browser_use_at: ColumnElement[Any]
    rotated_at: ColumnElement[Any]

    @property
    def secret_created_at(self) -> ColumnElement[datetime]:
        return func.coalesce(self.rotated_at, ApiKey.created_at)


def _in_json(name: str) -> ColumnElement[Any]:
    return KEY_COLUMNS.op("->>")(literal_column(f"'{name}'"))


def _moment(name: str) -> ColumnElement[Any]:
    return cast(_in_json(name), DateTime(timezone=True))


NEWEST_COLUMNS = KeyColumns(
    ApiKey.paused_at.expression,
    ApiKey.not_before.expression,
    ApiKey.scopes.expression,
    ApiKey.from_browsers.expression,
    ApiKey.browser_use_at.expression,
    ApiKey.rotated_at.expression,
)
"""From `account_0004` on. Only these can use indexes."""
ANY_COLUMNS = KeyColumns(
    _moment("paused_at"),
    _moment("not_before"),
    _in_json("scopes"),
    func.coalesce(cast(_in_json("from_browsers"), Boolean), false()),
    _moment("browser_use_at"),
    _moment("rotated_at"),
)
"""At every revision, through the row as JSON. A NULL there and a missing column are the same."""


def columns_of(tenant: Tenant) -> KeyColumns:
    """The columns of an account's database, by the revision in the directory."""
    return NEWEST_COLUMNS if has_rotation(tenant) else ANY_COLUMNS


def moment_in(columns: Mapping[str, Any], name: str) -> datetime | None:
    """A time in a row as JSON. None if the column is NULL or does not exist."""
    text = columns.get(name)
    return None if text is None else datetime.fromisoformat(text)


def status(key: ApiKey, now: datetime) -> KeyStatus:
    """A key that is revoked and expired is reported as revoked."""
    if key.disabled_at is not None:
        return KeyStatus.REVOKED
    if key.expires_at is not None and key.expires_at <= now:
        return KeyStatus.EXPIRED
    if moment_in(key.columns, "paused_at") is not None:
        return KeyStatus.PAUSED
    not_before = moment_in(key.columns, "not_before")
    if not_before is not None and now < not_before:
        return KeyStatus.NOT_YET_VALID
    return KeyStatus.ACTIVE


def has_status(only: KeyStatus, columns: KeyColumns = ANY_COLUMNS) -> list[ColumnElement[bool]]:
    """The conditions of `status`, by the clock of the database."""
    order = (
        (KeyStatus.REVOKED, ApiKey.disabled_at.is_not(None)),
        (KeyStatus.EXPIRED, and_(ApiKey.expires_at.is_not(None), ApiKey.expires_at <= func.clock_timestamp())),
        (KeyStatus.PAUSED, columns.paused_at.is_not(None)),
        (KeyStatus.NOT_YET_VALID, and_(columns.not_before.is_not(None), func.clock_timestamp() < columns.not_before)),
    )
    conditions: list[ColumnElement[bool]] = []
    for candidate, condition in order:
        if candidate is only:
            return [*conditions, condition]
        conditions.append(not_(func.coalesce(condition, false())))
    return conditions


def is_current() -> list[ColumnElement[bool]]:
    """The conditions of keys that are neither revoked nor expired."""
    return [ApiKey.disabled_at.is_(None), func.coalesce(ApiKey.expires_at > func.clock_timestamp(), true())]


def secret_created_at(key: ApiKey) -> datetime:
    """When the current secret of a key was created."""
    return moment_in(key.columns, "rotated_at") or key.created_at


def is_rotation_due(key: ApiKey, now: datetime, rotate_after_days: int | None) -> bool:
    """Whether the account's policy says that a key should get a new secret. Revoked and expired keys need none."""
    if rotate_after_days is None or status(key, now) in (KeyStatus.REVOKED, KeyStatus.EXPIRED):
        return False
    return secret_created_at(key) <= now - timedelta(days=rotate_after_days)
