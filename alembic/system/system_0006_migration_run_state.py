"""An explicit state for each migration run. Before, it was derived from `open`, `began_at`, `error` and `counts`.

The previous release does not write `state`. While a rollout is in progress, a process of that release may still start
or end a run, so a trigger derives the state for updates that leave it unchanged. A later revision can drop the trigger.
"""

import sqlalchemy as sa
from alembic import op

revision = "system_0006"
down_revision = "system_0005"
branch_labels = None
depends_on = None

STATES = "state IN ('starting', 'running', 'stopped', 'failed', 'done')"

STATE_OF = """CASE
    WHEN {row}open AND {row}began_at IS NULL THEN 'starting'
    WHEN {row}open THEN 'running'
    WHEN {row}error = 'stopped on the way' THEN 'stopped'
    WHEN {row}error IS NOT NULL OR {row}counts ?| ARRAY['failed', 'skipped'] THEN 'failed'
    ELSE 'done'
END"""
"""As the previous release derives it from a row. It counts an outcome only once it has occurred, so no count is 0."""

FUNCTION = f"""
CREATE FUNCTION migration_runs_derive_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state = OLD.state AND (NEW.open, NEW.began_at) IS DISTINCT FROM (OLD.open, OLD.began_at) THEN
        NEW.state := {STATE_OF.format(row="NEW.")};
    END IF;
    RETURN NEW;
END
$$
"""

TRIGGER = """
CREATE TRIGGER migration_runs_derive_state BEFORE UPDATE ON migration_runs
FOR EACH ROW EXECUTE FUNCTION migration_runs_derive_state()
"""


def upgrade() -> None:
    op.add_column("migration_runs", sa.Column("state", sa.Text(), server_default=sa.text("'starting'"), nullable=False))
    runs = sa.table("migration_runs", sa.column("state"))
    op.execute(sa.update(runs).values(state=sa.text(STATE_OF.format(row=""))))
    op.create_check_constraint("migration_runs_state_known", "migration_runs", STATES)
    op.execute(FUNCTION)
    op.execute(TRIGGER)


def downgrade() -> None:
    op.execute("DROP TRIGGER migration_runs_derive_state ON migration_runs")
    op.execute("DROP FUNCTION migration_runs_derive_state()")
    op.drop_column("migration_runs", "state")
