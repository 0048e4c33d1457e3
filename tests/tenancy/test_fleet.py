"""Migrations of many accounts: tested on a copy, applied exactly once, verified in each database."""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.tenancy.databases.provision import Provisioner
from kataven.tenancy.directory import Tenant
from kataven.tenancy.errors import MigrationError, RevisionMoved, RunInProgress
from kataven.tenancy.migrations.fleet import MIGRATION_SETTINGS, Fleet, RunOptions
from kataven.tenancy.migrations.report import AccountResult, MigrationOutcome, MigrationReport
from kataven.tenancy.migrations.steps import lock, render, replay
from kataven.tenancy.migrations.survey import AccountState
from kataven.tenancy.names import SCRATCH_PREFIX, TEMPLATE_PREFIX
from kataven.tenancy.server import DatabaseServer
from tests.tenancy.revisions import Line

ADD_AUTHOR = 'op.add_column("notes", sa.Column("author", sa.Text))'
COUNT_NOTES = """
count = op.get_bind().execute(sa.text("SELECT count(*) FROM notes")).scalar_one()
op.execute(f"INSERT INTO notes (text) VALUES ('there were {count}')")
"""
RUN = """
import sys
from dataclasses import replace
from pathlib import Path
from sqlalchemy import make_url
from kataven.tenancy.directory import Tenant
from kataven.tenancy.migrations.fleet import MIGRATION_SETTINGS, Fleet, RunOptions
from kataven.tenancy.server import DatabaseServer
from kataven.tenancy.schema import Schema

folder, report, *urls = sys.argv[1:]
tenants = [Tenant(make_url(url).database, make_url(url)) for url in urls]
schema = Schema("test", "tests.tenancy.models:Base.metadata", versions=Path(folder))
slow = replace(MIGRATION_SETTINGS, lock_timeout_seconds=60)
fleet = Fleet(schema, DatabaseServer(tenants[0].url), slow)
options = RunOptions(jobs=1, report_file=Path(report))
fleet.upgrade(tenants, options, lambda result: print(result.account, flush=True))
"""


class Accounts:
    """Accounts at the first revision of a branch, with access to their databases."""

    def __init__(self, server: DatabaseServer, line: Line, count: int) -> None:
        self.server = server
        self.line = line
        provisioner = Provisioner(server, line.schema(), strategy="file_copy")
        self.names = [f"account{number}" for number in range(count)]
        for name in self.names:
            provisioner.provision(name)
        self.tenants = [Tenant(name, server.url_of(name)) for name in self.names]

    def fleet(self) -> Fleet:
        return Fleet(self.line.schema(), self.server)

    def upgrade(self, **options: object) -> MigrationReport:
        return self.fleet().upgrade(self.tenants, RunOptions(**options))  # type: ignore[arg-type]

    def execute(self, name: str, statement: str) -> None:
        with self.server.connect(name) as connection:
            connection.execute(text(statement))

    def applied(self, name: str) -> list[str]:
        """The revisions that ran in the account's database, once for each time."""
        with self.server.connect(name) as connection:
            return list(connection.execute(text("SELECT revision FROM applied ORDER BY revision")).scalars())


def outcomes(report: MigrationReport) -> dict[str, MigrationOutcome]:
    return {result.account: result.outcome for result in report.results}


def row(report: MigrationReport, account: str) -> AccountResult:
    (found,) = [result for result in report.results if result.account == account]
    return found


