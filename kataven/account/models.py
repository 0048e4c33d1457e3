"""The tables of an account's database. No table has an account column, because each account has its own database."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ColumnElement,
    DateTime,
    Float,
    ForeignKey,
    Index,
    LargeBinary,
    SmallInteger,
    Text,
    func,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column

KEY_ROTATION = "key_rotation"
"""The group of the columns of an API key that `account_0004` added."""
KEY_RULES = "key_rules"
"""The group of the columns of an API key that `account_0003` added."""

KEY_COLUMNS: ColumnElement[Any] = func.to_jsonb(literal_column("api_keys"), type_=JSONB).op("-")(text("'key_hash'"))
"""An API key's row as JSON, with the columns that the table has at the database's revision."""


class AccountBase(DeclarativeBase):
    """Base class of the tables of an account's database."""

    type_annotation_map = {  # noqa: RUF012  SQLAlchemy's own protocol
        str: Text,
        datetime: DateTime(timezone=True),
        list[str]: ARRAY(Text),
        dict[str, Any]: JSONB,
    }


class Category(StrEnum):
    CUSTOMER_SUPPORT = "customer_support"
    SALES = "sales"
    OPERATIONS = "operations"
    CUSTOM = "custom"


class AgentStatus(StrEnum):
    DRAFT = "draft"
    ACTIVE = "active"
    PAUSED = "paused"
    ARCHIVED = "archived"


class GreetingMode(StrEnum):
    INTERRUPTIBLE = "interruptible"
    LOCKED = "locked"


class VoiceProvider(StrEnum):
    CARTESIA = "cartesia"
    ELEVENLABS = "elevenlabs"
    DEEPGRAM = "deepgram"


class AuthMode(StrEnum):
    PUBLIC = "public"
    AUTHENTICATED = "authenticated"


class WidgetAuthMode(StrEnum):
    """Which visitors an agent's widget accepts: `guest` (anonymous), `user` (identified by the customer's server), or
    `both`."""

    GUEST = "guest"
    USER = "user"
    BOTH = "both"


class WidgetPosition(StrEnum):
    BOTTOM_RIGHT = "bottom-right"
    BOTTOM_LEFT = "bottom-left"


class WidgetTheme(StrEnum):
    """`auto` follows the visitor's system setting."""

    AUTO = "auto"
    LIGHT = "light"
    DARK = "dark"


def _one_of(column: str, values: type[StrEnum], table: str = "agents") -> CheckConstraint:
    listed = ", ".join(repr(str(value)) for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=f"{table}_{column}_known")


