"""Accounts on two PostgreSQL servers: adding, draining, migrating, and the outage of one of them."""

from __future__ import annotations

import io
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from sqlalchemy import delete, make_url

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.operations import account_creation
from kataven.operations.account_creation import NewAccount
from kataven.system import servers
from kataven.system.addresses import read_address
from kataven.system.database import SystemDatabase
from kataven.system.errors import NoSuchServer, SystemSchemaBehind
from kataven.system.models import Account, OperatorEvent
from kataven.system.models import RegisteredServer as ServerRow
from kataven.system.schema import ACCOUNT_SCHEMA, SYSTEM_SCHEMA
from kataven.system.suitability import server_url
from kataven.tenancy.server import DatabaseServer
from kataven.tenancy.templates import Templates
from tests.support.app_harness import AppHarness
from tests.support.servers import ask
from tests.tenancy.conftest import scratch_server


def flask(harness: AppHarness, *words: str, given: str | None = None) -> Result:
    return harness.app.test_cli_runner().invoke(args=list(words), input=given)


def run_json(harness: AppHarness, *words: str, given: str | None = None) -> Any:
    result = flask(harness, *words, "--json", given=given)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def listed(harness: AppHarness) -> dict[str, dict[str, Any]]:
    return {row["server"]: row for row in run_json(harness, "servers", "list")}


@pytest.fixture(scope="module")
def other() -> Iterator[EmbeddedPostgres]:
    with scratch_server() as server:
        yield server


@pytest.fixture
def europe(harness: AppHarness, other: EmbeddedPostgres) -> Iterator[str]:
    """A second server, listed only during the test, so that other tests' accounts are not placed on it."""
    run_json(harness, "servers", "add", "europe", given=other.url(""))
    yield "europe"
    with harness.services.directory.database.writing() as session:
        session.execute(delete(Account).where(Account.server == "europe"))
        session.execute(delete(ServerRow).where(ServerRow.name == "europe"))


def test_added_server_is_listed_and_audited(harness: AppHarness, europe: str, other: EmbeddedPostgres) -> None:
    row = listed(harness)[europe]
    assert row["host"] == make_url(other.url("x")).query["host"]
    assert (row["port"], row["user"], row["accounts"], row["draining"]) == (5432, "kataven", 0, False)
    assert listed(harness)["default"]["accounts"] >= 2
    with harness.services.directory.database.reading() as session:
        event = session.query(OperatorEvent).filter_by(action="server.added").order_by(OperatorEvent.at.desc()).first()
        assert event is not None
        assert (event.actor, event.detail["server"]) == ("cli", europe)


def test_account_on_another_server_is_served(harness: AppHarness, europe: str, other: EmbeddedPostgres) -> None:
    flask(harness, "accounts", "create", "abroad", "--server", europe)
    assert ask(other, "SELECT 1 FROM pg_database WHERE datname = 'abroad'") == [(1,)]
    caller = harness.bearer(harness.new_key("abroad"))
    assert caller.post("/v1/agents", {"name": "Concierge"}).status_code == 201
    assert [agent["name"] for agent in caller.get("/v1/agents").get_json()] == ["Concierge"]
    assert ask(other, "SELECT name FROM agents", "abroad") == [("Concierge",)]
    assert listed(harness)[europe]["accounts"] == 1


def test_new_account_is_placed_on_the_emptiest_server_that_is_not_drained(harness: AppHarness, europe: str) -> None:
    placed = run_json(harness, "accounts", "create", "goes-where-room-is")
    assert placed["server"] == europe
    assert run_json(harness, "servers", "drain", europe)["draining"]
    assert run_json(harness, "accounts", "create", "stays-away")["server"] == "default"
    refused = flask(harness, "accounts", "create", "insists", "--server", europe)
    assert refused.exit_code == 1
    assert "'europe' does not exist or accepts no new accounts" in refused.stderr
    served = harness.bearer(harness.new_key("goes-where-room-is"))
    assert served.get("/v1/agents").status_code == 200
    assert not run_json(harness, "servers", "drain", europe, "--undo")["draining"]
    assert run_json(harness, "servers", "drain", europe)["draining"]
    assert not run_json(harness, "servers", "resume", europe)["draining"]


