"""A status for accounts that are being deleted, so that an interrupted deletion can be finished."""

from alembic import op

revision = "system_0003"
down_revision = "system_0002"
branch_labels = None
depends_on = None

BEFORE = "status IN ('provisioning', 'active', 'suspended', 'archived', 'failed')"
AFTER = "status IN ('provisioning', 'active', 'suspended', 'archived', 'failed', 'deleting')"


def upgrade() -> None:
    op.drop_constraint("accounts_status_known", "accounts", type_="check")
    op.create_check_constraint("accounts_status_known", "accounts", AFTER)


def downgrade() -> None:
    op.drop_constraint("accounts_status_known", "accounts", type_="check")
    op.create_check_constraint("accounts_status_known", "accounts", BEFORE)