@pytest.fixture
def accounts(postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[Accounts]:
    server = DatabaseServer(make_url(postgres.url("postgres")))
    with server.maintenance() as maintenance:
        before = maintenance.databases()
        yield Accounts(server, Line(tmp_path / "line"), 4)
        left = maintenance.databases() - before
        assert not [name for name in left if name.startswith(SCRATCH_PREFIX)]
        for database in left:
            if not database.startswith(TEMPLATE_PREFIX):  # the next test can use them
                maintenance.drop(database)


def test_every_account_is_migrated_once_and_a_second_run_only_reads(accounts: Accounts, tmp_path: Path) -> None:
    accounts.line.then("r2", ADD_AUTHOR)
    accounts.line.then("r3", 'op.create_index("notes_author", "notes", ["author"])')
    reported: list[str] = []
    first = accounts.fleet().upgrade(
        accounts.tenants, RunOptions(report_file=tmp_path / "report"), lambda result: reported.append(result.account)
    )
    assert first.succeeded
    assert first.counts == {MigrationOutcome.MIGRATED: 4}
    assert reported[0] == "account0", "the canary"
    assert set(reported) == set(accounts.names)
    assert {(result.start, result.end, result.drifted) for result in first.results} == {("r1", "r3", False)}
    assert all(result.seconds > 0 for result in first.results)
    assert {tuple(accounts.applied(name)) for name in accounts.names} == {("r1", "r2", "r3")}
    second = accounts.upgrade()
    assert (second.counts, second.proofs) == ({MigrationOutcome.CURRENT: 4}, ())
    assert {tuple(accounts.applied(name)) for name in accounts.names} == {("r1", "r2", "r3")}
    header, *rows = [json.loads(line) for line in (tmp_path / "report").read_text().splitlines()]
    assert header == {"target": "r3", "accounts": 4}
    assert [(row["account"], row["outcome"]) for row in rows] == [(account, "migrated") for account in reported]


def test_the_steps_are_tested_on_a_copy_of_an_account_without_connections(accounts: Accounts) -> None:
    accounts.line.then("r2", ADD_AUTHOR)
    accounts.execute("account1", "ALTER TABLE notes ADD odd int")
    with accounts.server.connect("account0") as connection:
        connection.execute(text("SELECT 1"))
        report = accounts.upgrade()
    assert [proof.subject for proof in report.proofs] == ["account2"]
    assert report.succeeded
    assert report.drifted == ("account1",)


def test_without_a_suitable_account_the_template_is_copied(accounts: Accounts) -> None:
    accounts.line.then("r2", ADD_AUTHOR)
    accounts.tenants = accounts.tenants[:1]
    with accounts.server.connect("account0") as connection:
        connection.execute(text("SELECT 1"))
        assert [proof.subject for proof in accounts.upgrade().proofs] == ["kataven_template_r1"]


@pytest.mark.parametrize(
    ("upgrade", "message"),
    [
        ('op.execute("SELECT 1 / 0")', r"failed on a copy: division by zero \(22012\)"),
        (f"if op.get_context().as_sql:\n    {ADD_AUTHOR}", "produce another schema than Alembic"),
        (COUNT_NOTES, "r2 can't be rendered as SQL; if it reads data, set needs_python = True in it"),
    ],
)
def test_steps_that_fail_on_the_copy_change_no_account(accounts: Accounts, upgrade: str, message: str) -> None:
    accounts.line.write("r2", "r1", "\n".join(f"    {line}" for line in upgrade.strip().splitlines()))
    with pytest.raises(MigrationError, match=message):
        accounts.upgrade()
    assert {tuple(accounts.applied(name)) for name in accounts.names} == {("r1",)}
    assert {state.revision for state in accounts.fleet().status(accounts.tenants)} == {"r1"}


def test_a_dry_run_tests_the_steps_and_changes_nothing(accounts: Accounts) -> None:
    accounts.line.then("r2", ADD_AUTHOR)
    report = accounts.upgrade(dry_run=True)
    assert (report.counts, len(report.proofs), report.dry_run) == ({MigrationOutcome.PENDING: 4}, 1, True)
    assert {state.revision for state in accounts.fleet().status(accounts.tenants)} == {"r1"}


def test_failed_accounts_are_reported_and_the_others_are_migrated(accounts: Accounts) -> None:
    accounts.line.then("r2", ADD_AUTHOR)
    for name in ("account1", "account2"):
        accounts.execute(name, "ALTER TABLE notes ADD author int")
    report = accounts.upgrade(jobs=2)
    assert not report.succeeded
    assert report.counts == {MigrationOutcome.MIGRATED: 2, MigrationOutcome.FAILED: 2}
    assert row(report, "account2").error == 'column "author" of relation "notes" already exists (42701)'
    for name in ("account1", "account2"):
        accounts.execute(name, "ALTER TABLE notes DROP author")
    again = accounts.upgrade()
    assert again.counts == {MigrationOutcome.CURRENT: 2, MigrationOutcome.MIGRATED: 2}
    assert {tuple(accounts.applied(name)) for name in accounts.names} == {("r1", "r2")}


def test_no_account_starts_after_the_maximum_number_of_failures(accounts: Accounts) -> None:
    accounts.line.then("r2", ADD_AUTHOR)
    for name in ("account1", "account2"):
        accounts.execute(name, "ALTER TABLE notes ADD author int")
    report = accounts.upgrade(jobs=1, max_failures=2)
    assert outcomes(report) == {
        "account0": MigrationOutcome.MIGRATED,
        "account1": MigrationOutcome.FAILED,
        "account2": MigrationOutcome.FAILED,
        "account3": MigrationOutcome.SKIPPED,
    }
    assert accounts.applied("account3") == ["r1"]


def test_a_failed_canary_stops_the_run(accounts: Accounts) -> None:
    accounts.line.then("r2", ADD_AUTHOR)
    accounts.execute("account1", "ALTER TABLE notes ADD author int")
    report = accounts.upgrade(canaries=2)
    assert report.counts == {MigrationOutcome.MIGRATED: 1, MigrationOutcome.FAILED: 1, MigrationOutcome.SKIPPED: 2}
    assert row(report, "account1").outcome is MigrationOutcome.FAILED


def test_a_second_concurrent_run_is_rejected(accounts: Accounts) -> None:
    accounts.line.then("r2", ADD_AUTHOR)
    refused = []

    def run_another(_: AccountResult) -> None:
        with pytest.raises(RunInProgress) as error:
            accounts.upgrade()
        refused.append(error.value)

    accounts.fleet().upgrade(accounts.tenants, RunOptions(jobs=2), run_another)
    assert len(refused) == 4
    assert accounts.upgrade().counts == {MigrationOutcome.CURRENT: 4}


def test_an_account_that_another_run_has_locked_fails(accounts: Accounts) -> None:
    accounts.line.then("r2", ADD_AUTHOR)
    with accounts.server.connect("account3") as connection:
        lock(connection)
        report = accounts.upgrade()
    assert row(report, "account3").error == "another migration run holds the lock on this account"
    assert report.counts == {MigrationOutcome.MIGRATED: 3, MigrationOutcome.FAILED: 1}


def test_concurrent_threads_apply_a_step_once(accounts: Accounts) -> None:
    accounts.line.then("r2", ADD_AUTHOR)
    step = render(accounts.line.schema(), "r1", "r2")["r2"]

    def race(_: int) -> bool:
        with accounts.server.connect("account0") as connection:
            try:
                replay(connection, step)
            except RevisionMoved:
                return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(race, range(6))) == [False] * 5 + [True]
    assert accounts.applied("account0") == ["r1", "r2"]


