"""A branch of schemas: its revisions, its window, and the state of a database."""

import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine, inspect, text

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.system.schema import ACCOUNT_SCHEMA, SYSTEM_SCHEMA
from kataven.tenancy.errors import MigrationError
from kataven.tenancy.schema import Schema
from tests.tenancy.conftest import connected, drop_database
from tests.tenancy.revisions import Line


@pytest.fixture
def line(tmp_path: Path) -> Line:
    line = Line(tmp_path / "100%line")
    line.then("r2", 'op.add_column("notes", sa.Column("author", sa.Text))')
    line.then("r3", 'op.create_index("notes_author", "notes", ["author"])')
    return line


@pytest.fixture
def empty(postgres: EmbeddedPostgres) -> Iterator[Connection]:
    with connected(postgres) as connection:
        connection.execute(text("CREATE DATABASE empty"))
    with connected(postgres, "empty") as connection:
        yield connection
    drop_database(postgres, "empty")


def test_the_head_and_the_declared_older_revisions_are_served(line: Line) -> None:
    schema = line.schema()
    assert (schema.revisions, schema.head, schema.window, schema.served) == (("r1", "r2", "r3"), "r3", ("r3",), "r3")
    older = line.schema(oldest="r2")
    assert (older.window, older.served) == (("r2", "r3"), "r2 to r3")
    served = {revision: older.serves(revision) for revision in (None, "r1", "r2", "r3", "r4")}
    assert served == {None: False, "r1": False, "r2": True, "r3": True, "r4": False}


def test_a_path_only_leads_to_newer_revisions(line: Line) -> None:
    schema = line.schema()
    assert schema.path(None) == ("r1", "r2", "r3")
    assert schema.path("r1", "r2") == ("r2",)
    assert schema.path("r3") == ()
    for start, end in (("r3", "r2"), ("r9", None), ("r1", "r9")):
        with pytest.raises(MigrationError):
            schema.path(start, end)


def test_forked_or_missing_revisions_are_rejected(line: Line, tmp_path: Path) -> None:
    with pytest.raises(MigrationError, match="no revision r9"):
        _ = line.schema(oldest="r9").revisions
    line.write("r3b", "r2", "    pass")
    with pytest.raises(MigrationError, match="fork"):
        _ = line.schema().revisions
    (tmp_path / "none").mkdir()
    with pytest.raises(MigrationError, match="is empty"):
        _ = Schema("none", "tests.tenancy.models:Base.metadata", versions=tmp_path / "none").head


def test_files_that_are_no_revisions_are_rejected_with_their_name(line: Line) -> None:
    line.write("r9", "r8", "    pass")
    with pytest.raises(MigrationError, match=r"r9\.py of 'test' follows r8, which does not exist"):
        _ = line.schema().revisions
    for source, problem in (("revision = name()", "must set `revision`"), ("revision =", "is not valid Python")):
        (line.folder / "r9.py").write_text(source)
        with pytest.raises(MigrationError, match=rf"r9\.py {problem}"):
            _ = line.schema().revisions


@pytest.mark.parametrize(
    "header",
    [
        'revision = "r4"\ndown_revision = "r3"',
        'revision: str = "r4"\ndown_revision: str | None = "r3"',
        'revision, down_revision = "r4", "r3"',
    ],
)
def test_every_way_to_write_the_identifiers_is_read(line: Line, header: str) -> None:
    (line.folder / "any name.py").write_text(f"{header}\n")
    (line.folder / "__init__.py").write_text("")
    (line.folder / ".#r4.py").write_text("an editor's lock")
    assert line.schema().head == "r4"


@pytest.mark.parametrize("schema", [SYSTEM_SCHEMA, ACCOUNT_SCHEMA], ids=["system", "account"])
def test_revisions_are_those_that_alembic_reads(schema: Schema) -> None:
    config = Config()
    config.set_main_option("script_location", str(schema.scripts))
    config.set_main_option("version_locations", str(schema.scripts / schema.branch))
    config.set_main_option("path_separator", "newline")
    read = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert list(schema.revisions) == read[::-1]