def test_drain_between_choosing_and_placing_wins(
    harness: AppHarness, europe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = harness.services.directory.database
    choose = servers.choose

    def drained_after(*given: Any) -> ServerRow:
        chosen = choose(*given)
        servers.drain(database, europe, draining=True, actor="test")
        return chosen

    monkeypatch.setattr(servers, "choose", drained_after)
    with pytest.raises(NoSuchServer):
        account_creation.create(database, NewAccount("too-late", "x", server=europe), actor="test")
    assert harness.services.directory.read("too-late") is None


def test_creation_is_refused_if_no_server_accepts_accounts(harness: AppHarness) -> None:
    run_json(harness, "servers", "drain", "default", "--force")
    try:
        refused = flask(harness, "accounts", "create", "homeless")
    finally:
        run_json(harness, "servers", "resume", "default")
    assert "No database server accepts new accounts" in refused.stderr


def test_templates_and_migrations_cover_both_servers(harness: AppHarness, europe: str, other: EmbeddedPostgres) -> None:
    flask(harness, "accounts", "create", "far", "--server", europe)
    flask(harness, "accounts", "create", "near", "--server", "default")
    for url in (other.url("x"), str(harness.environ["KATAVEN_DATABASE_URL"])):
        server = DatabaseServer(make_url(url))
        with server.maintenance() as maintenance:
            assert Templates(server, ACCOUNT_SCHEMA).known_fingerprint(maintenance, ACCOUNT_SCHEMA.head)
    chosen = ("--account", "far", "--account", "near")
    assert [row["outcome"] for row in run_json(harness, "migrations", "upgrade", *chosen)] == ["current", "current"]
    status = {row["account"]: row for row in run_json(harness, "migrations", "status", *chosen)}
    assert {row["revision"] for row in status.values()} == {ACCOUNT_SCHEMA.head}
    assert not status["far"]["drifted"]
    ask(other, "ALTER TABLE agents ADD COLUMN stray text", "far")
    drifted = json.loads(flask(harness, "migrations", "status", *chosen, "--json").stdout)
    assert {row["account"]: row["drifted"] for row in drifted} == {"far": True, "near": False}


def test_unavailable_server_affects_only_its_own_accounts(harness: AppHarness, acme_key: Any) -> None:
    with scratch_server() as doomed:
        run_json(harness, "servers", "add", "doomed", given=doomed.url(""))
        flask(harness, "accounts", "create", "sinking", "--server", "doomed")
        caller = harness.bearer(harness.new_key("sinking"))
        assert caller.get("/v1/agents").status_code == 200
    try:
        answer = caller.get("/v1/agents")
        assert (answer.status_code, answer.get_json()["code"]) == (503, "unavailable")
        assert acme_key.get("/v1/agents").status_code == 200
        repaired = flask(harness, "accounts", "repair", "--json")
        assert repaired.exit_code == 1
        found = {row["server"]: row for row in json.loads(repaired.stdout)}
        assert found["doomed"]["found"] == "unreachable"
        in_use = flask(harness, "servers", "remove", "doomed")
        assert "it holds 1 account." in in_use.stderr
    finally:
        with harness.services.directory.database.writing() as session:
            session.execute(delete(Account).where(Account.server == "doomed"))
    assert flask(harness, "servers", "remove", "doomed").exit_code == 0
    assert "doomed" not in listed(harness)
    assert flask(harness, "servers", "remove", "default").exit_code == 1


@pytest.mark.parametrize(
    ("role", "words"),
    [
        ("cannot_create LOGIN", 'ALTER ROLE "cannot_create" CREATEDB'),
        ("cannot_login NOLOGIN CREATEDB", "is not permitted to log in"),
    ],
    ids=["no-right-to-create", "no-right-to-log-in"],
)
def test_unsuitable_server_is_refused_with_the_fix(harness: AppHarness, role: str, words: str) -> None:
    name = role.partition(" ")[0]
    with scratch_server() as server:
        ask(server, f"CREATE ROLE {role}")
        allow_role(server, "trust", name)
        refused = flask(harness, "servers", "add", "unfit", given=server.url("").replace("kataven@", f"{name}@"))
    assert refused.exit_code == 1
    assert words in refused.stderr
    assert "unfit" not in listed(harness)


def allow_role(server: EmbeddedPostgres, method: str, role: str) -> None:
    """Allow `role` to connect with `method`, in addition to peer authentication."""
    (file,) = ask(server, "SHOW hba_file")[0]
    with Path(str(file)).open("a", encoding="utf-8") as rules:
        rules.write(f"local all {role} {method}\n")
    ask(server, "SELECT pg_reload_conf()")


def test_listed_server_is_refused_under_another_name(harness: AppHarness) -> None:
    refused = flask(harness, "servers", "add", "twin", given=harness.environ["KATAVEN_DATABASE_URL"])
    assert refused.exit_code == 1
    assert "listed as 'default'" in refused.stderr


def test_unavailable_server_is_refused(harness: AppHarness, tmp_path: Path) -> None:
    refused = flask(harness, "servers", "add", "nowhere", given=f"postgresql://kataven@/?host={tmp_path}")
    assert refused.exit_code == 1
    assert "Can't connect to the server" in refused.stderr
    assert "Traceback" not in refused.output


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("postgresql://kataven:{}@db.example:5432", "must not contain a password"),
        ("postgresql://kataven@db.example:5432?password={}", "must not contain a password"),
        ("{}", "Invalid database URL"),
        ("mysql://kataven@{}", "Not a PostgreSQL URL"),
        ("postgresql://{}:5432", "has no user"),
        ("postgresql://{}@", "has no host"),
    ],
    ids=["password", "password-in-query", "no-url", "mysql", "no-user", "no-host"],
)
def test_invalid_url_is_refused_and_never_repeated(harness: AppHarness, template: str, words: str) -> None:
    secret = secrets.token_hex(8)
    refused = flask(harness, "servers", "add", "bad", given=template.format(secret))
    assert refused.exit_code == 1
    assert words in refused.stderr
    assert secret not in refused.output


