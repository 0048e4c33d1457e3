"""The e-mail domains of accounts."""

import sqlalchemy as sa
from alembic import op

revision = "system_0011"
down_revision = "system_0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "account_email_domains",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "domain"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.account_id"], ondelete="CASCADE"),
    )


def downgrade() -> None:
    op.drop_table("account_email_domains")
