"""Scopes, conditions and pause of API keys."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "account_0003"
down_revision = "account_0002"
branch_labels = None
depends_on = None

_TEXTS = postgresql.ARRAY(sa.Text())


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("scopes", _TEXTS, nullable=True))
    op.add_column("api_keys", sa.Column("allowed_addresses", _TEXTS, server_default=sa.text("'{}'"), nullable=False))
    op.add_column("api_keys", sa.Column("denied_addresses", _TEXTS, server_default=sa.text("'{}'"), nullable=False))
    op.add_column("api_keys", sa.Column("from_browsers", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("api_keys", sa.Column("browser_use_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("api_keys", sa.Column("not_before", sa.DateTime(timezone=True), nullable=True))
    op.add_column("api_keys", sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    for name in (
        "paused_at",
        "not_before",
        "browser_use_at",
        "from_browsers",
        "denied_addresses",
        "allowed_addresses",
        "scopes",
    ):
        op.drop_column("api_keys", name)
