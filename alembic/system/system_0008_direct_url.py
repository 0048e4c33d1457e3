"""The direct URL of a server that is reached through a connection pooler."""

import sqlalchemy as sa
from alembic import op

revision = "system_0008"
down_revision = "system_0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("database_servers", sa.Column("direct_url", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("database_servers", "direct_url")
