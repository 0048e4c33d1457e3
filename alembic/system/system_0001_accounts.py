"""The system database: accounts, their limits and servers, and the operator audit log."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "system_0001"
down_revision = None
branch_labels = ("system",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "database_servers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("draining", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "operator_events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=True),
        sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("operator_events_at", "operator_events", ["at"], unique=False)
    op.create_table(
        "accounts",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("account_name", sa.Text(), nullable=False),
        sa.Column("database_name", sa.Text(), nullable=False),
        sa.Column("server", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("zitadel_org_id", sa.Text(), nullable=True),
        sa.Column("max_key_expiry_days", sa.Integer(), nullable=True),
        sa.Column("discoverable", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("schema_revision", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("account_id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'", name="accounts_account_id_form"),
        sa.CheckConstraint(
            "status IN ('provisioning', 'active', 'suspended', 'archived', 'failed')", name="accounts_status_known"
        ),
        sa.CheckConstraint("max_key_expiry_days > 0", name="accounts_max_key_expiry_days_positive"),
        sa.ForeignKeyConstraint(
            ["server"],
            ["database_servers.name"],
        ),
        sa.PrimaryKeyConstraint("account_id"),
        sa.UniqueConstraint("zitadel_org_id"),
    )
    op.create_index("accounts_server_database_name", "accounts", ["server", "database_name"], unique=True)
    op.create_table(
        "account_rate_limits",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("per_minute", sa.Integer(), nullable=False),
        sa.Column("per_hour", sa.Integer(), nullable=False),
        sa.Column("per_day", sa.Integer(), nullable=False),
        sa.Column("concurrent", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "per_minute > 0 AND per_hour > 0 AND per_day > 0 AND concurrent > 0", name="account_rate_limits_positive"
        ),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.account_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("account_id"),
    )


def downgrade() -> None:
    op.drop_table("account_rate_limits")
    op.drop_index("accounts_server_database_name", table_name="accounts")
    op.drop_table("accounts")
    op.drop_index("operator_events_at", table_name="operator_events")
    op.drop_table("operator_events")
    op.drop_table("database_servers")
