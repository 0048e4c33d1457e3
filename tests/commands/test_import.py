"""`flask accounts import-csv`: the whole file is checked first, and an import can be run again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

import pytest
from click.testing import Result

from kataven.operations import account_creation, account_import
from kataven.operations.account_creation import NewAccount
from kataven.operations.account_file import AccountFileLine
from kataven.system import accounts
from kataven.system import database as system_database
from kataven.system.database import SystemDatabase
from kataven.system.models import Account, AccountStatus
from kataven.tenancy.errors import ProvisioningError
from tests.support.app_harness import AppHarness

FULL = """\
account,name,org_id,server,discoverable,max_key_expiry_days,per_minute,concurrent
csv-first,"First, Inc.",org-csv-first,default,yes,90,600,5
csv-second,,,,,,,

csv-third,Third,,,no,,,
"""


def import_csv(harness: AppHarness, folder: Path, content: str | bytes, *words: str) -> Result:
    file = folder / "accounts.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return harness.app.test_cli_runner().invoke(args=["accounts", "import-csv", str(file), *words])


def outcomes(result: Result) -> dict[str, str]:
    return {row["account"]: row["outcome"] for row in json.loads(result.stdout)}


def shown(harness: AppHarness, account: str) -> Any:
    result = harness.app.test_cli_runner().invoke(args=["accounts", "show", account, "--json"])
    return json.loads(result.stdout) if result.exit_code == 0 else None


def test_every_line_creates_an_account_with_its_properties(harness: AppHarness, tmp_path: Path) -> None:
    dry = import_csv(harness, tmp_path, FULL, "--dry-run", "--json")
    assert set(outcomes(dry).values()) == {"pending"}
    assert shown(harness, "csv-first") is None
    done = import_csv(harness, tmp_path, b"\xef\xbb\xbf" + FULL.encode(), "--json")
    assert done.exit_code == 0, done.output
    assert outcomes(done) == {"csv-first": "created", "csv-second": "created", "csv-third": "created"}
    first = shown(harness, "csv-first")
    assert (first["name"], first["zitadel_org_id"], first["server"]) == ("First, Inc.", "org-csv-first", "default")
    assert (first["discoverable"], first["max_key_expiry_days"]) == (True, 90)
    assert (first["per_minute"], first["per_hour"], first["concurrent"]) == (600, 1000, 5)
    second = shown(harness, "csv-second")
    assert (second["name"], second["discoverable"], second["per_minute"]) == ("csv-second", False, 60)
    assert harness.bearer(harness.new_key("csv-third")).get("/v1/agents").get_json() == []
    again = import_csv(harness, tmp_path, FULL, "--json")
    assert again.exit_code == 0
    assert set(outcomes(again).values()) == {"exists"}
    assert "3 exists" in again.stderr


def test_all_problems_are_reported_and_no_account_is_created(harness: AppHarness, tmp_path: Path) -> None:
    harness.app.test_cli_runner().invoke(args=["accounts", "create", "csv-taken", "--org-id", "org-csv-taken"])
    content = """\
account,org_id,server,discoverable,per_minute
csv-fine,,,,
Bad Name,,,,
postgres,,,,
csv-twice,,,,
csv-twice,,,,
csv-org,org-csv-same,,,
csv-org-too,org-csv-same,,,
csv-maybe,,,perhaps,
csv-many,,,,0
csv-lots,,,,99999999999
csv-comma,,,,,surplus
"""
    refused = import_csv(harness, tmp_path, content)
    assert refused.exit_code == 1
    for words in (
        "line 3: account: an account name",
        "line 4: account: the account name 'postgres' is reserved",
        "line 6: account: 'csv-twice' is already used on line 5",
        "line 8: org_id: 'org-csv-same' is already used on line 7",
        "line 9: discoverable: must be yes or no",
        "line 10: per_minute: must be a whole number",
        "line 11: per_minute: must be a whole number",
        "line 12: more cells than columns",
    ):
        assert words in refused.stderr
    content = """\