def test_url_is_read_from_a_file_or_the_environment(
    harness: AppHarness, other: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "url"
    file.write_text(other.url("") + "\n")
    monkeypatch.setenv("EUROPE_URL", other.url(""))
    for source in (["--url-file", str(file)], ["--url-env", "EUROPE_URL"]):
        run_json(harness, "servers", "add", "sourced", *source)
        assert flask(harness, "servers", "add", "sourced", *source).exit_code == 1
        assert flask(harness, "servers", "remove", "sourced").exit_code == 0
    assert flask(harness, "servers", "add", "x", "--url-env", "NOT_SET").exit_code == 2
    assert flask(harness, "servers", "add", "Not A Name", given=other.url("")).exit_code == 1


def test_password_remains_in_its_file(harness: AppHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """libpq reads it, in this process and in every worker; Kataven does not store, print or log it."""
    password = secrets.token_hex(16)
    with scratch_server() as server:
        ask(server, f"CREATE ROLE guarded LOGIN CREATEDB PASSWORD '{password}'")
        allow_role(server, "scram-sha-256", "guarded")
        url = server.url("").replace("kataven@", "guarded@")
        monkeypatch.delenv("PGPASSFILE", raising=False)
        refused = flask(harness, "servers", "add", "guarded", given=url)
        assert "PGPASSFILE" in refused.stderr

        passfile = tmp_path / "passwords"
        passfile.write_text(f"*:*:*:guarded:{password}\n")
        passfile.chmod(0o600)
        monkeypatch.setenv("PGPASSFILE", str(passfile))
        added = flask(harness, "servers", "add", "guarded", given=url)
        assert added.exit_code == 0, added.output
        try:
            flask(harness, "accounts", "create", "behind-a-password", "--server", "guarded")
            caller = harness.bearer(harness.new_key("behind-a-password"))
            assert caller.get("/v1/agents").status_code == 200
            with harness.services.directory.database.reading() as session:
                kept = [row.url for row, _ in servers.listing(session)]
            said_of_it = str(kept) + flask(harness, "servers", "list").output + added.output + refused.output
            assert password not in said_of_it
        finally:
            with harness.services.directory.database.writing() as session:
                session.execute(delete(Account).where(Account.server == "guarded"))
            flask(harness, "servers", "remove", "guarded")


def test_url_is_stored_without_a_database() -> None:
    assert server_url("postgres://kataven@db.example:5433/anything?sslmode=verify-full").render_as_string() == (
        "postgresql+psycopg2://kataven@db.example:5433/?sslmode=verify-full"
    )


def test_direct_url_needs_the_newest_system_schema(postgres: EmbeddedPostgres, other: EmbeddedPostgres) -> None:
    """This release serves older system databases, in which a server has no direct URL."""
    server = DatabaseServer(make_url(postgres.url("postgres")))
    with server.maintenance() as maintenance:
        maintenance.create("kataven_without_direct_urls", "template0")
    with server.connect("kataven_without_direct_urls") as connection:
        SYSTEM_SCHEMA.upgrade(connection, "system_0007")
    database = SystemDatabase(postgres.url("kataven_without_direct_urls"))
    with database.writing() as session:
        servers.ensure_default(session)
    url = server_url(other.url(""))
    with pytest.raises(SystemSchemaBehind, match="flask migrations upgrade --system"):
        servers.add(database, "europe", url, direct_url=url, actor="test")
    servers.add(database, "europe", url, actor="test")
    with database.reading() as session:
        assert [(row.name, row.direct_url) for row, _ in servers.listing(session)] == [
            ("default", None),
            ("europe", None),
        ]
        assert not read_address(session, database, "europe").direct
    database.close()


def test_prompt_hides_the_url(harness: AppHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def prompt(text: str, **options: Any) -> str:
        asked.append(options)
        return "nonsense"

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("click.prompt", prompt)
    monkeypatch.setattr("kataven.commands.servers._standard_input", Terminal)
    assert flask(harness, "servers", "add", "typed").exit_code == 1
    assert asked == [{"hide_input": True}]


def test_last_server_that_accepts_accounts_is_not_drained_without_force(harness: AppHarness, europe: str) -> None:
    assert run_json(harness, "servers", "drain", europe)["draining"]
    for verb in ("drain", "remove"):
        refused = flask(harness, "servers", verb, "default")
        assert refused.exit_code == 1
        assert "--force" in refused.stderr
    assert not listed(harness)["default"]["draining"]
    assert run_json(harness, "servers", "drain", "default", "--force")["draining"]
    assert run_json(harness, "servers", "drain", "default")["draining"], "it takes none already"
    assert not run_json(harness, "servers", "resume", "default")["draining"]