def test_a_killed_run_is_resumed_and_every_account_migrated_once(accounts: Accounts, tmp_path: Path) -> None:
    accounts.line.then("r2", ADD_AUTHOR)
    urls = [tenant.url.render_as_string(hide_password=False) for tenant in accounts.tenants]
    command = [sys.executable, "-c", RUN, str(accounts.line.folder), str(tmp_path / "report"), *urls]
    with accounts.server.connect("account2") as connection:
        connection.exec_driver_sql("BEGIN; LOCK TABLE notes")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
            assert run.stdout is not None
            done = [run.stdout.readline().strip() for _ in range(2)]
            run.kill()
    assert done == accounts.names[:2]
    assert len((tmp_path / "report").read_text().splitlines()) == 1 + 2
    while not (report := accounts.upgrade()).succeeded:
        pass  # until the server has detected that the killed run's connection is closed
    assert [row(report, name).outcome for name in accounts.names[:2]] == [MigrationOutcome.CURRENT] * 2
    assert row(report, "account3").outcome is MigrationOutcome.MIGRATED
    assert {tuple(accounts.applied(name)) for name in accounts.names} == {("r1", "r2")}


def test_revisions_that_need_python_run_in_processes(accounts: Accounts) -> None:
    accounts.execute("account1", "INSERT INTO notes (text) VALUES ('one')")
    accounts.line.then("r2", COUNT_NOTES, needs_python=True)
    accounts.line.then("r3", ADD_AUTHOR)
    report = accounts.upgrade(jobs=1)
    assert report.counts == {MigrationOutcome.MIGRATED: 4}
    for name, message in (("account0", "there were 0"), ("account1", "there were 1")):
        with accounts.server.connect(name) as connection:
            assert message in connection.execute(text("SELECT text FROM notes")).scalars().all()
    assert {tuple(accounts.applied(name)) for name in accounts.names} == {("r1", "r2", "r3")}


