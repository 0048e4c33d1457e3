"""Idempotency keys of requests that create, and rotation of API keys."""

import sqlalchemy as sa
from alembic import op

revision = "account_0004"
down_revision = "account_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("request_digest", sa.LargeBinary(), nullable=False),
        sa.Column("representation", sa.Text(), nullable=False),
        sa.Column("nonce", sa.LargeBinary(), nullable=True),
        sa.Column("pepper_id", sa.Text(), nullable=True),
        sa.Column("key_hash", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint("octet_length(id) = 32", name="idempotency_keys_id_length"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("idempotency_keys_created_at", "idempotency_keys", ["created_at"])
    op.create_index(
        "idempotency_keys_with_nonce",
        "idempotency_keys",
        ["created_at"],
        postgresql_where=sa.text("nonce IS NOT NULL"),
    )
    op.add_column("api_keys", sa.Column("generation", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("api_keys", sa.Column("rotated_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "former_secrets",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("key_id", sa.Uuid(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("pepper_id", sa.Text(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("rotated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("grace_seconds", sa.Integer(), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("late_uses", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_late_use_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_late_address", sa.Text(), nullable=True),
        sa.CheckConstraint("octet_length(key_hash) = 32", name="former_secrets_key_hash_length"),
        sa.CheckConstraint("grace_seconds >= 0", name="former_secrets_grace_seconds_range"),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name="former_secrets_key_id_fkey", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key_hash"),
    )
    op.create_index("former_secrets_of_key", "former_secrets", ["key_id", "generation"])
    op.create_index("former_secrets_pepper_id", "former_secrets", ["pepper_id"])
    newest = [sa.text("created_at DESC"), sa.text("id DESC")]
    op.create_index("audit_events_of_target", "audit_events", ["target", *newest])


def downgrade() -> None:
    op.drop_index("audit_events_of_target")
    op.drop_table("former_secrets")
    op.drop_column("api_keys", "rotated_at")
    op.drop_column("api_keys", "generation")
    op.drop_table("idempotency_keys")
