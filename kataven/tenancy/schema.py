"""One branch of schemas: its revisions, which of them this code serves, and how a database gets from one to the next.

Alembic keeps its state in module globals, so only one thread of a process may be inside it: in trials, four threads
that upgraded four databases all landed on one of them. Everything here that enters Alembic holds one lock for that.
"""

import hashlib
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from kataven.tenancy.error_classification import is_about_schema
from kataven.tenancy.errors import MigrationError
from kataven.tenancy.fingerprint import FINGERPRINT

_ALEMBIC = threading.RLock()
_REVISION = "SELECT string_agg(version_num, '+' ORDER BY version_num) FROM alembic_version"
_READ = text(_REVISION)
_READ_BOTH = text(f"SELECT ({_REVISION}), ({FINGERPRINT})")
_READ_FINGERPRINT = text(FINGERPRINT)


class SchemaState(NamedTuple):
    """What a database says of its own schema."""

    revision: str | None
    fingerprint: str


@dataclass(frozen=True)
class Schema:
    """The schemas of one branch, in a line from the first to the head.

    `scripts` is Alembic's folder, `versions` the branch's own within it (default: the one named like the branch);
    `metadata` says where the models are, as `"package.module:Base.metadata"`. `oldest` is the oldest revision that this
    code serves (default: the head alone). It can be pickled: other processes get their own.
    """

    branch: str
    scripts: Path
    metadata: str
    oldest: str | None = None
    versions: Path | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}  # not what has been read meanwhile

    @cached_property
    def revisions(self) -> tuple[str, ...]:
        """Every known revision, oldest first. Raises MigrationError if they fork, or lack the oldest to be served."""
        names = tuple(self._scripts)
        if not names or self.oldest not in (None, *names):
            raise MigrationError(f"{self.branch!r} has no revision {self.oldest or 'at all'}")
        return names

    @property
    def head(self) -> str:
        """The newest revision: the one that this code was written for."""
        return self.revisions[-1]

    @cached_property
    def window(self) -> tuple[str, ...]:
        """The revisions that this code serves, oldest first."""
        return self.revisions[self.revisions.index(self.oldest or self.head) :]

    @property
    def served(self) -> str:
        """The window in words."""
        return self.head if len(self.window) == 1 else f"{self.window[0]} to {self.head}"

    def serves(self, revision: str | None) -> bool:
        """Whether this code can work on a database at `revision`. One that it has never heard of is too new."""
        return revision in self.window

    def path(self, start: str | None, end: str | None = None) -> tuple[str, ...]:
        """The revisions to apply from `start` to `end` (default: the head). Raises MigrationError without a way."""
        end = end or self.head
        if end not in self.revisions or (start is not None and start not in self.revisions):
            raise MigrationError(f"revision {end if end not in self.revisions else start} is not known here")
        first = 0 if start is None else self.revisions.index(start) + 1
        last = self.revisions.index(end) + 1
        if first > last:
            raise MigrationError(f"revision {start} is newer than {end}")
        return self.revisions[first:last]

    def source(self, revision: str) -> str:
        """A digest of the files that lead to `revision`: it changes when one of them is edited."""
        digest = hashlib.sha256()
        for name in self.path(None, revision):
            digest.update(Path(self._script(name).path).read_bytes())
        return digest.hexdigest()[:32]

    def revision_of(self, connection: Connection) -> str | None:
        """The revision that the database names, None if it has none. One round trip."""
        try:
            revision: str | None = connection.execute(_READ).scalar_one()
        except DBAPIError as error:
            if not is_about_schema(error):
                raise
            connection.rollback()
            return None
        return revision

    def fingerprint(self, connection: Connection) -> str:
        """A digest of everything that makes up the schema. One query, about 10 ms. Equal schemas, equal digests."""
        return str(connection.execute(_READ_FINGERPRINT).scalar_one())

    def state(self, connection: Connection) -> SchemaState:
        """Revision and fingerprint in one round trip."""
        try:
            revision, fingerprint = connection.execute(_READ_BOTH).one()
        except DBAPIError as error:
            if not is_about_schema(error):
                raise
            connection.rollback()
            return SchemaState(None, self.fingerprint(connection))
        return SchemaState(revision, fingerprint)

    def upgrade(self, connection: Connection, revision: str = "head") -> None:
        """Bring one database to `revision` with Alembic itself, each step in a transaction of its own.

        For a new or a single database; for many, `fleet` is faster and safer. Blocks while another thread is inside.
        The connection must not be in a transaction; it is left in READ COMMITTED.
        """
        connection = connection.execution_options(isolation_level="READ COMMITTED")
        with self._alembic(connection=connection) as config:
            command.upgrade(config, revision)

    def render(self, start: str | None, end: str) -> str:
        """The SQL of the steps from `start` to `end`, without BEGIN and COMMIT. Raises what the revisions raise."""
        written = io.StringIO()
        with self._alembic() as config:
            config.output_buffer = written
            command.upgrade(config, f"{start or 'base'}:{end}", sql=True)
        return written.getvalue()

    def needs_python(self, revision: str) -> bool:
        """Whether a revision declares, by `needs_python = True`, that it reads data and can't be rendered as SQL."""
        return bool(getattr(self._script(revision).module, "needs_python", False))

    def write_revision(self, connection: Connection, message: str, revision: str) -> Path:
        """Write the revision that takes a database at the head to what the models say. Returns its file."""
        with self._alembic(connection=connection) as config:
            script = command.revision(
                config, message, autogenerate=True, rev_id=revision, version_path=str(self._versions), head="head"
            )
        if not isinstance(script, Script):
            raise MigrationError("Alembic wrote no revision")
        return Path(script.path)

    @cached_property
    def _scripts(self) -> dict[str, Script]:
        """The revisions' files, oldest first."""
        with _ALEMBIC:
            line = list(ScriptDirectory.from_config(self._config()).walk_revisions())[::-1]
        previous: str | None = None
        for script in line:
            if script.down_revision != previous:
                raise MigrationError(f"the revisions of {self.branch!r} fork at {script.down_revision}")
            previous = script.revision
        return {script.revision: script for script in line}

    def _script(self, revision: str) -> Script:
        try:
            return self._scripts[revision]
        except KeyError:
            raise MigrationError(f"revision {revision} is not known here") from None

    @property
    def _versions(self) -> Path:
        return self.versions or self.scripts / self.branch

    @contextmanager
    def _alembic(self, **attributes: Any) -> Iterator[Config]:
        with _ALEMBIC:
            config = self._config()
            config.attributes.update(attributes, metadata=self.metadata)
            yield config

    def _config(self) -> Config:
        config = Config()
        config.set_main_option("script_location", _literal(self.scripts))
        config.set_main_option("version_locations", _literal(self._versions))
        config.set_main_option("path_separator", "newline")
        config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
        return config


def _literal(path: Path) -> str:
    """A path for ConfigParser, which would read a percent sign as the start of a reference."""
    return str(path).replace("%", "%%")
