"""The tables of the system database. They contain no customer data except the accounts' names and organisations."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class SystemBase(DeclarativeBase):
    """Base class of the tables."""

    type_annotation_map = {str: Text, datetime: DateTime(timezone=True)}  # noqa: RUF012  SQLAlchemy's own protocol


class AccountStatus(StrEnum):
    """The status of an account. Only active accounts are served."""

    PROVISIONING = "provisioning"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    ARCHIVED = "archived"
    FAILED = "failed"
    DELETING = "deleting"
    """Being dumped or dropped, or left by a deletion that was interrupted."""


class RegisteredServer(SystemBase):
    """A PostgreSQL server that accounts can be placed on. `url` is None for the server of the system database.

    If `url` leads to a connection pooler, `direct_url` leads to the server itself. It is not loaded with the row,
    because a system database before `system_0008` lacks the column: see `servers.listing` and `system.addresses`.
    """

    __tablename__ = "database_servers"

    name: Mapped[str] = mapped_column(primary_key=True)
    url: Mapped[str | None]
    direct_url: Mapped[str | None] = mapped_column(deferred=True)
    draining: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Account(SystemBase):
    """An account. `account_id` is the name in keys and headers; `account_name` is the display name."""

    __tablename__ = "accounts"
    __table_args__ = (
        CheckConstraint("account_id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'", name="accounts_account_id_form"),
        CheckConstraint(
            f"status IN ({', '.join(repr(str(status)) for status in AccountStatus)})", name="accounts_status_known"
        ),
        CheckConstraint("max_key_expiry_days > 0", name="accounts_max_key_expiry_days_positive"),
        # Not mapped, because a system database before `system_0009` lacks the column: see `rotation_policy`.
        Column("rotate_after_days", Integer),
        CheckConstraint("rotate_after_days > 0", name="accounts_rotate_after_days_positive"),
        # Not mapped, because a system database before `system_0012` lacks the columns: see `limit_raises`.
        Column("raised_limits", JSONB),
        Column("limits_raised_until", DateTime(timezone=True)),
        CheckConstraint("(raised_limits IS NULL) = (limits_raised_until IS NULL)", name="accounts_raise_has_an_end"),
        Index("accounts_server_database_name", "server", "database_name", unique=True),
    )
    __mapper_args__ = {  # noqa: RUF012  SQLAlchemy's own protocol
        "exclude_properties": ["rotate_after_days", "raised_limits", "limits_raised_until"]
    }

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
    """The rate limits of an account. Without a row, the defaults apply."""

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
    """An event in the operator audit log. `account_id` is not a foreign key, because events outlive accounts."""

    __tablename__ = "operator_events"
    __table_args__ = (
        Index("operator_events_at", "at"),
        Index("operator_events_of_account", "account_id", "at"),
        Index("operator_events_of_action", "action", "at"),
        Index("operator_events_of_actor", "actor", "at"),
    )

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
    """The requested accounts; empty for all accounts."""
    target: Mapped[str]
    options: Mapped[dict[str, int]] = mapped_column(JSONB, server_default=text("'{}'"))
    total: Mapped[int | None]
    """The number of accounts to migrate; null before the run has started."""
    counts: Mapped[dict[str, int]] = mapped_column(JSONB, server_default=text("'{}'"))
    """The number of accounts per outcome."""
    remarks: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'"))
    """The results of accounts that failed or have drifted."""
    error: Mapped[str | None]
    """Why the run ended early."""
    asked_at: Mapped[datetime] = mapped_column(server_default=func.now())
    began_at: Mapped[datetime | None]
    progress_at: Mapped[datetime | None] = mapped_column("told_at")
    ended_at: Mapped[datetime | None]


class RevocationNotice(SystemBase):
    """The fallback notice of a revoking process that can't use Redis: a single row, overwritten by each notice."""

    __tablename__ = "revocation_notice"
    __table_args__ = (CheckConstraint("id = 1", name="revocation_notice_only_one"),)

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False, server_default=text("1"))
    count: Mapped[int] = mapped_column(BigInteger)
    mark: Mapped[UUID]


