"""PostgreSQL's client programs: their paths, their connection data in the environment, and dumps."""

import os
import secrets
from pathlib import Path

import pytest
from sqlalchemy import make_url

from kataven.dev.embedded.binaries import postgres_programs
from kataven.tenancy.databases import dumps
from kataven.tenancy.directory import Tenant
from kataven.tenancy.errors import DumpUnreadable, ProgramFailed, ProgramMissing
from kataven.tenancy.programs import Programs, environment


def test_all_connection_data_of_a_url_goes_into_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    password = secrets.token_hex(8)
    for name in ("PGHOST", "PGSERVICE", "PGOPTIONS", "PGHOSTADDR"):
        monkeypatch.setenv(name, "somewhere else")
    monkeypatch.setenv("PGPASSFILE", "/run/passwords")
    url = f"postgresql+psycopg2://kataven:{password}@db.example:5433/acme?sslmode=verify-full&options=-c%20x%3D1"
    variables = environment(make_url(url))
    assert {name: value for name, value in variables.items() if name.startswith("PG")} == {
        "PGHOST": "db.example",
        "PGPORT": "5433",
        "PGUSER": "kataven",
        "PGPASSWORD": password,
        "PGDATABASE": "acme",
        "PGSSLMODE": "verify-full",
        "PGOPTIONS": "-c x=1",
        "PGPASSFILE": "/run/passwords",
    }
    assert variables["PATH"] == os.environ["PATH"]


def test_a_url_parameter_without_an_environment_variable_is_named_in_the_error() -> None:
    with pytest.raises(ValueError, match="tty"):
        environment(make_url("postgresql+psycopg2://db.example/acme?tty=1"))


def test_a_missing_or_failed_program_is_reported_in_one_line(acme: Tenant, tmp_path: Path) -> None:
    with pytest.raises(ProgramMissing, match=f"pg_dump was not found in {tmp_path}"):
        Programs(tmp_path).path("pg_dump")
    programs = Programs(postgres_programs())
    programs.require("pg_dump", 180_001)
    with pytest.raises(ProgramMissing, match="the server has version 99"):
        programs.require("pg_dump", 990_000)
    with pytest.raises(ProgramFailed, match=r"^pg_dump failed: .*nowhere") as failed:
        programs.run("pg_dump", acme.url.set(database="nowhere"), [])
    assert "\n" not in str(failed.value)


def test_the_next_dump_removes_incomplete_dumps_of_the_same_account(acme: Tenant, tmp_path: Path) -> None:
    left = [
        tmp_path / "acme-20260101T000000000Z.dump.partial",
        tmp_path / "acme-20260101T000000000Z.json",
    ]
    others = [
        tmp_path / "acme-eu-20260101T000000000Z.dump.partial",
        tmp_path / "acme-20250101T000000000Z.dump",
        tmp_path / "acme-20250101T000000000Z.json",
    ]
    for path in (*left, *others):
        path.touch()
    taken = dumps.take(Programs(postgres_programs()), acme.url, "acme", tmp_path, lambda dump: dump.sha256)
    assert set(tmp_path.iterdir()) == {*others, taken.path, taken.manifest}
    assert taken.manifest.read_text() == taken.sha256 == dumps.read(taken.path).sha256


def test_a_failed_dump_leaves_no_files(acme: Tenant, tmp_path: Path) -> None:
    programs = Programs(postgres_programs())
    with pytest.raises(ProgramFailed):
        dumps.take(programs, acme.url.set(database="nowhere"), "acme", tmp_path, lambda dump: dump.sha256)

    def fail(_: dumps.Dump) -> str:
        raise LookupError

    with pytest.raises(LookupError):
        dumps.take(programs, acme.url, "acme", tmp_path, fail)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DumpUnreadable, match="can't be read"):
        dumps.read(tmp_path / "missing.dump")
