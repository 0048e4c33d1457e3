"""The common part of the tenancy benchmarks: a separate server, accounts on it, and the output format."""

import os
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, ForeignKey, insert, make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.tenancy.databases.provision import Provisioner
from kataven.tenancy.directory import Tenant
from kataven.tenancy.schema import Schema, scripts_folder
from kataven.tenancy.server import DatabaseServer, Strategy
from kataven.tenancy.testing import plant_canary

SCRIPTS = scripts_folder()
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
    """The benchmark's models."""


class Agent(Base):
    """The model that a request reads ten rows of."""

    __tablename__ = "agents"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    status: Mapped[str]
    prompt: Mapped[str]
    greeting: Mapped[str]
    model: Mapped[str]
    voice: Mapped[str]


class Call(Base):
    """A second model for joins."""

    __tablename__ = "calls"

    id: Mapped[int] = mapped_column(primary_key=True)
    agent_id: Mapped[int] = mapped_column(ForeignKey("agents.id"))
    seconds: Mapped[int]


class World:
    """A PostgreSQL server with temporary revisions."""

    def __init__(self, server: DatabaseServer, revisions: Path) -> None:
        self.server = server
        self.revisions = revisions
        (revisions / "r1.py").write_text(FIRST)

    def schema(self) -> Schema:
        """The schema as newly started code loads it."""
        return Schema("bench", "bench.tenancy.world:Base.metadata", versions=self.revisions)

    def add_revision(self, name: str, down: str, body: str) -> None:
        """Add a revision that records in the database that it ran."""
        head = f"revision, down_revision, branch_labels, depends_on = {name!r}, {down!r}, None, None"
        record = f"op.execute(\"INSERT INTO applied VALUES ('{name}')\")"
        text = f"import sqlalchemy as sa\nfrom alembic import op\n{head}\n\ndef upgrade():\n    {body}\n    {record}\n"
        (self.revisions / f"{name}.py").write_text(text)

    def provisioner(self, strategy: Strategy = "wal_log") -> Provisioner:
        """A provisioner that creates databases at the head revision."""
        return Provisioner(self.server, self.schema(), strategy)

    def tenant(self, account: str) -> Tenant:
        """The account's database and its revision."""
        return Tenant(account, self.server.url_of(account), self.schema().head)

    def accounts(self, prefix: str, count: int) -> list[Tenant]:
        """Create `count` accounts, each with its canary and ten agents."""
        tenants = [self.tenant(f"{prefix}{number}") for number in range(count)]
        for tenant in tenants:
            self.create(tenant)
        return tenants

    def create(self, tenant: Tenant) -> None:
        """Create one account, with its canary and ten agents."""
        self.provisioner("file_copy").provision(tenant.account, lambda connection: _fill(connection, tenant.account))

    def drop(self, tenants: Sequence[Tenant]) -> None:
        """Drop the accounts' databases."""
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
    """A server without fsync and a folder of revisions, removed at the end. They are on disk unless `in_memory`."""
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
    """The account number of each of `turns` requests. The account of rank n occurs in proportion to 1/n."""
    weights = [1 / (rank + 1) for rank in range(accounts)]
    return random.Random(seed).choices(range(accounts), weights, k=turns)  # noqa: S311 - the same sequence each time


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that exceeds `percent` of all samples."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def report_row(label: str, value: str, expected: str = "") -> None:
    """Print one row."""
    print(f"  {label:<72} {value:>24}   {expected}", flush=True)
