"""`flask accounts dump|delete|load|restore|shell`: accounts are restored, revoked keys remain revoked."""

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

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.embedded.redis_server import EmbeddedRedis
from kataven.dev.personas import Persona
from kataven.identity.principal import Role
from kataven.system.models import OperatorEvent
from kataven.tenancy.errors import TenantUnavailable
from kataven.tenancy.programs import environment
from kataven.tenancy.server import Maintenance
from tests.support.app_harness import AppHarness, Caller, new_account
from tests.support.servers import ask
from tests.support.waiting import wait_until
from tests.support.walk import put_at

pytestmark = pytest.mark.processes


def flask(harness: AppHarness, *words: str, given: str | None = None) -> Result:
    return harness.app.test_cli_runner().invoke(args=["accounts", *words], input=given)


def run_json(harness: AppHarness, *words: str) -> Any:
    result = flask(harness, *words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def new_account_with_key(harness: AppHarness, account: str, *agents: str) -> Caller:
    """Create an account with agents and an API key."""
    new_account(harness.services, account)
    caller = harness.bearer(harness.new_key(account))
    for name in agents:
        assert caller.post("/v1/agents", {"name": name}).status_code == 201
    return caller


def agents_of(caller: Caller) -> list[str]:
    answer = caller.get("/v1/agents")
    assert answer.status_code == 200, answer.get_json()
    return sorted(agent["name"] for agent in answer.get_json())


def code(caller: Caller) -> str:
    return str(caller.get("/v1/me").get_json()["code"])


def delete(harness: AppHarness, account: str, *words: str) -> Any:
    return run_json(harness, "delete", account, "--yes-delete", account, *words)


def status(harness: AppHarness, account: str) -> str | None:
    rows = {row["account"]: row["status"] for row in run_json(harness, "list")}
    return rows.get(account)


def databases(postgres: EmbeddedPostgres) -> set[object]:
    return {name for (name,) in ask(postgres, "SELECT datname FROM pg_database")}


def test_dump_has_mode_0600_and_does_not_interrupt_requests(harness: AppHarness, tmp_path: Path) -> None:
    caller = new_account_with_key(harness, "dumped", "Front desk")
    told = run_json(harness, "dump", "dumped", "--folder", str(tmp_path / "new"))
    path = Path(told["dump"])
    files = sorted(path.parent.iterdir())
    assert files == [path, path.with_suffix(".json")]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    notes = json.loads(path.with_suffix(".json").read_text())
    assert (notes["account"], notes["sha256"], notes["limits"]["per_minute"]) == ("dumped", told["sha256"], 1_000_000)
    assert agents_of(caller) == ["Front desk"]


def test_deleted_account_is_refused_and_restored_from_its_dump(harness: AppHarness, postgres: EmbeddedPostgres) -> None:
    caller = new_account_with_key(harness, "to-delete", "Front desk", "Order desk")
    ended = caller.get("/v1/api-keys").get_json()[0]
    run_json(harness, "policy", "to-delete", "--rotate-after-days", "180")
    told = delete(harness, "to-delete")
    assert told["workers"] == told["acknowledged"] == 1
    assert status(harness, "to-delete") is None
    assert "to-delete" not in databases(postgres)
    assert code(caller) == "invalid_credential"
    assert flask(harness, "delete", "to-delete", "--yes-delete", "to-delete").exit_code == 1

    back = run_json(harness, "restore", "to-delete", "--from", told["dump"])
    assert back["keys_ended"] == 0
    assert agents_of(caller) == ["Front desk", "Order desk"]
    assert caller.get("/v1/api-keys").get_json()[0]["id"] == ended["id"]
    assert run_json(harness, "limits", "to-delete")["per_minute"] == 1_000_000
    assert run_json(harness, "show", "to-delete")["rotate_after_days"] == 180
    assert "already exists" in flask(harness, "restore", "to-delete", "--from", told["dump"]).stderr


def test_older_dump_restores_no_key(harness: AppHarness) -> None:
    caller = new_account_with_key(harness, "older", "Front desk")
    earlier = run_json(harness, "dump", "older")
    delete(harness, "older")
    back = run_json(harness, "restore", "older", "--from", earlier["dump"])
    assert back["keys_ended"] == 1
    assert code(caller) == "revoked_credential"
    assert agents_of(harness.bearer(harness.new_key("older"))) == ["Front desk"]


def test_loaded_dump_replaces_all_data_and_keeps_revoked_keys_revoked(harness: AppHarness) -> None:
    kept = new_account_with_key(harness, "loaded", "Old")
    revoked = harness.bearer(harness.new_key("loaded"))
    doomed = revoked.get("/v1/me").get_json()["credential"]["id"]
    dump = run_json(harness, "dump", "loaded")["dump"]
    owner = harness.user(_owner("loaded"))
    assert owner.delete(f"/v1/api-keys/{doomed}").status_code == 200
    newer = harness.bearer(harness.new_key("loaded"))
    assert newer.post("/v1/agents", {"name": "New"}).status_code == 201

    refused = flask(harness, "load", "loaded", "--from", dump, "--yes-replace", "loaded")
    assert "must be suspended or archived" in refused.stderr
    run_json(harness, "suspend", "loaded")
    done = run_json(harness, "load", "loaded", "--from", dump, "--yes-replace", "loaded")
    assert done["keys_ended"] == 1
    run_json(harness, "resume", "loaded")
    assert agents_of(kept) == ["Old"]
    assert code(revoked) == "revoked_credential"
    assert newer.get("/v1/me").status_code == 401

    run_json(harness, "suspend", "loaded")
    run_json(harness, "load", "loaded", "--from", done["replaced"], "--yes-replace", "loaded")
    run_json(harness, "resume", "loaded")
    assert agents_of(kept) == ["New", "Old"]


@pytest.mark.parametrize("way", ["load", "restore"])
def test_ended_secret_stays_ended_in_a_dump_of_any_time(harness: AppHarness, way: str) -> None:
    """One dump from before the rotation, one from between the rotation and the end of the old secret."""
    account = f"rotated-{way}"
    caller = new_account_with_key(harness, account, "Front desk")
    old, owner = caller, harness.user(_owner(account))
    key_id = old.get("/v1/me").get_json()["credential"]["id"]
    dumps = [run_json(harness, "dump", account)["dump"]]
    new = harness.bearer(owner.post(f"/v1/api-keys/{key_id}/rotate", {}).get_json()["key"])
    dumps.append(run_json(harness, "dump", account)["dump"])
    assert owner.patch(f"/v1/api-keys/{key_id}/former-secret", {"ends_in_seconds": 0}).status_code == 200
    for dump in dumps:
        if way == "load":
            run_json(harness, "suspend", account)
            run_json(harness, "load", account, "--from", dump, "--yes-replace", account)
            run_json(harness, "resume", account)
            assert (code(old), new.get("/v1/me").status_code) == ("rotated_credential", 200)
            assert agents_of(new) == ["Front desk"]
        else:  # an earlier dump of a deleted account restores no key at all
            delete(harness, account)
            assert run_json(harness, "restore", account, "--from", dump)["keys_ended"] >= 1
            assert code(old) in {"revoked_credential", "rotated_credential", "invalid_credential"}
            assert new.get("/v1/me").status_code in {401, 403}


def test_last_dump_of_a_deleted_account_restores_the_current_secret_only(harness: AppHarness) -> None:
    old = new_account_with_key(harness, "rotated-deleted")
    owner, key_id = harness.user(_owner("rotated-deleted")), old.get("/v1/me").get_json()["credential"]["id"]
    new = harness.bearer(owner.post(f"/v1/api-keys/{key_id}/rotate", {}).get_json()["key"])
    assert owner.patch(f"/v1/api-keys/{key_id}/former-secret", {"ends_in_seconds": 0}).status_code == 200
    dump = delete(harness, "rotated-deleted")["dump"]
    run_json(harness, "restore", "rotated-deleted", "--from", dump)
    assert (code(old), new.get("/v1/me").status_code) == ("rotated_credential", 200)


def test_key_whose_revocation_was_lost_is_revoked_in_a_loaded_or_restored_dump(
    harness: AppHarness, postgres: EmbeddedPostgres
) -> None:
    """The account's database has lost the commit, so neither its rows nor its final dump contain the revocation."""
    kept, doomed = new_account_with_key(harness, "lossy"), harness.bearer(harness.new_key("lossy"))
    key_id = doomed.get("/v1/me").get_json()["credential"]["id"]
    owner = harness.user(_owner("lossy"))
    assert "receipt" in owner.patch(f"/v1/api-keys/{key_id}", {"disabled": True}).get_json()
    lost, valid = "UPDATE api_keys SET disabled_at = NULL", "SELECT id FROM api_keys WHERE disabled_at IS NULL"
    ask(postgres, lost, "lossy")

    dump = run_json(harness, "dump", "lossy")["dump"]
    run_json(harness, "suspend", "lossy")
    done = run_json(harness, "load", "lossy", "--from", dump, "--yes-replace", "lossy")
    assert done["keys_ended"] == 1
    assert (key_id,) not in ask(postgres, valid, "lossy")
    run_json(harness, "resume", "lossy")
    assert code(doomed) == "revoked_credential"
    assert kept.get("/v1/me").status_code == 200

    ask(postgres, lost, "lossy")
    back = run_json(harness, "restore", "lossy", "--from", delete(harness, "lossy")["dump"])
    assert back["keys_ended"] == 1
    assert (key_id,) not in ask(postgres, valid, "lossy")
    assert code(doomed) == "revoked_credential"
    assert kept.get("/v1/me").status_code == 200


def test_shortened_key_remains_short_after_a_load(harness: AppHarness) -> None:
    caller = new_account_with_key(harness, "shortened")
    dump = run_json(harness, "dump", "shortened")["dump"]
    run_json(harness, "policy", "shortened", "--max-key-expiry-days", "30", "--existing")
    short = caller.get("/v1/api-keys").get_json()[0]["expires_at"]
    run_json(harness, "suspend", "shortened")
    run_json(harness, "load", "shortened", "--from", dump, "--yes-replace", "shortened")
    run_json(harness, "resume", "shortened")
    assert caller.get("/v1/api-keys").get_json()[0]["expires_at"] == short


def test_rules_of_keys_remain_after_a_load(harness: AppHarness, postgres: EmbeddedPostgres) -> None:
    reader = new_account_with_key(harness, "ruled")
    key_id = reader.get("/v1/me").get_json()["credential"]["id"]
    paused = harness.bearer(harness.new_key("ruled"))
    paused_id = paused.get("/v1/me").get_json()["credential"]["id"]
    dump = run_json(harness, "dump", "ruled")["dump"]
    owner = harness.user(_owner("ruled"))
    rules = {"scopes": ["api-keys:read"], "denied_addresses": ["192.0.2.0/24"]}
    assert owner.patch(f"/v1/api-keys/{key_id}", rules).status_code == 200
    assert owner.patch(f"/v1/api-keys/{paused_id}", {"paused": True}).status_code == 200

    def load() -> dict[str, Any]:
        run_json(harness, "suspend", "ruled")
        done: dict[str, Any] = run_json(harness, "load", "ruled", "--from", dump, "--yes-replace", "ruled")
        run_json(harness, "resume", "ruled")
        return done

    assert load()["keys_ended"] == 0
    assert code(paused) == "paused_credential"
    assert reader.get("/v1/agents").get_json()["code"] == "insufficient_scope"
    assert reader.get("/v1/me", environ_overrides={"REMOTE_ADDR": "192.0.2.7"}).status_code == 403
    assert reader.get("/v1/api-keys").status_code == 200


def test_restricted_key_remains_restricted_after_a_load_of_an_older_schema(
    harness: AppHarness, postgres: EmbeddedPostgres
) -> None:
    new_account(harness.services, "unruled")
    put_at(harness, postgres, "unruled", "account_0002")
    full, restricted = (harness.bearer(harness.new_key("unruled")) for _ in range(2))
    key_id = restricted.get("/v1/me").get_json()["credential"]["id"]
    dump = run_json(harness, "dump", "unruled")["dump"]
    upgraded = harness.app.test_cli_runner().invoke(args=["migrations", "upgrade", "--account", "unruled"])
    assert upgraded.exit_code == 0, upgraded.output
    owner = harness.user(_owner("unruled"))
    assert owner.patch(f"/v1/api-keys/{key_id}", {"scopes": ["agents:read"]}).status_code == 200
    run_json(harness, "suspend", "unruled")
    done = run_json(harness, "load", "unruled", "--from", dump, "--yes-replace", "unruled")
    run_json(harness, "resume", "unruled")
    assert done["keys_ended"] == 0
    assert restricted.get("/v1/widget-keys").get_json()["code"] == "insufficient_scope"
    assert full.get("/v1/widget-keys").status_code == 200


def _owner(account: str) -> Persona:
    return Persona("dora", "Dora", account, Role.OWNER)


@pytest.mark.parametrize("damage", ["cut", "noise", "missing"])
def test_damaged_dump_is_refused_and_nothing_changes(
    harness: AppHarness, postgres: EmbeddedPostgres, tmp_path: Path, damage: str
) -> None:
    account = f"damage-{damage}"
    caller = new_account_with_key(harness, account, "Front desk")
    path = Path(run_json(harness, "dump", account, "--folder", str(tmp_path))["dump"])
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-200] if damage == "cut" else os.urandom(5000))
    run_json(harness, "suspend", account)
    before = databases(postgres)
    for _ in range(2):
        refused = flask(harness, "load", account, "--from", str(path), "--yes-replace", account)
        assert refused.exit_code == 1
        assert "Traceback" not in refused.output
        path.with_suffix(".json").unlink(missing_ok=True)  # the second time, only PostgreSQL can detect the damage
    assert databases(postgres) == before
    run_json(harness, "resume", account)
    assert agents_of(caller) == ["Front desk"]