class Agent(AccountBase):
    """A voice or chat agent."""

    __tablename__ = "agents"
    __table_args__ = (
        _one_of("category", Category),
        _one_of("status", AgentStatus),
        _one_of("greeting_mode", GreetingMode),
        _one_of("voice_provider", VoiceProvider),
        _one_of("auth_mode", AuthMode),
        _one_of("widget_auth_mode", WidgetAuthMode),
        CheckConstraint("background_audio_volume BETWEEN 0 AND 1", name="agents_background_audio_volume_range"),
        Index("agents_newest_first", text("created_at DESC"), text("id DESC")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str]
    description: Mapped[str | None]
    category: Mapped[str]
    status: Mapped[str]
    system_prompt: Mapped[str | None]
    greeting_message: Mapped[str | None]
    greeting_mode: Mapped[str]
    llm_model: Mapped[str]
    voice_provider: Mapped[str]
    voice_id: Mapped[str | None]
    auth_mode: Mapped[str]
    ringing_enabled: Mapped[bool]
    background_audio_enabled: Mapped[bool]
    background_audio_volume: Mapped[float]
    noise_suppression_enabled: Mapped[bool]
    widget_enabled: Mapped[bool] = mapped_column(server_default=text("false"))
    widget_auth_mode: Mapped[str] = mapped_column(server_default=text("'guest'"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())
    created_by: Mapped[str]


class ApiKey(AccountBase):
    """An API key without its secret. `key_hash` is HMAC-SHA256 under the pepper `pepper_id`."""

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint("octet_length(key_hash) = 32", name="api_keys_key_hash_length"),
        Index("api_keys_newest_first", text("created_at DESC"), text("id DESC")),
        Index("api_keys_pepper_id", "pepper_id"),
        # For filters and orders of lists. None on `last_used_at`: it would slow down the update after each use.
        Index("api_keys_by_name", text("lower(name)"), "id"),
        Index("api_keys_by_expiry", text("COALESCE(expires_at, 'infinity'::timestamptz)"), "id"),
        *(
            Index(
                f"api_keys_with_{column}",
                text("created_at DESC"),
                text("id DESC"),
                postgresql_where=text(f"{column} IS NOT NULL"),
            )
            for column in ("paused_at", "not_before", "browser_use_at")
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str]
    key_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    pepper_id: Mapped[str]
    hint: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_by: Mapped[str]
    expires_at: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    limits: Mapped[dict[str, Any] | None]
    # Since `account_0003`. Deferred, so that keys of an account at an older revision can be listed and revoked. To
    # read them at any revision, use `columns`.
    scopes: Mapped[list[str] | None] = mapped_column(deferred=True, deferred_group=KEY_RULES)
    """NULL: full access."""
    allowed_addresses: Mapped[list[str]] = mapped_column(
        server_default=text("'{}'"), deferred=True, deferred_group=KEY_RULES
    )
    denied_addresses: Mapped[list[str]] = mapped_column(
        server_default=text("'{}'"), deferred=True, deferred_group=KEY_RULES
    )
    from_browsers: Mapped[bool] = mapped_column(server_default=text("false"), deferred=True, deferred_group=KEY_RULES)
    browser_use_at: Mapped[datetime | None] = mapped_column(deferred=True, deferred_group=KEY_RULES)
    """When a browser last sent the key, and it was refused."""
    not_before: Mapped[datetime | None] = mapped_column(deferred=True, deferred_group=KEY_RULES)
    paused_at: Mapped[datetime | None] = mapped_column(deferred=True, deferred_group=KEY_RULES)
    # Since `account_0004`.
    generation: Mapped[int] = mapped_column(server_default=text("0"), deferred=True, deferred_group=KEY_ROTATION)
    """How often the secret was replaced. Each secret of a key has the generation at which it was the current one."""
    rotated_at: Mapped[datetime | None] = mapped_column(deferred=True, deferred_group=KEY_ROTATION)
    columns: Mapped[dict[str, Any]] = column_property(KEY_COLUMNS)


class FormerSecret(AccountBase):
    """A secret of an API key that was replaced. Since `account_0004`."""

    __tablename__ = "former_secrets"
    __table_args__ = (
        CheckConstraint("octet_length(key_hash) = 32", name="former_secrets_key_hash_length"),
        CheckConstraint("grace_seconds >= 0", name="former_secrets_grace_seconds_range"),
        Index("former_secrets_of_key", "key_id", "generation"),
        Index("former_secrets_pepper_id", "pepper_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    key_id: Mapped[UUID] = mapped_column(
        ForeignKey("api_keys.id", name="former_secrets_key_id_fkey", ondelete="CASCADE")
    )
    generation: Mapped[int]
    key_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    pepper_id: Mapped[str]
    hint: Mapped[str]
    rotated_at: Mapped[datetime]
    grace_seconds: Mapped[int]
    """How long it is accepted after the first use of the secret that replaced it."""
    ends_at: Mapped[datetime | None]
    """NULL until that first use: the secret is accepted without an end."""
    late_uses: Mapped[int] = mapped_column(server_default=text("0"))
    last_late_use_at: Mapped[datetime | None]
    last_late_address: Mapped[str | None]


class WidgetKey(AccountBase):
    """A widget key, the public identifier in web pages. It is hashed, so a leaked database does not contain it."""

    __tablename__ = "widget_keys"
    __table_args__ = (
        CheckConstraint("octet_length(key_hash) = 32", name="widget_keys_key_hash_length"),
        Index("widget_keys_newest_first", text("created_at DESC"), text("id DESC")),
        Index("widget_keys_pepper_id", "pepper_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str]
    key_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    pepper_id: Mapped[str]
    hint: Mapped[str]
    domain_allowlist: Mapped[list[str]]
    # No foreign key: a key that is pinned to a deleted agent must serve no page, and must not serve all agents instead.
    agent_id: Mapped[UUID | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_by: Mapped[str]
    disabled_at: Mapped[datetime | None]
    # Incremented when the key is disabled, so older visitor sessions remain invalid after it is enabled again.
    generation: Mapped[int] = mapped_column(server_default=text("0"))


class IdempotencyKey(AccountBase):
    """A request that created something, for clients that repeat it. Since `account_0004`.

    `id` is a digest of the caller, the operation and the header `Idempotency-Key`, which is not stored.
    """

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        CheckConstraint("octet_length(id) = 32", name="idempotency_keys_id_length"),
        Index("idempotency_keys_created_at", "created_at"),
        Index("idempotency_keys_with_nonce", "created_at", postgresql_where=text("nonce IS NOT NULL")),
    )

    id: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    request_digest: Mapped[bytes] = mapped_column(LargeBinary)
    representation: Mapped[str]
    """The created resource as JSON, without a secret."""
    # From which the secret of a created key is derived again: removed after ten minutes.
    nonce: Mapped[bytes | None] = mapped_column(LargeBinary)
    pepper_id: Mapped[str | None]
    key_hash: Mapped[bytes | None] = mapped_column(LargeBinary)


class WidgetSettings(AccountBase):
    """The widget's branding. One row, or none if the account has the defaults."""

    __tablename__ = "widget_settings"
    __table_args__ = (
        CheckConstraint("id = 1", name="widget_settings_only_one"),
        CheckConstraint("accent_color ~ '^#[0-9a-f]{6}$'", name="widget_settings_accent_color_shape"),
        _one_of("position", WidgetPosition, "widget_settings"),
        _one_of("theme", WidgetTheme, "widget_settings"),
    )

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False, server_default=text("1"))
    title: Mapped[str | None]
    launcher_label: Mapped[str | None]
    accent_color: Mapped[str] = mapped_column(server_default=text("'#1746a2'"))
    logo_url: Mapped[str | None]
    position: Mapped[str] = mapped_column(server_default=text("'bottom-right'"))
    theme: Mapped[str] = mapped_column(server_default=text("'auto'"))
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())


class AuditEvent(AccountBase):
    """An event of the audit log. Written in the transaction of the change that it records."""

    __tablename__ = "audit_events"
    __table_args__ = (
        Index("audit_events_newest_first", text("created_at DESC"), text("id DESC")),
        Index("audit_events_of_target", "target", text("created_at DESC"), text("id DESC")),
        Index("audit_events_of_actor", "actor", text("created_at DESC"), text("id DESC")),
        Index("audit_events_of_action", "action", text("created_at DESC"), text("id DESC")),
        Index(
            "audit_events_of_name",
            text("lower(detail ->> 'name') COLLATE \"C\""),
            "target",
            postgresql_where=text("detail ->> 'name' IS NOT NULL AND target IS NOT NULL"),
            info={"not_compared": True},  # see `tenancy.alembic_env`
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    actor: Mapped[str]
    actor_name: Mapped[str]
    action: Mapped[str]
    target: Mapped[str | None]
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    request_id: Mapped[str | None]
    address: Mapped[str | None]


class SeenPerson(AccountBase):
    """A user of the identity provider who used the account within the last 90 days: see `account.people`."""

    __tablename__ = "people"
    __table_args__ = (Index("people_created_at_id", "created_at", "id"), Index("people_last_seen_at", "last_seen_at"))

    id: Mapped[UUID] = mapped_column(primary_key=True)
    """The id of the user: see `Person.id`."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """When the user was first seen."""
    last_seen_at: Mapped[datetime]
    issuer: Mapped[str]
    sub: Mapped[str]
    name: Mapped[str]
    role: Mapped[str]
    """The role at the last use. The issuer may have changed it since."""


OFTEN_UPDATED = {"postgresql_with": {"fillfactor": 70}}
"""Room for updated rows in the same page: the counters of usage are updated in place, without their indexes."""


class UsageMinute(AccountBase):
    """How often a caller called a route within a minute, by outcome. Since `account_0006`, like all tables of usage.

    `kataven.usage` writes and reads these tables.
    """

    __tablename__ = "usage_minutes"
    __table_args__ = OFTEN_UPDATED

    minute: Mapped[datetime] = mapped_column(primary_key=True)
    caller: Mapped[UUID] = mapped_column(primary_key=True)
    """The id of the API key or user; the nil UUID for calls that were counted without their caller."""
    route: Mapped[str] = mapped_column(primary_key=True)
    """The method and the template of the path, such as `GET /v1/agents/<agent_id>`."""
    outcome: Mapped[str] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(primary_key=True)
    """The problem code; empty without a problem."""
    kind: Mapped[str]
    calls: Mapped[int] = mapped_column(BigInteger)
    seconds: Mapped[float] = mapped_column(Float(53))
    """How long the calls took together."""


class UsageHour(AccountBase):
    """The same within an hour."""

    __tablename__ = "usage_hours"
    __table_args__ = (Index("usage_hours_of_caller", "caller", "hour"), OFTEN_UPDATED)

    hour: Mapped[datetime] = mapped_column(primary_key=True)
    caller: Mapped[UUID] = mapped_column(primary_key=True)
    route: Mapped[str] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    calls: Mapped[int] = mapped_column(BigInteger)
    seconds: Mapped[float] = mapped_column(Float(53))


class UsageTotal(AccountBase):
    """How often a route was called within a minute and within an hour, by outcome, over all callers.

    Sums of the two tables above, which are up to hundreds of times larger.
    """

    __tablename__ = "usage_totals"
    __table_args__ = OFTEN_UPDATED

    period: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    """The seconds of the interval: 60 or 3600."""
    start: Mapped[datetime] = mapped_column(primary_key=True)
    route: Mapped[str] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(primary_key=True)
    calls: Mapped[int] = mapped_column(BigInteger)
    seconds: Mapped[float] = mapped_column(Float(53))


class UsageAddress(AccountBase):
    """How often a caller called from an address within an hour."""

    __tablename__ = "usage_addresses"
    __table_args__ = (Index("usage_addresses_of_caller", "caller", "hour"), OFTEN_UPDATED)

    hour: Mapped[datetime] = mapped_column(primary_key=True)
    caller: Mapped[UUID] = mapped_column(primary_key=True)
    address: Mapped[str] = mapped_column(primary_key=True)
    agent: Mapped[str] = mapped_column(primary_key=True)
    """The family of the user agent, such as `curl`."""
    calls: Mapped[int] = mapped_column(BigInteger)
    last_at: Mapped[datetime]
    route: Mapped[str]
    """Of the last call."""


class UsageCaller(AccountBase):
    """The last call of an API key or user."""

    __tablename__ = "usage_callers"
    __table_args__ = OFTEN_UPDATED

    caller: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    last_at: Mapped[datetime]
    address: Mapped[str]
    agent: Mapped[str]
    route: Mapped[str]
    outcome: Mapped[str]
    code: Mapped[str]


class LoggedRequest(AccountBase):
    """A request of the last hours: refusals, and a sample of the others."""

    __tablename__ = "request_log"
    __table_args__ = (
        Index("request_log_newest_first", text("created_at DESC"), text("id DESC")),
        Index("request_log_request_id", "request_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    created_at: Mapped[datetime]
    request_id: Mapped[str]
    caller: Mapped[UUID]
    kind: Mapped[str]
    name: Mapped[str]
    """The name of the key or user at the time."""
    route: Mapped[str]
    status: Mapped[int] = mapped_column(SmallInteger)
    outcome: Mapped[str]
    code: Mapped[str]
    step: Mapped[int] = mapped_column(SmallInteger)
    """The step of the pipeline that decided: see `kataven.usage.steps`."""
    milliseconds: Mapped[float] = mapped_column(Float(53))
    address: Mapped[str]
    agent: Mapped[str]
    limits: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'"))
    """Each limit with what was left after the request."""


class UsageWriter(AccountBase):
    """The last batch that a worker wrote, so that a batch that is written again counts once."""

    __tablename__ = "usage_writers"
    __table_args__ = OFTEN_UPDATED

    writer: Mapped[UUID] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger)
    written_at: Mapped[datetime]


class UsageLoss(AccountBase):
    """What workers dropped within an hour, because their memory for usage was full."""

    __tablename__ = "usage_losses"

    hour: Mapped[datetime] = mapped_column(primary_key=True)
    calls: Mapped[int] = mapped_column(BigInteger)
    """Requests that are in no counter."""
    requests: Mapped[int] = mapped_column(BigInteger)
    """Refusals that are counted, but not in the request log."""


class WidgetRefusal(AccountBase):
    """How often pages of an origin were refused within an hour, by widget key. Since `account_0008`.

    `kataven.usage.refused_origins` writes and reads this table.
    """

    __tablename__ = "widget_refusals"
    __table_args__ = OFTEN_UPDATED

    hour: Mapped[datetime] = mapped_column(primary_key=True)
    key_id: Mapped[UUID] = mapped_column(primary_key=True)
    origin: Mapped[str] = mapped_column(primary_key=True)
    """Empty for the origins that are not kept apart."""
    calls: Mapped[int] = mapped_column(BigInteger)
    last_at: Mapped[datetime]


class WidgetKeySeed(AccountBase):
    """What a widget key is derived from, with a pepper: its text can be shown again. Since `account_0008`.

    The text itself is not stored. Keys that were created before have no seed.
    """

    __tablename__ = "widget_key_seeds"

    key_id: Mapped[UUID] = mapped_column(
        ForeignKey("widget_keys.id", name="widget_key_seeds_key_id_fkey", ondelete="CASCADE"), primary_key=True
    )
    seed: Mapped[bytes] = mapped_column(LargeBinary)
    pepper_id: Mapped[str]