def test_an_error_of_a_revision_in_its_process_is_reported(accounts: Accounts) -> None:
    raise_for_notes = (
        'assert not op.get_bind().execute(sa.text("SELECT count(*) FROM notes")).scalar_one(), "has notes"'
    )
    accounts.line.then("r2", raise_for_notes, needs_python=True)
    accounts.execute("account1", "INSERT INTO notes (text) VALUES ('one')")
    accounts.tenants = accounts.tenants[:2]
    report = accounts.upgrade(jobs=1)
    assert outcomes(report) == {"account0": MigrationOutcome.MIGRATED, "account1": MigrationOutcome.FAILED}
    assert row(report, "account1").error == "AssertionError: has notes"


def test_a_step_without_a_transaction_is_run_by_alembic(accounts: Accounts) -> None:
    concurrently = 'op.create_index("notes_text", "notes", ["text"], postgresql_concurrently=True)'
    accounts.line.then("r2", f"with op.get_context().autocommit_block():\n    {concurrently}")
    assert "run by Alembic, in Python" in accounts.fleet().sql("r1")
    assert accounts.upgrade(jobs=1).counts == {MigrationOutcome.MIGRATED: 4}


def test_special_characters_in_statements_are_preserved(accounts: Accounts) -> None:
    accounts.line.then(
        "r2", r"""op.execute("INSERT INTO notes (text) VALUES ('100%, %s, %(x)s, \\:y, $$;$$, \\\\')")"""
    )
    assert accounts.upgrade().succeeded
    with accounts.server.connect("account0") as connection:
        assert connection.execute(text("SELECT text FROM notes")).scalar_one() == r"100%, %s, %(x)s, :y, $$;$$, \\"
    shown = accounts.fleet().sql("r1")
    assert shown.startswith("BEGIN;\n\nSET LOCAL lock_timeout = '3s';\n\n-- Running upgrade r1 -> r2")
    assert shown.endswith("COMMIT;\n")


def test_accounts_at_different_revisions_reach_the_target(accounts: Accounts) -> None:
    accounts.line.then("r2", ADD_AUTHOR)
    assert accounts.fleet().upgrade(accounts.tenants[:2]).succeeded
    accounts.line.then("r3")
    accounts.line.then("r4")
    report = accounts.upgrade(target="r3")
    assert report.counts == {MigrationOutcome.MIGRATED: 4}
    assert {(proof.start, proof.end) for proof in report.proofs} == {("r1", "r3"), ("r2", "r3")}
    assert {tuple(accounts.applied(name)) for name in accounts.names} == {("r1", "r2", "r3")}
    with pytest.raises(MigrationError, match="r9 is unknown"):
        accounts.upgrade(target="r9")


def test_databases_that_can_not_be_migrated_are_reported_with_a_reason(accounts: Accounts) -> None:
    accounts.line.then("r2", ADD_AUTHOR)
    accounts.execute("account1", "UPDATE alembic_version SET version_num = 'newer'")
    accounts.execute("account2", "DROP TABLE alembic_version")
    accounts.tenants.append(Tenant("gone", accounts.server.url_of("gone")))
    report = accounts.upgrade()
    assert report.counts == {MigrationOutcome.MIGRATED: 2, MigrationOutcome.FAILED: 3}
    assert row(report, "account1").error == "revision newer is unknown to this release"
    assert row(report, "account2").error == "the database has no schema: it was not created from a template"
    assert 'database "gone" does not exist' in row(report, "gone").error
    states = {state.account: state for state in accounts.fleet().status(accounts.tenants)}
    assert states["account0"] == AccountState("account0", "r2", served=True, behind=0, drifted=False)
    assert states["account1"] == AccountState("account1", "newer", served=False, behind=None, drifted=None)
    assert states["account2"].revision is None
    assert 'database "gone" does not exist' in states["gone"].error


