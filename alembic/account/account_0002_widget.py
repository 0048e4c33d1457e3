"""The widget: its appearance, and a generation per widget key, which invalidates visitor sessions."""

import sqlalchemy as sa
from alembic import op

revision = "account_0002"
down_revision = "account_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("widget_keys", sa.Column("generation", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.create_table(
        "widget_settings",
        sa.Column("id", sa.SmallInteger(), server_default=sa.text("1"), autoincrement=False, nullable=False),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("launcher_label", sa.Text(), nullable=True),
        sa.Column("accent_color", sa.Text(), server_default=sa.text("'#1746a2'"), nullable=False),
        sa.Column("logo_url", sa.Text(), nullable=True),
        sa.Column("position", sa.Text(), server_default=sa.text("'bottom-right'"), nullable=False),
        sa.Column("theme", sa.Text(), server_default=sa.text("'auto'"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("id = 1", name="widget_settings_only_one"),
        sa.CheckConstraint("accent_color ~ '^#[0-9a-f]{6}$'", name="widget_settings_accent_color_shape"),
        sa.CheckConstraint("position IN ('bottom-right', 'bottom-left')", name="widget_settings_position_known"),
        sa.CheckConstraint("theme IN ('auto', 'light', 'dark')", name="widget_settings_theme_known"),
        sa.PrimaryKeyConstraint("id"),
    )


def downgrade() -> None:
    op.drop_table("widget_settings")
    op.drop_column("widget_keys", "generation")
