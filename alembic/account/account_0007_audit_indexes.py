"""Indexes for the filters of the audit log."""

import sqlalchemy as sa
from alembic import op

revision = "account_0007"
down_revision = "account_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    newest = (sa.text("created_at DESC"), sa.text("id DESC"))
    op.create_index("audit_events_of_actor", "audit_events", ["actor", *newest])
    op.create_index("audit_events_of_action", "audit_events", ["action", *newest])
    op.create_index(
        "audit_events_of_name",
        "audit_events",
        [sa.text("lower(detail ->> 'name') COLLATE \"C\""), "target"],
        postgresql_where=sa.text("detail ->> 'name' IS NOT NULL AND target IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("audit_events_of_name", table_name="audit_events")
    op.drop_index("audit_events_of_action", table_name="audit_events")
    op.drop_index("audit_events_of_actor", table_name="audit_events")
