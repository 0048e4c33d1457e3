"""`flask accounts dump|delete|load|restore|shell`: what is deleted can come back, and what was ended stays ended."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest
import redis
from click.testing import Result
from sqlalchemy import URL, make_url, text
from sqlalchemy.exc import OperationalError

from kataven.dev.cast import Person
from kataven.dev.postgres import EmbeddedPostgres
from kataven.dev.redis_server import EmbeddedRedis
from kataven.identity.principal import Role
from kataven.system.models import OperatorEvent
from kataven.tenancy.errors import TenantUnavailable
from kataven.tenancy.programs import environment
from kataven.tenancy.server import Maintenance
from tests.support.house import Caller, House, new_account
from tests.support.servers import ask
from tests.support.waiting import wait_until


def flask(house: House, *words: str, given: str | None = None) -> Result:
    return house.app.test_cli_runner().invoke(args=["accounts", *words], input=given)


def said(house: House, *words: str) -> Any:
    result = flask(house, *words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def furnished(house: House, account: str, *agents: str) -> Caller:
    """A new account with agents, and a server of its own that holds a key."""
    new_account(house.services, account)
    caller = house.bearer(house.new_key(account))
    for name in agents:
        assert caller.post("/v1/agents", {"name": name}).status_code == 201
    return caller


def agents_of(caller: Caller) -> list[str]:
    answer = caller.get("/v1/agents")
    assert answer.status_code == 200, answer.get_json()
    return sorted(agent["name"] for agent in answer.get_json())


def code(caller: Caller) -> str:
    return str(caller.get("/v1/me").get_json()["code"])


def delete(house: House, account: str, *words: str) -> Any:
    return said(house, "delete", account, "--yes-delete", account, *words)


def status(house: House, account: str) -> str | None:
    rows = {row["account"]: row["status"] for row in said(house, "list")}
    return rows.get(account)


def databases(postgres: EmbeddedPostgres) -> set[object]:
    return {name for (name,) in ask(postgres, "SELECT datname FROM pg_database")}


def test_a_dump_is_for_its_owner_alone_and_disturbs_nobody(house: House, tmp_path: Path) -> None:
    caller = furnished(house, "dumped", "Front desk")
    told = said(house, "dump", "dumped", "--folder", str(tmp_path / "new"))
    path = Path(told["dump"])
    files = sorted(path.parent.iterdir())
    assert files == [path, path.with_suffix(".json")]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    notes = json.loads(path.with_suffix(".json").read_text())
    assert (notes["account"], notes["sha256"], notes["limits"]["per_minute"]) == ("dumped", told["sha256"], 1_000_000)
    assert agents_of(caller) == ["Front desk"]


def test_a_deleted_account_is_gone_everywhere_and_comes_back_from_its_dump(
    house: House, postgres: EmbeddedPostgres
) -> None:
    caller = furnished(house, "to-delete", "Front desk", "Order desk")
    ended = caller.get("/v1/api-keys").get_json()[0]
    told = delete(house, "to-delete")
    assert told["workers"] == told["acknowledged"] == 1
    assert status(house, "to-delete") is None
    assert "to-delete" not in databases(postgres)
    assert code(caller) == "invalid_credential"
    assert flask(house, "delete", "to-delete", "--yes-delete", "to-delete").exit_code == 1

    back = said(house, "restore", "to-delete", "--from", told["dump"])
    assert back["keys_ended"] == 0
    assert agents_of(caller) == ["Front desk", "Order desk"]
    assert caller.get("/v1/api-keys").get_json()[0]["id"] == ended["id"]
    assert said(house, "limits", "to-delete")["per_minute"] == 1_000_000
    assert "exists already" in flask(house, "restore", "to-delete", "--from", told["dump"]).stderr


def test_an_older_dump_brings_no_key_back_to_life(house: House) -> None:
    caller = furnished(house, "older", "Front desk")
    earlier = said(house, "dump", "older")
    delete(house, "older")
    back = said(house, "restore", "older", "--from", earlier["dump"])
    assert back["keys_ended"] == 1
    assert code(caller) == "revoked_credential"
    assert agents_of(house.bearer(house.new_key("older"))) == ["Front desk"]


def test_a_loaded_dump_replaces_everything_and_ends_what_was_ended_since(house: House) -> None:
    kept = furnished(house, "loaded", "Old")
    revoked = house.bearer(house.new_key("loaded"))
    doomed = revoked.get("/v1/me").get_json()["credential"]["id"]
    dump = said(house, "dump", "loaded")["dump"]
    owner = house.person(_owner("loaded"))
    assert owner.delete(f"/v1/api-keys/{doomed}").status_code == 200
    newer = house.bearer(house.new_key("loaded"))
    assert newer.post("/v1/agents", {"name": "New"}).status_code == 201

    refused = flask(house, "load", "loaded", "--from", dump, "--yes-replace", "loaded")
    assert "needs it to be suspended or archived" in refused.stderr
    said(house, "suspend", "loaded")
    done = said(house, "load", "loaded", "--from", dump, "--yes-replace", "loaded")
    assert done["keys_ended"] == 1
    said(house, "resume", "loaded")
    assert agents_of(kept) == ["Old"]
    assert code(revoked) == "revoked_credential"
    assert newer.get("/v1/me").status_code == 401

    said(house, "suspend", "loaded")
    said(house, "load", "loaded", "--from", done["replaced"], "--yes-replace", "loaded")
    said(house, "resume", "loaded")
    assert agents_of(kept) == ["New", "Old"]


def test_a_key_that_was_shortened_stays_short(house: House) -> None:
    caller = furnished(house, "shortened")
    dump = said(house, "dump", "shortened")["dump"]
    said(house, "policy", "shortened", "--max-key-expiry-days", "30", "--existing")
    short = caller.get("/v1/api-keys").get_json()[0]["expires_at"]
    said(house, "suspend", "shortened")
    said(house, "load", "shortened", "--from", dump, "--yes-replace", "shortened")
    said(house, "resume", "shortened")
    assert caller.get("/v1/api-keys").get_json()[0]["expires_at"] == short


def _owner(account: str) -> Person:
    return Person("dora", "Dora", account, Role.OWNER)


@pytest.mark.parametrize("damage", ["cut", "noise", "missing"])
def test_a_damaged_dump_is_refused_and_nothing_changes(
    house: House, postgres: EmbeddedPostgres, tmp_path: Path, damage: str
) -> None:
    account = f"damage-{damage}"
    caller = furnished(house, account, "Front desk")
    path = Path(said(house, "dump", account, "--folder", str(tmp_path))["dump"])
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-200] if damage == "cut" else os.urandom(5000))
    said(house, "suspend", account)
    before = databases(postgres)
    for _ in range(2):
        refused = flask(house, "load", account, "--from", str(path), "--yes-replace", account)
        assert refused.exit_code == 1
        assert "Traceback" not in refused.output
        path.with_suffix(".json").unlink(missing_ok=True)  # the second time, PostgreSQL has to find out
    assert databases(postgres) == before
    said(house, "resume", account)
    assert agents_of(caller) == ["Front desk"]


def test_what_is_no_accounts_dump_is_refused(house: House, postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    caller = furnished(house, "particular", "Front desk")
    ask(postgres, "CREATE DATABASE unrelated")
    ask(postgres, "CREATE TABLE misc (id int)", "unrelated")
    path = tmp_path / "unrelated.dump"
    house.app.extensions["kataven-tools"].programs.run(
        "pg_dump", _url(postgres, "unrelated"), ["--format=custom", f"--file={path}"]
    )
    said(house, "suspend", "particular")
    refused = flask(house, "load", "particular", "--from", str(path), "--yes-replace", "particular")
    assert "is at schema none" in refused.stderr
    assert "is missing" in flask(house, "restore", "unrelated", "--from", str(path)).stderr
    said(house, "resume", "particular")
    assert agents_of(caller) == ["Front desk"]


def _url(postgres: EmbeddedPostgres, database: str) -> URL:
    return make_url(postgres.url(database))


def test_deleting_asks_for_the_name(house: House) -> None:
    caller = furnished(house, "asked")
    for answer in ("Asked\n", "\n\n", "acme\n"):
        assert flask(house, "delete", "asked", given=answer).exit_code == 1
    assert flask(house, "delete", "asked", "--yes-delete", "acme").exit_code == 1
    assert caller.get("/v1/me").status_code == 200
    assert flask(house, "delete", "asked", given="asked\n").exit_code == 0


def test_an_account_that_lost_its_database_can_only_be_deleted_without_a_dump(
    house: House, postgres: EmbeddedPostgres
) -> None:
    new_account(house.services, "lost")
    ask(postgres, "DROP DATABASE lost WITH (FORCE)")
    assert "no database" in flask(house, "delete", "lost", "--yes-delete", "lost").stderr
    assert status(house, "lost") == "active"
    assert delete(house, "lost", "--without-dump")["dump"] is None
    assert status(house, "lost") is None


def test_without_programs_that_are_new_enough_nothing_is_closed(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = furnished(house, "well-equipped")
    tools = house.app.extensions["kataven-tools"]
    for name in ("pg_dump", "pg_restore"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.1'\n")
        program.chmod(0o755)
    for folder, words in ((tmp_path, "is of PostgreSQL 9"), (tmp_path / "empty", "there is no pg_dump")):
        monkeypatch.setattr(tools.programs, "_folder", folder)
        refused = flask(house, "delete", "well-equipped", "--yes-delete", "well-equipped")
        assert refused.exit_code == 1
        assert words in refused.stderr
    assert caller.get("/v1/me").status_code == 200
    said(house, "archive", "well-equipped")
    said(house, "restore", "well-equipped")
    assert delete(house, "well-equipped", "--without-dump")["dump"] is None


def test_a_server_that_fails_half_way_is_named_and_the_deletion_goes_on_later(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    furnished(house, "half-way")

    def fail(*_: object) -> NoReturn:
        raise OperationalError("DROP", None, Exception("the disk is gone"))

    with monkeypatch.context() as patch:
        patch.setattr(Maintenance, "drop", fail)
        failed = flask(house, "delete", "half-way", "--yes-delete", "half-way")
    assert failed.exit_code == 1
    assert "A database server can't answer: the disk is gone" in failed.stderr
    assert status(house, "half-way") == "deleting"
    delete(house, "half-way")
    assert status(house, "half-way") is None


def test_archived_accounts_are_restored_and_suspended_ones_resumed(house: House) -> None:
    caller = furnished(house, "shelved")
    said(house, "archive", "shelved")
    assert flask(house, "resume", "shelved").exit_code == 1
    said(house, "restore", "shelved")
    assert caller.get("/v1/me").status_code == 200
    assert flask(house, "restore", "shelved").exit_code == 1


INTERRUPTED = """
import sys
import app as factory
import os
from kataven import settings
from kataven.system import dumping
from kataven.tenancy.provision import Reservation
from kataven.tenancy.server import Maintenance

