"""Runs Alembic for the given database and branch. Each folder of Alembic scripts has an `env.py` that calls `migrate`.

No ini file exists. `kataven.tenancy.schema` builds the configuration and passes two attributes: `metadata`, the
location of the branch's models (`"package.module:attribute.path"`), and `connection`, the database. Without a
connection, the statements are rendered to the output instead of being executed.
"""

from pkgutil import resolve_name
from typing import Any

from alembic import context

NOT_COMPARED = "not_compared"
"""Key in the `info` of an index whose expression Alembic can't compare, such as one with a collation, which PostgreSQL
reports separately. A draft contains such an index only if it is missing in the models or in the database."""


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
            include_object=_is_compared,
        )
        with context.begin_transaction():
            context.run_migrations()


def _is_compared(given: Any, _name: str | None, kind: str, _reflected: bool, compare_to: Any) -> bool:
    """Whether a draft may contain the difference between `given` and `compare_to`, one of them from the models."""
    both = given is not None and compare_to is not None
    return not (kind == "index" and both and (NOT_COMPARED in given.info or NOT_COMPARED in compare_to.info))
