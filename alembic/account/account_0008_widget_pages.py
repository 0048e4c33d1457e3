"""What the pages of the widget show: origins that were refused, and what a widget key is derived from."""

import sqlalchemy as sa
from alembic import op

revision = "account_0008"
down_revision = "account_0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "widget_refusals",
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("key_id", sa.Uuid(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("hour", "key_id", "origin"),
        postgresql_with={"fillfactor": 70},
    )
    op.create_table(
        "widget_key_seeds",
        sa.Column("key_id", sa.Uuid(), nullable=False),
        sa.Column("seed", sa.LargeBinary(), nullable=False),
        sa.Column("pepper_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["key_id"], ["widget_keys.id"], name="widget_key_seeds_key_id_fkey", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("key_id"),
    )


def downgrade() -> None:
    op.drop_table("widget_key_seeds")
    op.drop_table("widget_refusals")