account, where, verb, *words = sys.argv[1:]

def stop(*_, **__):
    os.write(1, b"here\\n")
    os.read(0, 1)

def then_stop(work):
    def both(*given, **options):
        work(*given, **options)
        stop()
    return both

if where == "closed":
    Maintenance.set_read_only = stop
elif where == "dumping":
    dumping.dumps.take = stop
elif where == "dumped":
    Reservation.drop = stop
elif where == "dropped":
    Reservation.drop = then_stop(Reservation.drop)
elif where == "filled":
    Maintenance.exchange = stop
    Maintenance.rename = stop
elif where == "exchanged":
    Maintenance.exchange = then_stop(Maintenance.exchange)
    Maintenance.rename = then_stop(Maintenance.rename)
application = factory.create_api(settings.load(os.environ))
application.test_cli_runner().invoke(args=["accounts", verb, account, *words], catch_exceptions=False)
"""


def interrupted(house: House, where: str, *words: str) -> None:
    """Run a command in a process of its own and kill it at a certain moment."""
    verb, account, *rest = words
    command = [sys.executable, "-c", INTERRUPTED, account, where, verb, *rest]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env={**os.environ, **house.environ}, text=True, **pipes) as process:
        line = process.stdout.readline()
        process.kill()
        process.wait()
        assert line == "here\n", process.stderr.read()


def eventually(house: House, *words: str) -> Result:
    """The command again, until the server has noticed that the killed one is gone and lets go of its lock."""
    results: list[Result] = []

    def free() -> bool:
        results.append(flask(house, *words))
        return "at this moment" not in results[-1].output

    wait_until(free, 20, lambda: results[-1].output)
    return results[-1]


@pytest.mark.parametrize("where", ["closed", "dumping", "dumped", "dropped"])
def test_a_deletion_that_was_killed_is_finished_by_the_next_one(
    house: House, postgres: EmbeddedPostgres, where: str
) -> None:
    account = f"killed-{where}"
    caller = furnished(house, account, "Front desk")
    interrupted(house, where, "delete", account, "--yes-delete", account)
    assert status(house, account) == said(house, "show", account)["status"] == "deleting"
    assert code(caller) == "invalid_credential"
    repaired = eventually(house, "repair")
    assert (status(house, account) is None) == (where == "dropped"), repaired.output
    if where != "dropped":
        assert "repeat the deletion, or restore the account" in repaired.output
        assert eventually(house, "delete", account, "--yes-delete", account).exit_code == 0
    assert status(house, account) is None
    assert account not in databases(postgres)
    (last,) = [
        Path(house.environ["KATAVEN_DUMP_DIR"]) / event["dump"]
        for event in trail(house, account)[-3:]
        if event["action"] == "account.deletion_begun" and "dump" in event
    ][-1:]
    assert said(house, "restore", account, "--from", str(last))["keys_ended"] == 0
    assert agents_of(caller) == ["Front desk"]


@pytest.mark.parametrize("where", ["closed", "dumping", "dumped"])
def test_a_deletion_that_was_killed_can_be_taken_back(house: House, where: str) -> None:
    account = f"spared-{where}"
    caller = furnished(house, account, "Front desk")
    interrupted(house, where, "delete", account, "--yes-delete", account)
    assert eventually(house, "restore", account).exit_code == 0
    assert caller.post("/v1/agents", {"name": "Order desk"}).status_code == 201
    assert agents_of(caller) == ["Front desk", "Order desk"]


def test_nothing_is_written_behind_the_last_dump(house: House, postgres: EmbeddedPostgres) -> None:
    """Who was let in before the end of the credentials, and writes only now, is refused: it would be lost."""
    caller = furnished(house, "late-writer", "Front desk")
    record = house.services.directory.read("late-writer")
    assert record is not None
    interrupted(house, "dumping", "delete", "late-writer", "--yes-delete", "late-writer")
    late = house.services.registry.writing(record.tenant)
    with pytest.raises(TenantUnavailable, match="only reads"), late as session:
        session.execute(text("UPDATE agents SET name = 'x'"))
    assert eventually(house, "restore", "late-writer").exit_code == 0
    assert agents_of(caller) == ["Front desk"]


@pytest.mark.parametrize("where", ["filled", "exchanged"])
def test_a_load_that_was_killed_has_happened_or_not(house: House, postgres: EmbeddedPostgres, where: str) -> None:
    account = f"load-{where}"
    caller = furnished(house, account, "Old")
    dump = said(house, "dump", account)["dump"]
    caller.post("/v1/agents", {"name": "New"})
    said(house, "suspend", account)
    before = databases(postgres)
    interrupted(house, where, "load", account, "--from", dump, "--yes-replace", account)
    wait_until(lambda: eventually(house, "repair").exit_code == 0 and databases(postgres) == before, 20)
    said(house, "resume", account)
    assert agents_of(caller) == (["New", "Old"] if where == "filled" else ["Old"])


@pytest.mark.parametrize("where", ["filled", "exchanged"])
def test_a_restore_that_was_killed_is_finished_or_taken_back(house: House, where: str) -> None:
    account = f"back-{where}"
    caller = furnished(house, account, "Front desk")
    dump = delete(house, account)["dump"]
    interrupted(house, where, "restore", account, "--from", dump)
    assert status(house, account) == "provisioning"
    wait_until(lambda: eventually(house, "repair").exit_code == 0 and status(house, account) != "provisioning", 20)
    assert (status(house, account) == "active") == (where == "exchanged")
    if where == "filled":
        assert eventually(house, "restore", account, "--from", dump).exit_code == 0
    wait_until(lambda: caller.get("/v1/me").status_code == 200, 40)
    assert agents_of(caller) == ["Front desk"]


def test_a_shell_is_psql_and_leaves_a_trace(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    furnished(house, "inspected", "Front desk")
    told = tmp_path / "told"
    psql = tmp_path / "psql"
    psql.write_text(f'#!/bin/sh\nenv > {told}\necho "$#" >> {told}\nexit 3\n')
    psql.chmod(0o755)
    tools = house.app.extensions["kataven-tools"]
    with monkeypatch.context() as patch:
        patch.setattr(tools.programs, "_folder", tmp_path)
        assert flask(house, "shell", "inspected").exit_code == 3
    lines = told.read_text().splitlines()
    assert "PGDATABASE=inspected" in lines
    assert lines[-1] == "0", "nothing on the command line"
    assert trail(house, "inspected")[-1]["action"] == "account.shell_opened"
    with monkeypatch.context() as patch:
        patch.setattr(tools.programs, "_folder", tmp_path / "empty")
        missing = flask(house, "shell", "inspected")
    assert "there is no psql" in missing.stderr
    real = subprocess.run(
        [tools.programs.path("psql"), "-Atc", "SELECT name FROM agents"],
        env=environment(house.services.directory.read("inspected").tenant.url),  # type: ignore[union-attr]
        capture_output=True,
        text=True,
        check=True,
    )
    assert real.stdout == "Front desk\n"


def trail(house: House, account: str) -> list[dict[str, Any]]:
    with house.services.directory.database.reading() as session:
        events = session.query(OperatorEvent).filter_by(account_id=account).order_by(OperatorEvent.at)
        return [{"action": event.action, **event.detail} for event in events]


def test_an_account_made_again_under_its_name_begins_with_fresh_limits(
    house: House, house_redis: EmbeddedRedis
) -> None:
    account = "made-again"
    owner = furnished(house, account, "Front desk")
    with redis.Redis.from_url(house_redis.url) as client:
        for surface in ("api", "hub"):
            client.set(f"limits:{surface}:account:{account}-two", "another account's")
            assert client.exists(f"limits:{surface}:account:{account}") == (surface == "api")
        client.set(f"limits:hub:account:{account}", client.get(f"limits:api:account:{account}") or b"")
        limits = owner.get("/v1/me").get_json()["limits"]["per_hour"]
        assert limits["limit"] - limits["remaining"] >= 2

        delete(house, account, "--without-dump")
        for surface in ("api", "hub"):
            assert not client.exists(f"limits:{surface}:account:{account}")
            assert client.delete(f"limits:{surface}:account:{account}-two")
    new_account(house.services, account)
    limits = house.bearer(house.new_key(account)).get("/v1/me").get_json()["limits"]["per_hour"]
    assert limits["limit"] - limits["remaining"] == 1