def test_file_that_is_not_an_account_dump_is_refused(
    harness: AppHarness, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    caller = new_account_with_key(harness, "particular", "Front desk")
    ask(postgres, "CREATE DATABASE unrelated")
    ask(postgres, "CREATE TABLE misc (id int)", "unrelated")
    path = tmp_path / "unrelated.dump"
    harness.app.extensions["kataven-commands"].programs.run(
        "pg_dump", _url(postgres, "unrelated"), ["--format=custom", f"--file={path}"]
    )
    run_json(harness, "suspend", "particular")
    refused = flask(harness, "load", "particular", "--from", str(path), "--yes-replace", "particular")
    assert "is at schema none" in refused.stderr
    assert "is missing" in flask(harness, "restore", "unrelated", "--from", str(path)).stderr
    run_json(harness, "resume", "particular")
    assert agents_of(caller) == ["Front desk"]


def _url(postgres: EmbeddedPostgres, database: str) -> URL:
    return make_url(postgres.url(database))


def test_delete_requires_the_name_as_confirmation(harness: AppHarness) -> None:
    caller = new_account_with_key(harness, "asked")
    for answer in ("Asked\n", "\n\n", "acme\n"):
        assert flask(harness, "delete", "asked", given=answer).exit_code == 1
    assert flask(harness, "delete", "asked", "--yes-delete", "acme").exit_code == 1
    assert caller.get("/v1/me").status_code == 200
    assert flask(harness, "delete", "asked", given="asked\n").exit_code == 0


def test_account_without_database_can_only_be_deleted_without_dump(
    harness: AppHarness, postgres: EmbeddedPostgres
) -> None:
    new_account(harness.services, "lost")
    ask(postgres, "DROP DATABASE lost WITH (FORCE)")
    assert "can't be dumped" in flask(harness, "delete", "lost", "--yes-delete", "lost").stderr
    assert status(harness, "lost") == "active"
    assert delete(harness, "lost", "--without-dump")["dump"] is None
    assert status(harness, "lost") is None


def test_outdated_client_programs_are_refused_before_anything_changes(
    harness: AppHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = new_account_with_key(harness, "well-equipped")
    tools = harness.app.extensions["kataven-commands"]
    for name in ("pg_dump", "pg_restore"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.1'\n")
        program.chmod(0o755)
    for folder, words in ((tmp_path, "has version 9"), (tmp_path / "empty", "pg_dump was not found")):
        monkeypatch.setattr(tools.programs, "_folder", folder)
        refused = flask(harness, "delete", "well-equipped", "--yes-delete", "well-equipped")
        assert refused.exit_code == 1
        assert words in refused.stderr
    assert caller.get("/v1/me").status_code == 200
    run_json(harness, "archive", "well-equipped")
    run_json(harness, "restore", "well-equipped")
    assert delete(harness, "well-equipped", "--without-dump")["dump"] is None


def test_deletion_continues_after_a_server_failure(harness: AppHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    new_account_with_key(harness, "half-way")

    def fail(*_: object) -> NoReturn:
        raise OperationalError("DROP", None, Exception("the disk is gone"))

    with monkeypatch.context() as patch:
        patch.setattr(Maintenance, "drop", fail)
        failed = flask(harness, "delete", "half-way", "--yes-delete", "half-way")
    assert failed.exit_code == 1
    assert "A database server is unavailable: the disk is gone" in failed.stderr
    assert status(harness, "half-way") == "deleting"
    delete(harness, "half-way")
    assert status(harness, "half-way") is None


def test_restore_needs_an_archived_account_and_resume_a_suspended_one(harness: AppHarness) -> None:
    caller = new_account_with_key(harness, "shelved")
    run_json(harness, "archive", "shelved")
    assert flask(harness, "resume", "shelved").exit_code == 1
    run_json(harness, "restore", "shelved")
    assert caller.get("/v1/me").status_code == 200
    assert flask(harness, "restore", "shelved").exit_code == 1


INTERRUPTED = """
import sys
import app as factory
import os
from kataven import settings
from kataven.operations import account_dumps
from kataven.tenancy.databases.provision import Reservation
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
    account_dumps.dumps.take = stop
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


def run_and_kill(harness: AppHarness, where: str, *words: str) -> None:
    """Run a command in a separate process and kill it at a given step."""
    verb, account, *rest = words
    command = [sys.executable, "-c", INTERRUPTED, account, where, verb, *rest]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env={**os.environ, **harness.environ}, text=True, **pipes) as process:
        line = process.stdout.readline()
        process.kill()
        process.wait()
        assert line == "here\n", process.stderr.read()


def run_until_unlocked(harness: AppHarness, *words: str) -> Result:
    """Repeat the command until PostgreSQL has released the lock of the killed process."""
    results: list[Result] = []

    def free() -> bool:
        results.append(flask(harness, *words))
        return "another process is creating or removing" not in results[-1].output

    wait_until(free, 20, lambda: results[-1].output)
    return results[-1]


@pytest.mark.parametrize("where", ["closed", "dumping", "dumped", "dropped"])
def test_killed_deletion_is_completed_by_the_next(harness: AppHarness, postgres: EmbeddedPostgres, where: str) -> None:
    account = f"killed-{where}"
    caller = new_account_with_key(harness, account, "Front desk")
    run_and_kill(harness, where, "delete", account, "--yes-delete", account)
    assert status(harness, account) == run_json(harness, "show", account)["status"] == "deleting"
    assert code(caller) == "invalid_credential"
    repaired = run_until_unlocked(harness, "repair")
    assert (status(harness, account) is None) == (where == "dropped"), repaired.output
    if where != "dropped":
        assert "repeat the deletion, or restore the account" in repaired.output
        assert run_until_unlocked(harness, "delete", account, "--yes-delete", account).exit_code == 0
    assert status(harness, account) is None
    assert account not in databases(postgres)
    (last,) = [
        Path(harness.environ["KATAVEN_DUMP_DIR"]) / event["dump"]
        for event in audit_events(harness, account)[-3:]
        if event["action"] == "account.deletion_begun" and "dump" in event
    ][-1:]
    assert run_json(harness, "restore", account, "--from", str(last))["keys_ended"] == 0
    assert agents_of(caller) == ["Front desk"]


@pytest.mark.parametrize("where", ["closed", "dumping", "dumped"])
def test_killed_deletion_can_be_reverted(harness: AppHarness, where: str) -> None:
    account = f"spared-{where}"
    caller = new_account_with_key(harness, account, "Front desk")
    run_and_kill(harness, where, "delete", account, "--yes-delete", account)
    assert run_until_unlocked(harness, "restore", account).exit_code == 0
    assert caller.post("/v1/agents", {"name": "Order desk"}).status_code == 201
    assert agents_of(caller) == ["Front desk", "Order desk"]


def test_write_after_the_final_dump_is_refused(harness: AppHarness, postgres: EmbeddedPostgres) -> None:
    """A request that was admitted before the revocation and writes only after the dump is refused, not lost."""
    caller = new_account_with_key(harness, "late-writer", "Front desk")
    record = harness.services.directory.read("late-writer")
    assert record is not None
    run_and_kill(harness, "dumping", "delete", "late-writer", "--yes-delete", "late-writer")
    late = harness.services.registry.writing(record.tenant)
    with pytest.raises(TenantUnavailable, match="read-only"), late as session:
        session.execute(text("UPDATE agents SET name = 'x'"))
    assert run_until_unlocked(harness, "restore", "late-writer").exit_code == 0
    assert agents_of(caller) == ["Front desk"]


@pytest.mark.parametrize("where", ["filled", "exchanged"])
def test_killed_load_is_atomic(harness: AppHarness, postgres: EmbeddedPostgres, where: str) -> None:
    account = f"load-{where}"
    caller = new_account_with_key(harness, account, "Old")
    dump = run_json(harness, "dump", account)["dump"]
    caller.post("/v1/agents", {"name": "New"})
    run_json(harness, "suspend", account)
    before = databases(postgres)
    run_and_kill(harness, where, "load", account, "--from", dump, "--yes-replace", account)
    wait_until(lambda: run_until_unlocked(harness, "repair").exit_code == 0 and databases(postgres) == before, 20)
    run_json(harness, "resume", account)
    assert agents_of(caller) == (["New", "Old"] if where == "filled" else ["Old"])


@pytest.mark.parametrize("where", ["filled", "exchanged"])
def test_killed_restore_is_completed_or_removed(harness: AppHarness, where: str) -> None:
    account = f"back-{where}"
    caller = new_account_with_key(harness, account, "Front desk")
    dump = delete(harness, account)["dump"]
    run_and_kill(harness, where, "restore", account, "--from", dump)
    assert status(harness, account) == "provisioning"
    wait_until(
        lambda: run_until_unlocked(harness, "repair").exit_code == 0 and status(harness, account) != "provisioning", 20
    )
    assert (status(harness, account) == "active") == (where == "exchanged")
    if where == "filled":
        assert run_until_unlocked(harness, "restore", account, "--from", dump).exit_code == 0
    wait_until(lambda: caller.get("/v1/me").status_code == 200, 40)
    assert agents_of(caller) == ["Front desk"]


def test_shell_opens_psql_and_is_audited(harness: AppHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new_account_with_key(harness, "inspected", "Front desk")
    told = tmp_path / "told"
    psql = tmp_path / "psql"
    psql.write_text(f'#!/bin/sh\nenv > {told}\necho "$#" >> {told}\nexit 3\n')
    psql.chmod(0o755)
    tools = harness.app.extensions["kataven-commands"]
    with monkeypatch.context() as patch:
        patch.setattr(tools.programs, "_folder", tmp_path)
        assert flask(harness, "shell", "inspected").exit_code == 3
    lines = told.read_text().splitlines()
    assert "PGDATABASE=inspected" in lines
    assert lines[-1] == "0", "nothing on the command line"
    assert audit_events(harness, "inspected")[-1]["action"] == "account.shell_opened"
    with monkeypatch.context() as patch:
        patch.setattr(tools.programs, "_folder", tmp_path / "empty")
        missing = flask(harness, "shell", "inspected")
    assert "psql was not found" in missing.stderr
    real = subprocess.run(
        [tools.programs.path("psql"), "-Atc", "SELECT name FROM agents"],
        env=environment(harness.services.directory.read("inspected").tenant.url),  # type: ignore[union-attr]
        capture_output=True,
        text=True,
        check=True,
    )
    assert real.stdout == "Front desk\n"


def audit_events(harness: AppHarness, account: str) -> list[dict[str, Any]]:
    with harness.services.directory.database.reading() as session:
        events = session.query(OperatorEvent).filter_by(account_id=account).order_by(OperatorEvent.at)
        return [{"action": event.action, **event.detail} for event in events]


def test_account_recreated_under_its_name_starts_with_unused_limits(
    harness: AppHarness, shared_redis: EmbeddedRedis
) -> None:
    account = "made-again"
    owner = new_account_with_key(harness, account, "Front desk")
    with redis.Redis.from_url(shared_redis.url) as client:
        for surface in ("api", "hub"):
            client.set(f"limits:{surface}:account:{{{account}-two}}", "another account's")
            assert client.exists(f"limits:{surface}:account:{{{account}}}") == (surface == "api")
        client.set(f"limits:hub:account:{{{account}}}", client.get(f"limits:api:account:{{{account}}}") or b"")
        limits = owner.get("/v1/me").get_json()["limits"]["per_hour"]
        assert limits["limit"] - limits["remaining"] >= 2

        delete(harness, account, "--without-dump")
        for surface in ("api", "hub"):
            assert not client.exists(f"limits:{surface}:account:{{{account}}}")
            assert client.delete(f"limits:{surface}:account:{{{account}-two}}")
    new_account(harness.services, account)
    limits = harness.bearer(harness.new_key(account)).get("/v1/me").get_json()["limits"]["per_hour"]
    assert limits["limit"] - limits["remaining"] == 1
