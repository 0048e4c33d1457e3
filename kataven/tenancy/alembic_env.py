"""Runs Alembic for the given database and branch. Each folder of Alembic scripts has an `env.py` that calls `migrate`.

No ini file exists. `kataven.tenancy.schema` builds the configuration and passes two attributes: `metadata`, the
location of the branch's models (`"package.module:attribute.path"`), and `connection`, the database. Without a
connection, the statements are rendered to the output instead of being executed.
"""

from pkgutil import resolve_name

from alembic import context


def migrate() -> None:
    """Run the migrations that the command requests, each in its own transaction."""
    attributes = context.config.attributes
    if "metadata" not in attributes:
        raise SystemExit("alembic: use `flask migrations …`, which configures the databases")
    metadata = resolve_name(attributes["metadata"])
    if context.is_offline_mode():
        context.configure(
            url="postgresql+psycopg2://",
            target_metadata=metadata,
            literal_binds=True,
            dialect_opts={"paramstyle": "named"},
            transactional_ddl=True,
        )
        context.run_migrations()  # without BEGIN: the code that replays the statements adds it
    else:
        context.configure(
            connection=attributes["connection"],
            target_metadata=metadata,
            transaction_per_migration=True,
            compare_server_default=True,
        )
        with context.begin_transaction():
            context.run_migrations()
