"""Scopes, conditions and pause of API keys."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "account_0003"
down_revision = "account_0002"
branch_labels = None
depends_on = None

_LISTED = ("paused_at", "not_before", "browser_use_at")
"""Columns that few keys have, and that lists filter by."""
_TEXTS = postgresql.ARRAY(sa.Text())


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("scopes", _TEXTS, nullable=True))
    op.add_column("api_keys", sa.Column("allowed_addresses", _TEXTS, server_default=sa.text("'{}'"), nullable=False))
    op.add_column("api_keys", sa.Column("denied_addresses", _TEXTS, server_default=sa.text("'{}'"), nullable=False))
    op.add_column("api_keys", sa.Column("from_browsers", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("api_keys", sa.Column("browser_use_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("api_keys", sa.Column("not_before", sa.DateTime(timezone=True), nullable=True))
    op.add_column("api_keys", sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("api_keys_by_name", "api_keys", [sa.text("lower(name)"), "id"])
    infinite = sa.text("COALESCE(expires_at, 'infinity'::timestamptz)")
    op.create_index("api_keys_by_expiry", "api_keys", [infinite, "id"])
    for column in _LISTED:
        op.create_index(
            f"api_keys_with_{column}",
            "api_keys",
            [sa.text("created_at DESC"), sa.text("id DESC")],
            postgresql_where=sa.text(f"{column} IS NOT NULL"),
        )


def downgrade() -> None:
    for name in (*(f"with_{column}" for column in _LISTED), "by_expiry", "by_name"):
        op.drop_index(f"api_keys_{name}")
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
