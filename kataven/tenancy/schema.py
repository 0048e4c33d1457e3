"""One branch of schemas: its revisions, which of them this code serves, and how to upgrade a database.

Alembic keeps its state in module globals, so only one thread of a process may use it: in a test, four threads that
upgraded four databases all upgraded the same one. Every call into Alembic in this module holds one lock.

Alembic is imported in the functions that migrate: a process that only serves requests needs the names and the order of
the revisions, which `revision_files` reads without it.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from kataven.tenancy.error_classification import is_about_schema
from kataven.tenancy.errors import MigrationError
from kataven.tenancy.fingerprint import FINGERPRINT
from kataven.tenancy.names import KATAVEN_NAMES, DatabaseNames
from kataven.tenancy.revision_files import RevisionFile, read_history

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

_ALEMBIC = threading.RLock()
_REVISION = "SELECT string_agg(version_num, '+' ORDER BY version_num) FROM alembic_version"
_READ = text(_REVISION)
_READ_BOTH = text(f"SELECT ({_REVISION}), ({FINGERPRINT})")
_READ_FINGERPRINT = text(FINGERPRINT)


def scripts_folder() -> Path:
    """Alembic's folder of this release: `alembic/` in a checkout, `kataven/alembic_scripts/` in an installed wheel."""
    package = Path(__file__).resolve().parents[1]
    # In `site-packages`, the folder `alembic` next to the package is the library.
    installed = package / "alembic_scripts"
    return installed if installed.is_dir() else package.parent / "alembic"


class SchemaState(NamedTuple):
    """The revision recorded in a database, and the fingerprint of its schema."""

    revision: str | None
    fingerprint: str


@dataclass(frozen=True)
class Schema:
    """The schemas of one branch, a linear history from the first revision to the head.

    `metadata` locates the models, as `"package.module:Base.metadata"`. `oldest` is the oldest revision that this code
    serves (default: only the head). `versions` is the folder of the branch's revisions (default: the one in `scripts`
    that has the branch's name). `scripts` is Alembic's folder, with `env.py` (default: the one of this release).
    `names` are those of template and scratch databases. Instances can be pickled, for use in other processes.
    """

    branch: str
    metadata: str
    oldest: str | None = None
    versions: Path | None = None
    scripts: Path = field(default_factory=scripts_folder)
    names: DatabaseNames = KATAVEN_NAMES

    def __getstate__(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}  # without the cached properties

    @cached_property
    def revisions(self) -> tuple[str, ...]:
        """Every known revision, oldest first. Raises MigrationError if they fork, or if `oldest` does not exist."""
        names = tuple(self._files)
        if not names or self.oldest not in (None, *names):
            raise MigrationError(
                f"the branch {self.branch!r} has no revision {self.oldest}"
                if names
                else f"the branch {self.branch!r} is empty"
            )
        return names

    @property
    def head(self) -> str:
        """The newest revision, for which this code is written."""
        return self.revisions[-1]

    @cached_property
    def window(self) -> tuple[str, ...]:
        """The revisions that this code serves, oldest first."""
        return self.revisions[self.revisions.index(self.oldest or self.head) :]

    @property
    def served(self) -> str:
        """The window as text for a message."""
        return self.head if len(self.window) == 1 else f"{self.window[0]} to {self.head}"

    def serves(self, revision: str | None) -> bool:
        """Whether this code can work on a database at `revision`. An unknown revision is too new."""
        return revision in self.window

    def path(self, start: str | None, end: str | None = None) -> tuple[str, ...]:
        """The revisions to apply from `start` to `end` (default: the head). Raises MigrationError if no path exists."""
        end = end or self.head
        if end not in self.revisions or (start is not None and start not in self.revisions):
            raise MigrationError(f"revision {end if end not in self.revisions else start} is unknown to this release")
        first = 0 if start is None else self.revisions.index(start) + 1
        last = self.revisions.index(end) + 1
        if first > last:
            raise MigrationError(f"revision {start} is newer than {end}")
        return self.revisions[first:last]

    def source(self, revision: str) -> str:
        """A digest of the revision files up to `revision`. It changes when one of them is edited."""
        digest = hashlib.sha256()
        for name in self.path(None, revision):
            digest.update(self._file(name).path.read_bytes())
        return digest.hexdigest()[:32]

    def revision_of(self, connection: Connection) -> str | None:
        """The revision recorded in the database, None if it has none. One round trip."""
        try:
            revision: str | None = connection.execute(_READ).scalar_one()
        except DBAPIError as error:
            if not is_about_schema(error):
                raise
            connection.rollback()
            return None
        return revision

    def fingerprint(self, connection: Connection) -> str:
        """A digest of the schema. One query, about 10 ms. Equal schemas have equal digests."""
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
        """Upgrade one database to `revision` with Alembic, each step in its own transaction.

        Use it for a new or a single database; for many, `Fleet` is faster and safer. Blocks while another thread uses
        Alembic. The connection must not be in a transaction, and is in READ COMMITTED afterwards.
        """
        from alembic import command

        connection = connection.execution_options(isolation_level="READ COMMITTED")
        with self._alembic(connection=connection) as config:
            command.upgrade(config, revision)

    def render(self, start: str | None, end: str) -> str:
        """The SQL of the steps from `start` to `end`, without BEGIN and COMMIT. Raises the revisions' own errors."""
        from alembic import command

        written = io.StringIO()
        with self._alembic() as config:
            config.output_buffer = written
            command.upgrade(config, f"{start or 'base'}:{end}", sql=True)
        return written.getvalue()

    def needs_python(self, revision: str) -> bool:
        """Whether a revision declares with `needs_python = True` that it reads data and can't be rendered as SQL."""
        self._file(revision)
        with _ALEMBIC:
            module = self._scripts.get_revision(revision).module
        return bool(getattr(module, "needs_python", False))

    def write_revision(self, connection: Connection, message: str, revision: str) -> Path:
        """Write the revision that upgrades a database from the head to the models. Returns its file."""
        from alembic import command
        from alembic.script import Script

        with self._alembic(connection=connection) as config:
            script = command.revision(
                config, message, autogenerate=True, rev_id=revision, version_path=str(self._versions), head="head"
            )
        if not isinstance(script, Script):
            raise MigrationError("Alembic wrote no revision")
        return Path(script.path)

    @cached_property
    def _files(self) -> dict[str, RevisionFile]:
        """The revisions' files, oldest first."""
        return read_history(self._versions, self.branch)

    @cached_property
    def _scripts(self) -> ScriptDirectory:
        """The revisions as modules. Use it while holding the lock."""
        from alembic.script import ScriptDirectory

        return ScriptDirectory.from_config(self._config())

    def _file(self, revision: str) -> RevisionFile:
        try:
            return self._files[revision]
        except KeyError:
            raise MigrationError(f"revision {revision} is unknown to this release") from None

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
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", _literal(self.scripts))
        config.set_main_option("version_locations", _literal(self._versions))
        config.set_main_option("path_separator", "newline")
        config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
        return config


def _literal(path: Path) -> str:
    """A path for ConfigParser, which interprets a percent sign as the start of a reference."""
    return str(path).replace("%", "%%")