def test_the_revision_is_read_from_the_database(line: Line, empty: Connection) -> None:
    schema = line.schema()
    assert schema.revision_of(empty) is None
    assert schema.state(empty).revision is None
    empty.rollback()
    schema.upgrade(empty, "r2")
    assert schema.revision_of(empty) == schema.state(empty).revision == "r2"
    empty.execute(text("DELETE FROM alembic_version"))
    assert schema.revision_of(empty) is None


def test_each_step_runs_in_its_own_transaction(line: Line, empty: Connection) -> None:
    line.then("r4", 'op.add_column("notes", sa.Column("extra", sa.Text))\nop.execute("SELECT 1 / 0")')
    schema = line.schema()
    with pytest.raises(Exception, match="division by zero"):
        schema.upgrade(empty)
    empty.rollback()
    assert schema.revision_of(empty) == "r3"
    assert "extra" not in {column["name"] for column in inspect(empty).get_columns("notes")}


def test_threads_use_alembic_one_at_a_time_and_each_upgrades_its_own_database(
    line: Line, postgres: EmbeddedPostgres
) -> None:
    schema, start = line.schema(), threading.Barrier(4)
    names = [f"turn{thread}" for thread in range(4)]

    def upgrade(name: str) -> str | None:
        engine = create_engine(postgres.url(name), poolclass=NullPool)
        with engine.connect() as connection:
            start.wait(10)
            schema.upgrade(connection)
            return schema.revision_of(connection)

    with connected(postgres) as connection:
        for name in names:
            connection.execute(text(f"CREATE DATABASE {name}"))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(upgrade, names)) == ["r3"] * 4
    for name in names:
        drop_database(postgres, name)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE notes ADD extra int",
        "ALTER TABLE notes ALTER author SET NOT NULL",
        "ALTER TABLE notes ALTER author TYPE varchar(10)",
        "ALTER TABLE notes ALTER author SET DEFAULT 'x'",
        "ALTER TABLE notes ADD CONSTRAINT short CHECK (length(text) < 9)",
        "DROP INDEX notes_author",
        "CREATE UNIQUE INDEX other ON notes (text)",
        "CREATE VIEW loud AS SELECT upper(text) FROM notes",
        "CREATE TYPE mood AS ENUM ('fine')",
        "CREATE SEQUENCE counter INCREMENT 2",
        "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "ALTER TABLE tags DROP CONSTRAINT tags_note_id_fkey",
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY",
    ],
)
def test_every_schema_change_changes_the_fingerprint(line: Line, empty: Connection, change: str) -> None:
    schema = line.schema()
    schema.upgrade(empty)
    before = schema.fingerprint(empty)
    empty.execute(text("INSERT INTO notes (text, author) VALUES ('no', 'data')"))
    empty.execute(text("CREATE SCHEMA elsewhere CREATE TABLE notes ()"))
    assert schema.fingerprint(empty) == before
    empty.execute(text(change))
    assert schema.fingerprint(empty) != before == before


def test_editing_a_revision_changes_the_source_digest_of_later_revisions(line: Line) -> None:
    schema = line.schema()
    before = [schema.source(revision) for revision in schema.revisions]
    line.write("r2", "r1", "    op.execute('SELECT 2')")
    after = [schema.source(revision) for revision in schema.revisions]
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, False]


def test_rendered_steps_contain_no_transaction_statements(line: Line) -> None:
    rendered = line.schema().render("r1", "r2")
    assert "ADD COLUMN author" in rendered
    assert "UPDATE alembic_version SET version_num='r2' WHERE alembic_version.version_num = 'r1'" in rendered
    assert not {"BEGIN;", "COMMIT;"} & set(rendered.splitlines())


def test_a_revision_is_written_from_the_models(line: Line, empty: Connection) -> None:
    line.schema().upgrade(empty)
    path = line.schema().write_revision(empty, "what the models lack", "r4")
    written = path.read_text()
    assert path == line.folder / "r4_what_the_models_lack.py"
    assert 'op.drop_column("notes", "author")' in written or "op.drop_column('notes', 'author')" in written
    assert line.schema().head == "r4"
    assert '"""what the models lack"""' in written


def test_a_schema_can_be_pickled(line: Line) -> None:
    schema = line.schema(oldest="r2")
    assert schema.head == "r3"
    copied = pickle.loads(pickle.dumps(schema))  # noqa: S301 - created by this test
    assert (copied, copied.window) == (schema, schema.window)
