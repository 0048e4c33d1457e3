"""The users of the identity provider who used the account, with their last use."""

import sqlalchemy as sa
from alembic import op

revision = "account_0005"
down_revision = "account_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "people",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("sub", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("people_created_at_id", "people", ["created_at", "id"])
    op.create_index("people_last_seen_at", "people", ["last_seen_at"])


def downgrade() -> None:
    op.drop_index("people_last_seen_at", table_name="people")
    op.drop_index("people_created_at_id", table_name="people")
    op.drop_table("people")
