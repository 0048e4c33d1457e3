"""Where Alembic meets a database: whichever one it is handed, on whichever branch.

There is no ini file. `kataven.tenancy.schema` builds the configuration and hands over what is needed as attributes:
`metadata`, where the branch's models are (`"package.module:attribute.path"`), and `connection`, the database; without
a connection the statements are rendered to the output instead of being executed.
"""

from pkgutil import resolve_name

from alembic import context


def migrate() -> None:
    """Run the migrations that the command at hand asks for, each in a transaction of its own."""
    attributes = context.config.attributes
    if "metadata" not in attributes:
        raise SystemExit("alembic: use `flask migrations …`, which knows the databases")
    metadata = resolve_name(attributes["metadata"])
    if context.is_offline_mode():
        context.configure(
            url="postgresql+psycopg2://",
            target_metadata=metadata,
            literal_binds=True,
            dialect_opts={"paramstyle": "named"},
            transactional_ddl=True,
        )
        context.run_migrations()  # no BEGIN around it: whoever replays the statements adds its own
    else:
        context.configure(
            connection=attributes["connection"],
            target_metadata=metadata,
            transaction_per_migration=True,
            compare_server_default=True,
        )
        with context.begin_transaction():
            context.run_migrations()


migrate()
