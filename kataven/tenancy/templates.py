"""Template databases: one per schema revision. Accounts' databases are copies of them.

A copy takes a twentieth of the time that Alembic needs for the same schema. A template is created on first use, under a
lock and under a scratch name until it is complete. After that it rejects connections, because one open session would
make every copy fail. Its comment contains a digest of its revision files: if one is edited, the template is recreated.
"""

from dataclasses import dataclass

from kataven.tenancy.names import DatabaseNames
from kataven.tenancy.schema import Schema
from kataven.tenancy.server import DatabaseServer, Maintenance


@dataclass(frozen=True, slots=True)
class Templates:
    """The templates of one schema on one server."""

    server: DatabaseServer
    schema: Schema

    @property
    def names(self) -> DatabaseNames:
        """The names of templates and scratch databases."""
        return self.schema.names

    def name_of(self, revision: str) -> str:
        """The name of the template for `revision`."""
        return self.names.template(revision)

    def ensure(self, maintenance: Maintenance, revision: str | None = None) -> str:
        """The name of the template at `revision` (default: the head). Created if needed, under a lock."""
        revision = revision or self.schema.head
        template = self.name_of(revision)
        if not self._is_current(maintenance, revision):
            maintenance.lock(template)
            try:
                if not self._is_current(maintenance, revision):
                    self._create(maintenance, revision)
            finally:
                maintenance.unlock(template)
        return template

    def fingerprint(self, maintenance: Maintenance, revision: str) -> str:
        """The fingerprint of a database at `revision` without drift."""
        comment = maintenance.comment_on(self.ensure(maintenance, revision)) or ""
        return comment.rpartition("fingerprint=")[2]

    def known_fingerprint(self, maintenance: Maintenance, revision: str) -> str | None:
        """The same without creating a template; None if no template at `revision` exists."""
        return self.fingerprint(maintenance, revision) if self._is_current(maintenance, revision) else None

    def _is_current(self, maintenance: Maintenance, revision: str) -> bool:
        comment = maintenance.comment_on(self.name_of(revision)) or ""
        return comment.startswith(f"source={self.schema.source(revision)} ")

    def _create(self, maintenance: Maintenance, revision: str) -> None:
        template = self.name_of(revision)
        scratch = self.names.scratch(template)
        maintenance.discard(scratch)
        try:
            maintenance.create(scratch, "template0")
            with self.server.connect(scratch) as connection:
                self.schema.upgrade(connection, revision)
            with self.server.connect(scratch) as connection:
                fingerprint = self.schema.fingerprint(connection)
            maintenance.set_comment(scratch, f"source={self.schema.source(revision)} fingerprint={fingerprint}")
            maintenance.set_template(scratch, is_template=True)
            maintenance.discard(template)
            maintenance.rename(scratch, template)
        except BaseException:
            maintenance.discard(scratch)
            raise