class RevocationReader(SystemBase):
    """A worker that polls the notice: the count of its heartbeats, and the latest notice that it has read."""

    __tablename__ = "revocation_readers"

    id: Mapped[str] = mapped_column(primary_key=True)
    home: Mapped[str]
    pid: Mapped[int] = mapped_column(BigInteger)
    beats: Mapped[int] = mapped_column(BigInteger)
    read_count: Mapped[int | None] = mapped_column(BigInteger)
    redis: Mapped[str | None]
    """The Redis server that renews the worker's lease; empty for none. NULL is from releases without this column."""


class RevocationIntent(SystemBase):
    """A revocation, from its commit until its receipt. Both columns are NULL if it covers all credentials."""

    __tablename__ = "revocation_intents"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    account: Mapped[str | None]
    key_id: Mapped[str | None]
    begun_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class JournalledKey(SystemBase):
    """A revoked key: the second record of a revocation, outside the account's database. See `system.journal`."""

    __tablename__ = "revoked_keys"
    __table_args__ = (Index("revoked_keys_revoked_at", "revoked_at"),)

    account: Mapped[str] = mapped_column(primary_key=True)
    key_id: Mapped[str] = mapped_column(primary_key=True)
    generation: Mapped[int | None]
    """For a widget key, its generation after it was disabled: lower generations are revoked. NULL: all are."""
    revoked_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class SubjectCutoff(SystemBase):
    """A moment: tokens that the issuer issued to a user until then are refused. See `system.cutoffs`."""

    __tablename__ = "subject_cutoffs"
    __table_args__ = (Index("subject_cutoffs_account_not_before", "account", "not_before"),)

    subject: Mapped[UUID] = mapped_column(primary_key=True)
    """The id of the user: see `Person.id`."""
    account: Mapped[str] = mapped_column(primary_key=True)
    """`*`: all accounts."""
    issuer: Mapped[str]
    sub: Mapped[str]
    not_before: Mapped[datetime]
    signed_in_before: Mapped[datetime | None]
    """Tokens that state an earlier sign-in (`auth_time`) are refused as well, such as refreshed tokens."""
    reason: Mapped[str]
    created_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class SubjectBlock(SystemBase):
    """A user who is refused in one account until the block is lifted, whatever the issuer's token says."""

    __tablename__ = "subject_blocks"

    account: Mapped[str] = mapped_column(ForeignKey("accounts.account_id", ondelete="CASCADE"), primary_key=True)
    subject: Mapped[UUID] = mapped_column(primary_key=True)
    issuer: Mapped[str]
    sub: Mapped[str]
    name: Mapped[str]
    reason: Mapped[str]
    created_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class ServerHistory(SystemBase):
    """The history of a database server: its system identifier and timeline, when the journal was last replayed.

    After a change, the journal is replayed once more: `settled` is False until then.
    """

    __tablename__ = "server_histories"

    server: Mapped[str] = mapped_column(ForeignKey("database_servers.name", ondelete="CASCADE"), primary_key=True)
    history: Mapped[str]
    claimed_at: Mapped[datetime | None]
    """Since when a process replays the journal because the history has changed."""
    changed_at: Mapped[datetime | None]
    settled: Mapped[bool] = mapped_column(server_default=text("true"))


class RevocationMinute(SystemBase):
    """How long the revocations of a minute took: a histogram, one row for each bucket with a count.

    See `system.revocation_history`.
    """

    __tablename__ = "revocation_minutes"

    minute: Mapped[datetime] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    """`revocation`, or `canary` for measurements."""
    measure: Mapped[str] = mapped_column(primary_key=True)
    """`receipt`: the whole call. `eviction`: from the publication to the last acknowledgement."""
    bucket: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    count: Mapped[int] = mapped_column(BigInteger)
    slowest_ms: Mapped[float]


class ResponseMinute(SystemBase):
    """How many requests of an account were refused by its limits, or failed, within a minute.

    See `system.response_history`.
    """

    __tablename__ = "response_minutes"

    minute: Mapped[datetime] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(primary_key=True)
    """`limited` (429) or `failed` (5xx)."""
    account: Mapped[str] = mapped_column(primary_key=True)
    """`*`: several, or none."""
    count: Mapped[int] = mapped_column(BigInteger)
