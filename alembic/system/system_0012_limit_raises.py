"""Temporary raises of an account's rate limits, and how many responses of an account were 429 or 5xx, by the minute.

Also indexes for the filters of the operator audit log."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "system_0012"
down_revision = "system_0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("accounts", sa.Column("raised_limits", postgresql.JSONB(), nullable=True))
    op.add_column("accounts", sa.Column("limits_raised_until", sa.DateTime(timezone=True), nullable=True))
    op.create_check_constraint(
        "accounts_raise_has_an_end", "accounts", "(raised_limits IS NULL) = (limits_raised_until IS NULL)"
    )
    for column in ("account", "action", "actor"):
        name = "account_id" if column == "account" else column
        op.create_index(f"operator_events_of_{column}", "operator_events", [name, "at"])
    op.create_table(
        "response_minutes",
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("minute", "outcome", "account"),
    )


def downgrade() -> None:
    op.drop_table("response_minutes")
    for column in ("account", "action", "actor"):
        op.drop_index(f"operator_events_of_{column}", table_name="operator_events")
    op.drop_constraint("accounts_raise_has_an_end", "accounts")
    op.drop_column("accounts", "limits_raised_until")
    op.drop_column("accounts", "raised_limits")
