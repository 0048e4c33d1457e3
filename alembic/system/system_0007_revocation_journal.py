"""The revocation journal, and the history of each database server.

The journal is a second record of each revoked key, in case a failover of the account's server loses the commit.
"""

import sqlalchemy as sa
from alembic import op

revision = "system_0007"
down_revision = "system_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "revoked_keys",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=True),
        sa.Column(
            "revoked_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("account", "key_id"),
    )
    op.create_index("revoked_keys_revoked_at", "revoked_keys", ["revoked_at"])
    op.create_table(
        "server_histories",
        sa.Column("server", sa.Text(), nullable=False),
        sa.Column("history", sa.Text(), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("settled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.ForeignKeyConstraint(["server"], ["database_servers.name"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("server"),
    )


def downgrade() -> None:
    op.drop_table("server_histories")
    op.drop_index("revoked_keys_revoked_at", table_name="revoked_keys")
    op.drop_table("revoked_keys")
