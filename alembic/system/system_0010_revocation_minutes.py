"""How long revocations took, by the minute."""

import sqlalchemy as sa
from alembic import op

revision = "system_0010"
down_revision = "system_0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "revocation_minutes",
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("measure", sa.Text(), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("slowest_ms", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("minute", "source", "measure", "bucket"),
    )


def downgrade() -> None:
    op.drop_table("revocation_minutes")
