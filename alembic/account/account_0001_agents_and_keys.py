"""An account's database: agents, keys and the audit log."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "account_0001"
down_revision = None
branch_labels = ("account",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "agents",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("system_prompt", sa.Text(), nullable=True),
        sa.Column("greeting_message", sa.Text(), nullable=True),
        sa.Column("greeting_mode", sa.Text(), nullable=False),
        sa.Column("llm_model", sa.Text(), nullable=False),
        sa.Column("voice_provider", sa.Text(), nullable=False),
        sa.Column("voice_id", sa.Text(), nullable=True),
        sa.Column("auth_mode", sa.Text(), nullable=False),
        sa.Column("ringing_enabled", sa.Boolean(), nullable=False),
        sa.Column("background_audio_enabled", sa.Boolean(), nullable=False),
        sa.Column("background_audio_volume", sa.Double(), nullable=False),
        sa.Column("noise_suppression_enabled", sa.Boolean(), nullable=False),
        sa.Column("widget_enabled", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("widget_auth_mode", sa.Text(), server_default=sa.text("'guest'"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.CheckConstraint("auth_mode IN ('public', 'authenticated')", name="agents_auth_mode_known"),
        sa.CheckConstraint(
            "category IN ('customer_support', 'sales', 'operations', 'custom')", name="agents_category_known"
        ),
        sa.CheckConstraint("greeting_mode IN ('interruptible', 'locked')", name="agents_greeting_mode_known"),
        sa.CheckConstraint("status IN ('draft', 'active', 'paused', 'archived')", name="agents_status_known"),
        sa.CheckConstraint(
            "voice_provider IN ('cartesia', 'elevenlabs', 'deepgram')", name="agents_voice_provider_known"
        ),
        sa.CheckConstraint("widget_auth_mode IN ('guest', 'user', 'both')", name="agents_widget_auth_mode_known"),
        sa.CheckConstraint("background_audio_volume BETWEEN 0 AND 1", name="agents_background_audio_volume_range"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "agents_newest_first",
        "agents",
        [sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("pepper_id", sa.Text(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("limits", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.CheckConstraint("octet_length(key_hash) = 32", name="api_keys_key_hash_length"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key_hash"),
    )
    op.create_index(
        "api_keys_newest_first",
        "api_keys",
        [sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
    )
    op.create_index("api_keys_pepper_id", "api_keys", ["pepper_id"], unique=False)
    op.create_table(
        "audit_events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("actor_name", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=True),
        sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("address", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "audit_events_newest_first",
        "audit_events",
        [sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
    )
    op.create_table(
        "widget_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("pepper_id", sa.Text(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("domain_allowlist", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("agent_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("octet_length(key_hash) = 32", name="widget_keys_key_hash_length"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key_hash"),
    )
    op.create_index(
        "widget_keys_newest_first",
        "widget_keys",
        [sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
    )
    op.create_index("widget_keys_pepper_id", "widget_keys", ["pepper_id"], unique=False)


def downgrade() -> None:
    op.drop_index("widget_keys_pepper_id", table_name="widget_keys")
    op.drop_index("widget_keys_newest_first", table_name="widget_keys")
    op.drop_table("widget_keys")
    op.drop_index("audit_events_newest_first", table_name="audit_events")
    op.drop_table("audit_events")
    op.drop_index("api_keys_pepper_id", table_name="api_keys")
    op.drop_index("api_keys_newest_first", table_name="api_keys")
    op.drop_table("api_keys")
    op.drop_index("agents_newest_first", table_name="agents")
    op.drop_table("agents")
