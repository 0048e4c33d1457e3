"""The fallback notices for revocations without Redis, and the workers that poll them."""

import sqlalchemy as sa
from alembic import op

revision = "system_0002"
down_revision = "system_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "revocation_notice",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, server_default=sa.text("1"), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("mark", sa.Uuid(), nullable=False),
        sa.CheckConstraint("id = 1", name="revocation_notice_only_one"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "revocation_readers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("home", sa.Text(), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("beats", sa.BigInteger(), nullable=False),
        sa.Column("read_count", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.execute("INSERT INTO revocation_notice (count, mark) VALUES (0, gen_random_uuid())")


def downgrade() -> None:
    op.drop_table("revocation_readers")
    op.drop_table("revocation_notice")