def test_status_reports_pending_revisions_and_drift(accounts: Accounts) -> None:
    accounts.line.then("r2", ADD_AUTHOR)
    accounts.fleet().upgrade(accounts.tenants[:2])
    accounts.execute("account0", "DROP TABLE tags")
    accounts.execute("account2", "ALTER TABLE notes ADD odd int")
    reported: list[AccountState] = []
    states = accounts.fleet().status(accounts.tenants, progress=reported.append)
    assert [(state.revision, state.served, state.behind, state.drifted) for state in states] == [
        ("r2", True, 0, True),
        ("r2", True, 0, False),
        ("r1", False, 1, True),
        ("r1", False, 1, False),
    ]
    assert reported == states


def test_a_migration_times_out_waiting_for_a_lock(accounts: Accounts) -> None:
    accounts.line.then("r2", ADD_AUTHOR)
    short_timeout = replace(MIGRATION_SETTINGS, lock_timeout_seconds=0.05)
    with accounts.server.connect("account1") as connection:
        connection.exec_driver_sql("BEGIN; LOCK TABLE notes")
        report = Fleet(accounts.line.schema(), accounts.server, short_timeout).upgrade(accounts.tenants)
        assert row(report, "account1").error == "canceling statement due to lock timeout (55P03)"
    assert accounts.upgrade().succeeded


def test_a_run_covers_several_servers_and_tests_the_steps_on_each(
    accounts: Accounts, other_server: EmbeddedPostgres
) -> None:
    server = DatabaseServer(make_url(other_server.url("postgres")))
    provisioner = Provisioner(server, accounts.line.schema())
    provisioner.provision("elsewhere")
    accounts.tenants.append(Tenant("elsewhere", server.url_of("elsewhere")))
    accounts.line.then("r2", ADD_AUTHOR)
    report = accounts.upgrade()
    provisioner.drop("elsewhere")
    assert report.counts == {MigrationOutcome.MIGRATED: 5}
    assert {proof.subject for proof in report.proofs} == {"account0", "elsewhere"}


def test_the_database_is_authoritative_when_the_directory_is_outdated(accounts: Accounts) -> None:
    for revision in ("r2", "r3"):
        accounts.line.then(revision)
    accounts.upgrade(target="r2", jobs=1)
    fleet = accounts.fleet()
    fleet.upgrade(accounts.tenants[1:2])
    outdated = [Tenant(tenant.account, tenant.url, revision="r1") for tenant in accounts.tenants]
    outdated[2] = Tenant("account2", accounts.tenants[2].url, revision="r2")
    outdated[3] = Tenant("account3", accounts.tenants[3].url, revision="r3")
    report = fleet.upgrade(outdated)
    assert {result.account: (result.outcome, result.start) for result in report.results} == {
        "account0": (MigrationOutcome.MIGRATED, "r2"),
        "account1": (MigrationOutcome.CURRENT, "r3"),
        "account2": (MigrationOutcome.MIGRATED, "r2"),
        "account3": (MigrationOutcome.MIGRATED, "r2"),
    }
    assert {tuple(accounts.applied(name)) for name in accounts.names} == {("r1", "r2", "r3")}


def test_an_unavailable_server_fails_only_its_own_accounts(accounts: Accounts) -> None:
    accounts.line.then("r2", ADD_AUTHOR)
    nowhere = accounts.server.url_of("lost").update_query_dict({"host": "/nowhere"})
    accounts.tenants += [Tenant(name, nowhere, revision) for name, revision in (("lost", "r1"), ("lost2", None))]
    report = accounts.upgrade()
    assert report.counts == {MigrationOutcome.MIGRATED: 4, MigrationOutcome.FAILED: 2}
    assert "No such file or directory" in row(report, "lost").error
