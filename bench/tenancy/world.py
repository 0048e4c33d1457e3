"""What every part of the bench needs: a server of its own, accounts in it, and a way to tell what was measured."""

import os
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, ForeignKey, insert, make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import kataven
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.tenancy.databases.provision import Provisioner
from kataven.tenancy.directory import Tenant
from kataven.tenancy.schema import Schema
from kataven.tenancy.server import DatabaseServer, Strategy
from kataven.tenancy.testing import plant_canary

SCRIPTS = Path(kataven.__file__).parent.parent / "alembic"
ROWS = 10

FIRST = """
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = "r1", None, None, None

def upgrade():
    names = ("name", "status", "prompt", "greeting", "model", "voice")
    texts = [sa.Column(name, sa.Text, nullable=False) for name in names]
    op.create_table("agents", sa.Column("id", sa.Integer, primary_key=True), *texts)
    owner = sa.Column("agent_id", sa.Integer, sa.ForeignKey("agents.id"), nullable=False)
    op.create_table("calls", sa.Column("id", sa.Integer, primary_key=True), owner, sa.Column("seconds", sa.Integer))
    op.create_table("applied", sa.Column("revision", sa.Text))
"""


class Base(DeclarativeBase):
    """The bench's own models."""


class Agent(Base):
    """What a request reads ten of."""

    __tablename__ = "agents"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    status: Mapped[str]
    prompt: Mapped[str]
    greeting: Mapped[str]
    model: Mapped[str]
    voice: Mapped[str]


class Call(Base):
    """Something beside it, to join."""

    __tablename__ = "calls"

    id: Mapped[int] = mapped_column(primary_key=True)
    agent_id: Mapped[int] = mapped_column(ForeignKey("agents.id"))
    seconds: Mapped[int]


class World:
    """A PostgreSQL server with a line of throw-away revisions."""

    def __init__(self, server: DatabaseServer, revisions: Path) -> None:
        self.server = server
        self.revisions = revisions
        (revisions / "r1.py").write_text(FIRST)

    def schema(self) -> Schema:
        """The schema as code that has just started sees it."""
        return Schema("bench", SCRIPTS, "bench.tenancy.world:Base.metadata", versions=self.revisions)

    def then(self, name: str, down: str, body: str) -> None:
        """Add a revision, which notes in the database that it ran."""
        head = f"revision, down_revision, branch_labels, depends_on = {name!r}, {down!r}, None, None"
        noted = f"op.execute(\"INSERT INTO applied VALUES ('{name}')\")"  # noqa: S608 - a constant of the bench
        text = f"import sqlalchemy as sa\nfrom alembic import op\n{head}\n\ndef upgrade():\n    {body}\n    {noted}\n"
        (self.revisions / f"{name}.py").write_text(text)

    def provisioner(self, strategy: Strategy = "wal_log") -> Provisioner:
        """Makes databases at the head."""
        return Provisioner(self.server, self.schema(), strategy)

    def tenant(self, account: str) -> Tenant:
        """Where the account is, and at which revision it was made."""
        return Tenant(account, self.server.url_of(account), self.schema().head)

    def accounts(self, prefix: str, count: int) -> list[Tenant]:
        """So many accounts, each with its canary and ten agents."""
        tenants = [self.tenant(f"{prefix}{number}") for number in range(count)]
        for tenant in tenants:
            self.make(tenant)
        return tenants

    def make(self, tenant: Tenant) -> None:
        """One account, with its canary and ten agents."""
        self.provisioner("file_copy").provision(tenant.account, lambda connection: _fill(connection, tenant.account))

    def drop(self, tenants: Sequence[Tenant]) -> None:
        """Remove accounts again."""
        with self.server.maintenance() as maintenance:
            for tenant in tenants:
                maintenance.drop(str(tenant.url.database))


def _fill(connection: Connection, account: str) -> None:
    plant_canary(connection, account)
    columns = ("status", "prompt", "greeting", "model", "voice")
    rows = [{"name": f"{account} {number}"} | dict.fromkeys(columns, "x" * 40) for number in range(ROWS)]
    connection.execute(insert(Agent), rows)


@contextmanager
def world(*, in_memory: bool) -> Iterator[World]:
    """A server and a folder of revisions, gone at the end of the block. On disk unless told otherwise; fsync is off."""
    folder = Path(tempfile.mkdtemp(prefix="kataven-bench-", dir="/dev/shm" if in_memory else None))  # noqa: S108
    if os.geteuid() == 0:
        folder.chmod(0o711)
    (folder / "revisions").mkdir()
    try:
        with EmbeddedPostgres(folder / "postgres", fsync=False, max_connections=500) as postgres:
            yield World(DatabaseServer(make_url(postgres.url("postgres"))), folder / "revisions")
    finally:
        shutil.rmtree(folder)


def zipf(accounts: int, turns: int, seed: int) -> list[int]:
    """Whom each of `turns` requests is for: the account of rank n comes up in proportion to 1/n."""
    weights = [1 / (rank + 1) for rank in range(accounts)]
    return random.Random(seed).choices(range(accounts), weights, k=turns)  # noqa: S311 - the same walk each time


def percentile(samples: Sequence[float], percent: float) -> float:
    """The sample that `percent` of all are below."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def tell(what: str, value: str, wanted: str = "") -> None:
    """Print one row."""
    print(f"  {what:<66} {value:>24}   {wanted}", flush=True)
