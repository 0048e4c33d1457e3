"""The home Redis of each worker, and revocation intents."""

import sqlalchemy as sa
from alembic import op

revision = "system_0005"
down_revision = "system_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("revocation_readers", sa.Column("redis", sa.Text(), nullable=True))
    op.create_table(
        "revocation_intents",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("account", sa.Text(), nullable=True),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.Column("begun_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def downgrade() -> None:
    op.drop_table("revocation_intents")
    op.drop_column("revocation_readers", "redis")
