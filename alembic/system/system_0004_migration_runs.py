"""The progress and results of migration runs over the accounts' databases."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "system_0004"
down_revision = "system_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "migration_runs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("open", sa.Boolean(), server_default=sa.text("true"), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("accounts", JSONB(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("options", JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("total", sa.Integer(), nullable=True),
        sa.Column("counts", JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("remarks", JSONB(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("asked_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("open", name="migration_runs_open_or_null"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("open", name="migration_runs_one_at_a_time"),
    )
    op.create_index("migration_runs_asked_at", "migration_runs", ["asked_at"])


def downgrade() -> None:
    op.drop_table("migration_runs")
