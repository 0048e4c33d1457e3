"""The direct URL of a server that is reached through a connection pooler, and the rotation policy of accounts."""

import sqlalchemy as sa
from alembic import op

revision = "system_0008"
down_revision = "system_0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("database_servers", sa.Column("direct_url", sa.Text(), nullable=True))
    op.add_column("accounts", sa.Column("rotate_after_days", sa.Integer(), nullable=True))
    op.create_check_constraint("accounts_rotate_after_days_positive", "accounts", "rotate_after_days > 0")


def downgrade() -> None:
    op.drop_constraint("accounts_rotate_after_days_positive", "accounts")
    op.drop_column("accounts", "rotate_after_days")
    op.drop_column("database_servers", "direct_url")