account,org_id,server
csv-fine,,
csv-elsewhere,,mars
csv-thief,org-csv-taken,
csv-taken,org-csv-other,
"""
    refused = import_csv(harness, tmp_path, content)
    for words in (
        "line 3: server: Database server 'mars' does not exist",
        "line 4: org_id: organisation 'org-csv-taken' already belongs to account 'csv-taken'",
        "line 5: org_id: account 'csv-taken' already exists with a different organisation",
    ):
        assert words in refused.stderr
    assert shown(harness, "csv-fine") is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "missing column 'account'"),
        ("acme\n", "unknown column 'acme'"),
        ("account,account\nx,y\n", "duplicate column 'account'"),
        (b"account\n\xff\xfe\n", "not valid CSV in UTF-8"),
        ('account\n"x\n', "not valid CSV in UTF-8"),
    ],
    ids=["empty", "no-header", "column-twice", "bytes", "open-quote"],
)
def test_invalid_file_is_refused(harness: AppHarness, tmp_path: Path, content: str | bytes, words: str) -> None:
    refused = import_csv(harness, tmp_path, content)
    assert refused.exit_code == 1
    assert words in refused.stderr
    assert "Traceback" not in refused.output


def test_inconsistent_limits_are_reported_with_their_line(harness: AppHarness, tmp_path: Path) -> None:
    content = "account,per_minute,per_hour\ncsv-crossed,10,5\ncsv-lowered,,5\n"
    refused = import_csv(harness, tmp_path, content)
    assert refused.exit_code == 1
    assert "line 2: per_minute is 10 and per_hour is 5" in refused.stderr
    assert "line 3: per_minute is 60 and per_hour is 5" in refused.stderr
    assert shown(harness, "csv-crossed") is None


def test_check_of_a_large_file_keeps_its_session(harness: AppHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that is open for longer than SESSION_SECONDS is cut."""
    known = [Account(account_id=f"known-{at}", zitadel_org_id=f"org-{at}") for at in range(4_000)]
    new = [NewAccount(f"new-{at}", "New", org_id=f"org-new-{at}") for at in range(4_000)]
    monkeypatch.setattr(accounts, "listing", lambda _: known)
    monkeypatch.setattr(system_database, "SESSION_SECONDS", 0.5)
    database = SystemDatabase(harness.environ["KATAVEN_DATABASE_URL"])
    try:
        account_import.check(database, [AccountFileLine(at, account) for at, account in enumerate(new, 2)])
    finally:
        database.close()


def test_failed_line_is_a_row_and_the_next_run_creates_it(
    harness: AppHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = "account\ncsv-one\ncsv-two\ncsv-three\n"
    create = account_creation.create

    def failing(database: Any, new: Any, **options: Any) -> None:
        if new.account == "csv-two":
            fail()
        create(database, new, **options)

    def fail() -> NoReturn:
        raise ProvisioningError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(account_creation, "create", failing)
        first = import_csv(harness, tmp_path, content, "--json")
    assert first.exit_code == 1
    assert outcomes(first) == {"csv-one": "created", "csv-two": "failed", "csv-three": "created"}
    assert "the disk is full" in first.stdout
    second = import_csv(harness, tmp_path, content, "--json")
    assert second.exit_code == 0
    assert outcomes(second) == {"csv-one": "exists", "csv-two": "created", "csv-three": "exists"}


def test_next_import_completes_a_killed_one(harness: AppHarness, tmp_path: Path) -> None:
    database = harness.services.directory.database
    account_creation.create(database, account_creation.NewAccount("csv-whole", "x"), actor="test")
    with database.writing() as session:
        accounts.read(session, "csv-whole").status = AccountStatus.PROVISIONING
        half = Account(account_id="csv-half", account_name="x", database_name="csv-half", server="default")
        accounts.reserve(session, half)
    done = import_csv(harness, tmp_path, "account\ncsv-whole\ncsv-half\n", "--json")
    assert done.exit_code == 0, done.output
    assert outcomes(done) == {"csv-whole": "exists", "csv-half": "created"}
    assert shown(harness, "csv-whole")["status"] == shown(harness, "csv-half")["status"] == "active"
