"""Users as revocation targets: since when their tokens are refused, and in which accounts they are blocked.

Also the rotation policy of accounts."""

import sqlalchemy as sa
from alembic import op

revision = "system_0009"
down_revision = "system_0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("accounts", sa.Column("rotate_after_days", sa.Integer(), nullable=True))
    op.create_check_constraint("accounts_rotate_after_days_positive", "accounts", "rotate_after_days > 0")
    op.create_table(
        "subject_cutoffs",
        sa.Column("subject", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("sub", sa.Text(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("signed_in_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("subject", "account"),
    )
    op.create_index("subject_cutoffs_account_not_before", "subject_cutoffs", ["account", "not_before"])
    op.create_table(
        "subject_blocks",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("subject", sa.Uuid(), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("sub", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.ForeignKeyConstraint(["account"], ["accounts.account_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("account", "subject"),
    )


def downgrade() -> None:
    op.drop_table("subject_blocks")
    op.drop_index("subject_cutoffs_account_not_before", table_name="subject_cutoffs")
    op.drop_table("subject_cutoffs")
    op.drop_constraint("accounts_rotate_after_days_positive", "accounts")
    op.drop_column("accounts", "rotate_after_days")
