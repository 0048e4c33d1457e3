"""The tables of the system database. Nothing in here belongs to a customer but the fact that they are one."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class SystemBase(DeclarativeBase):
    """Every table of the system database."""

    type_annotation_map = {str: Text, datetime: DateTime(timezone=True)}  # noqa: RUF012  SQLAlchemy's own protocol


class AccountStatus(StrEnum):
    """Where an account stands. Only an active one is served."""

    PROVISIONING = "provisioning"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    ARCHIVED = "archived"
    FAILED = "failed"
    DELETING = "deleting"
    """Closed for ever: its dump is being taken, or its database removed. Left over from a deletion that was killed."""


class RegisteredServer(SystemBase):
    """A PostgreSQL server that accounts can be placed on. `url` is None for the one that holds this database."""

    __tablename__ = "database_servers"

    name: Mapped[str] = mapped_column(primary_key=True)
    url: Mapped[str | None]
    draining: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Account(SystemBase):
    """A customer. `account_id` is the name in keys and headers; `account_name` is what people read."""

    __tablename__ = "accounts"
    __table_args__ = (
        CheckConstraint("account_id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'", name="accounts_account_id_form"),
        CheckConstraint(
            f"status IN ({', '.join(repr(str(status)) for status in AccountStatus)})", name="accounts_status_known"
        ),
        CheckConstraint("max_key_expiry_days > 0", name="accounts_max_key_expiry_days_positive"),
        Index("accounts_server_database_name", "server", "database_name", unique=True),
    )

    account_id: Mapped[str] = mapped_column(primary_key=True)
    account_name: Mapped[str]
    database_name: Mapped[str]
    server: Mapped[str] = mapped_column(ForeignKey("database_servers.name"))
    status: Mapped[str]
    zitadel_org_id: Mapped[str | None] = mapped_column(unique=True)
    max_key_expiry_days: Mapped[int | None]
    discoverable: Mapped[bool] = mapped_column(server_default=text("false"))
    schema_revision: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())


class AccountRateLimits(SystemBase):
    """An account's own limits; an account without a row has the product's defaults."""

    __tablename__ = "account_rate_limits"
    __table_args__ = (
        CheckConstraint(
            "per_minute > 0 AND per_hour > 0 AND per_day > 0 AND concurrent > 0", name="account_rate_limits_positive"
        ),
    )

    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.account_id", ondelete="CASCADE"), primary_key=True)
    per_minute: Mapped[int]
    per_hour: Mapped[int]
    per_day: Mapped[int]
    concurrent: Mapped[int]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())


class OperatorEvent(SystemBase):
    """One line of the operators' trail. `account_id` is no foreign key: the trail outlives the account."""

    __tablename__ = "operator_events"
    __table_args__ = (Index("operator_events_at", "at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    actor: Mapped[str]
    action: Mapped[str]
    account_id: Mapped[str | None]
    detail: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))


class RunState(StrEnum):
    """The state of a migration run."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPED = "stopped"
    """Interrupted, or never started."""
    FAILED = "failed"
    """At least one account is not at the target revision, or the run ended with an error."""
    DONE = "done"


class MigrationRun(SystemBase):
    """One run over the accounts' schemas, and its progress. Each account's own database is authoritative."""

    __tablename__ = "migration_runs"
    __table_args__ = (
        CheckConstraint("open", name="migration_runs_open_or_null"),
        CheckConstraint(
            f"state IN ({', '.join(repr(str(state)) for state in RunState)})", name="migration_runs_state_known"
        ),
        UniqueConstraint("open", name="migration_runs_one_at_a_time"),
        Index("migration_runs_asked_at", "asked_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    open: Mapped[bool | None] = mapped_column(server_default=text("true"))
    """True until the run has ended, then null: with the unique constraint, at most one run is open."""
    state: Mapped[str] = mapped_column(server_default=text("'starting'"))
    """As its process recorded it. A process that crashed leaves `running`; see `operations.migration_runs`."""
    actor: Mapped[str]
    accounts: Mapped[list[str]] = mapped_column(JSONB, server_default=text("'[]'"))
    """Those that were named; none: every account."""
    target: Mapped[str]
    options: Mapped[dict[str, int]] = mapped_column(JSONB, server_default=text("'{}'"))
    total: Mapped[int | None]
    """How many accounts it goes over; null before it has begun."""
    counts: Mapped[dict[str, int]] = mapped_column(JSONB, server_default=text("'{}'"))
    """How many had which outcome."""
    remarks: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'"))
    """The accounts that somebody should look at, and why."""
    error: Mapped[str | None]
    """Why it ended before its time."""
    asked_at: Mapped[datetime] = mapped_column(server_default=func.now())
    began_at: Mapped[datetime | None]
    told_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class RevocationNotice(SystemBase):
    """What a revoker that can't reach Redis leaves word with; one row, of which only the latest value counts."""

    __tablename__ = "revocation_notice"
    __table_args__ = (CheckConstraint("id = 1", name="revocation_notice_only_one"),)

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False, server_default=text("1"))
    count: Mapped[int] = mapped_column(BigInteger)
    mark: Mapped[UUID]


class RevocationReader(SystemBase):
    """A worker that reads the notice: how often it has written so, and the latest one that it has read."""

    __tablename__ = "revocation_readers"

    id: Mapped[str] = mapped_column(primary_key=True)
    home: Mapped[str]
    pid: Mapped[int] = mapped_column(BigInteger)
    beats: Mapped[int] = mapped_column(BigInteger)
    read_count: Mapped[int | None] = mapped_column(BigInteger)
    redis: Mapped[str | None]
    """Which Redis it renews its lease at; empty for none. NULL is from a release that does not say."""


class RevocationIntent(SystemBase):
    """A revocation from just before its commit until its receipt. Both columns NULL stand for everything."""

    __tablename__ = "revocation_intents"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    account: Mapped[str | None]
    key_id: Mapped[str | None]
    begun_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
