"""Idempotency keys of requests that create."""

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


def downgrade() -> None:
    op.drop_table("idempotency_keys")
