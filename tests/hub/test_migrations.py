"""Migrations in the console: requesting a run, its separate process, and its progress."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import make_url

import app as factory
from kataven import settings
from kataven.commands.migrations import carry_out
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.embedded.processes import living_processes
from kataven.dev.personas import OLIVIA, org_id
from kataven.hub.pages_app import PAGES
from kataven.hub.runner import Runner
from kataven.hub.session_middleware import EXTENSION
from kataven.identity.credential import OPERATORS_ACCOUNT
from kataven.operations import account_creation, account_migrations, migration_runs
from kataven.operations.migration_runs import RunRequest, RunStatus
from kataven.system import accounts, operators
from kataven.system.errors import RunUnderWay
from kataven.system.models import RunState
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.tenancy.server import DatabaseServer
from kataven.tenancy.templates import Templates
from kataven.web.services import EXTENSION as SERVICES
from tests.hub.conftest import HUB_URL, Hub
from tests.hub.hub_browser import HubBrowser
from tests.support.app_harness import AppHarness, new_account
from tests.support.servers import ask
from tests.support.waiting import wait_until

pytestmark = pytest.mark.processes

PAGE = "/console/migrations"
OLD, NEW = ACCOUNT_SCHEMA.window[0], ACCOUNT_SCHEMA.head
BEHIND = f"{len(ACCOUNT_SCHEMA.window) - 1} behind"
NAMES = [f"behind-{letter}" for letter in "abcd"]
SECONDS = 60


class Fleet:
    """A Hub with separate accounts for this module, and helpers for their databases."""

    def __init__(self, hub: Hub, postgres: EmbeddedPostgres) -> None:
        self.hub = hub
        self.postgres = postgres
        self.services = hub.app.extensions[SERVICES]
        self.database = self.services.directory.database

    def set_back(self) -> None:
        """Recreate every account's database at the oldest revision."""
        server = DatabaseServer(make_url(self.postgres.url("postgres")))
        with server.maintenance() as maintenance:
            template = Templates(server, ACCOUNT_SCHEMA).ensure(maintenance, OLD)
            for name in NAMES:
                maintenance.drop(name)
                maintenance.create(name, template)
        with self.database.writing() as session:
            for name in NAMES:
                accounts.read(session, name).schema_revision = OLD

    def run_status(self) -> RunStatus:
        with self.database.reading() as session:
            found = migration_runs.latest(session)
        assert found is not None
        return found

    def wait_for(self, state: RunState) -> RunStatus:
        wait_until(lambda: self.run_status().state is state, SECONDS, lambda: self.run_status())
        return self.run_status()

    def revisions(self) -> list[object]:
        """The revision in each database."""
        return [ask(self.postgres, "SELECT version_num FROM alembic_version", name)[0][0] for name in NAMES]

    def events(self, action: str) -> list[str | None]:
        """The accounts of the operator events, newest first."""
        with self.database.reading() as session:
            return [event.account_id for event in operators.listing(session, 50, action=action)]


@pytest.fixture(scope="module")
def place(harness: AppHarness, postgres: EmbeddedPostgres) -> Iterator[Fleet]:
    environ = {
        **harness.environ,
        "KATAVEN_DATABASE_URL": postgres.url("kataven_migrating"),
        "KATAVEN_HUB_URL": HUB_URL,
        "KATAVEN_OPERATORS_ORG_ID": org_id(OPERATORS_ACCOUNT),
    }
    configured = settings.load(environ)
    account_creation.prepare_system(configured.database_url.get_secret_value())
    app = factory.create_hub(configured)
    services = app.extensions[SERVICES]
    for name in NAMES:
        new_account(services, name)
    services.start()
    pages = app.extensions[PAGES]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():  # inherited by the process of a run
            patch.setenv(name, value)
        yield Fleet(Hub(app, pages, pages.extensions[EXTENSION]), postgres)
    # The thread that waits for a run's process writes to the database when the process exits.
    wait_until(lambda: all(thread.name != "migrations" for thread in threading.enumerate()), SECONDS)
    services.stop()


@pytest.fixture
def fleet(place: Fleet) -> Fleet:
    place.set_back()
    return place


@pytest.fixture
def olivia(place: Fleet) -> HubBrowser:
    return place.hub.signed_in(OLIVIA)


def form(**changes: str) -> dict[str, str]:
    return {"account": "", "jobs": "1", "canaries": "1", "max_failures": "5", "confirm": NEW, **changes}


def press(browser: HubBrowser, **changes: str) -> int:
    browser.get(PAGE)
    return browser.post(PAGE, form(**changes)).status_code


def checked(browser: HubBrowser, more: str = "") -> str:
    """The page after all databases were checked. The page itself doesn't wait for servers."""
    pages: list[str] = []

    def is_answered() -> bool:
        page = browser.get(f"{PAGE}?check=1{more}")
        assert page.status_code == 200
        pages.append(page.text)
        return "has not responded yet" not in page.text

    wait_until(is_answered, SECONDS)
    return pages[-1]


def test_requested_run_migrates_all_accounts(fleet: Fleet, olivia: HubBrowser) -> None:
    assert olivia.get(PAGE).text.count(BEHIND) == len(NAMES)
    assert press(olivia) == 303
    assert "Migration run requested." in olivia.get(PAGE).text
    run_status = fleet.wait_for(RunState.DONE)
    assert (run_status.run.total, run_status.done, run_status.failed, run_status.left) == (4, 4, 0, 0)
    assert fleet.revisions() == [NEW] * 4
    page = olivia.get(PAGE).text
    assert BEHIND not in page
    assert ">done</span>" in page
    assert fleet.events("migrations.asked")[0] is None
    assert fleet.events("migrations.ended")[0] is None
    assert fleet.events("account.migrated")[:4] == NAMES[::-1]
    assert "jwt:olivia" not in page  # labels of users are shown without prefix
    assert "by olivia" in page


def test_run_for_one_account_leaves_the_others_unchanged(fleet: Fleet, olivia: HubBrowser) -> None:
    assert press(olivia, account="behind-b") == 303
    assert fleet.wait_for(RunState.DONE).done == 1
    assert fleet.revisions() == [OLD, NEW, OLD, OLD]
    assert fleet.events("migrations.ended")[0] == "behind-b"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"confirm": ""}, "confirm"),
        ({"confirm": OLD}, "confirm"),
        ({"account": "nobody-there"}, "account"),
        ({"account": "../etc"}, "account"),
        ({"jobs": "0"}, "jobs"),
        ({"jobs": "65"}, "jobs"),
        ({"canaries": "-1"}, "canaries"),
        ({"max_failures": "many"}, "max_failures"),
    ],
    ids=["unconfirmed", "other revision", "nobody", "path", "no jobs", "many jobs", "canaries", "words"],
)
def test_invalid_run_form_shows_an_error_and_starts_nothing(
    place: Fleet, olivia: HubBrowser, changes: dict[str, str], field: str
) -> None:
    asked = len(place.events("migrations.asked"))
    olivia.get(PAGE)
    page = olivia.post(PAGE, form(**changes))
    assert page.status_code == 400
    assert f'id="{field}-problem"' in page.text
    assert len(place.events("migrations.asked")) == asked


def test_form_error_during_a_run_names_the_field(place: Fleet, olivia: HubBrowser) -> None:
    run_id = migration_runs.request(place.database, "test", RunRequest())
    olivia.get(PAGE)
    page = olivia.post(PAGE, form(jobs="many"))
    migration_runs.cancel(place.database, run_id, "test")
    assert page.status_code == 400
    assert '<p class="problem">Parallel accounts must be a whole number, such as 8</p>' in page.text
    assert "{" not in page.text.partition("<main")[2]


def test_failed_account_is_listed_with_its_reason(fleet: Fleet, olivia: HubBrowser) -> None:
    ask(fleet.postgres, "CREATE TABLE widget_settings (id int)", "behind-c")
    assert press(olivia) == 303
    run_status = fleet.wait_for(RunState.FAILED)
    assert (run_status.done, run_status.failed) == (3, 1)
    assert fleet.revisions() == [NEW, NEW, OLD, NEW]
    page = olivia.get(PAGE).text
    assert "already exists" in page
    assert page.index("behind-c") < page.index("already exists")


def test_run_stops_after_the_maximum_number_of_failures(fleet: Fleet, olivia: HubBrowser) -> None:
    ask(fleet.postgres, "CREATE TABLE widget_settings (id int)", "behind-a")
    assert press(olivia, max_failures="1") == 303
    run_status = fleet.wait_for(RunState.FAILED)
    assert (run_status.done, run_status.failed, run_status.left) == (0, 1, 3)
    assert fleet.revisions() == [OLD] * 4
    assert "Stopped after 1 failure. The remaining accounts were not changed." in olivia.get(PAGE).text


@pytest.mark.parametrize(
    ("failed", "skipped", "words"),
    [
        (9, 991, "Stopped after 5 failures; 4 more failed that were in progress."),
        (6, 1, "Stopped after 5 failures; 1 more failed that was in progress."),
        (5, 1, "Stopped after 5 failures."),
        (1, 3, "Stopped because a canary failed."),
        (9, 0, None),
        (0, 0, None),
    ],
)
def test_early_end_of_a_run_is_explained(failed: int, skipped: int, words: str | None) -> None:
    assert migration_runs.early_end({"failed": failed, "skipped": skipped, "current": 7}, max_failures=5) == words


def test_command_line_explains_the_early_end_of_a_run(fleet: Fleet) -> None:
    ask(fleet.postgres, "CREATE TABLE widget_settings (id int)", "behind-a")
    options = ["migrations", "upgrade", "--all", "--max-failures", "1", "--canaries", "0", "--jobs", "1"]
    done = fleet.hub.app.test_cli_runner().invoke(args=options)
    assert done.exit_code == 1
    assert "Stopped after 1 failure. The remaining accounts were not changed." in done.stderr


def test_concurrent_run_is_rejected_and_killed_run_is_resumed(fleet: Fleet, olivia: HubBrowser) -> None:
    server = DatabaseServer(make_url(fleet.postgres.url("postgres")))
    with server.connect("behind-c") as connection:
        connection.exec_driver_sql("BEGIN; LOCK TABLE widget_keys")
        assert press(olivia) == 303
        wait_until(lambda: fleet.run_status().done == 2, SECONDS)
        page = olivia.get(PAGE).text
        assert ">running</span>" in page
        assert "data-live=" in page
        assert 'http-equiv="refresh"' in page
        assert "<dd>2</dd>" in olivia.get(f"{PAGE}/run").text

        second = olivia.post(PAGE, form())
        assert second.status_code == 400
        assert "Another migration run is in progress." in second.text
        with pytest.raises(RunUnderWay):
            migration_runs.request(fleet.database, "cli", RunRequest())

        os.kill(process_of(fleet.run_status()), signal.SIGKILL)
        fleet.wait_for(RunState.STOPPED)
        page = olivia.get(PAGE).text
        assert "interrupted" in page
        assert "data-live=" not in page
    wait_until(lambda: not connected(fleet, "behind-c"), SECONDS)
    a, b, c, d = fleet.revisions()
    assert (a, b, d) == (NEW, NEW, OLD)
    assert c in ACCOUNT_SCHEMA.window  # the server may have completed steps of the migration, but none partially

    assert press(olivia) == 303
    assert fleet.wait_for(RunState.DONE).done == 4
    assert fleet.revisions() == [NEW] * 4
    assert checked(olivia).count('<span class="tag active">none</span>') == 4
    with fleet.database.reading() as session:
        ended = operators.listing(session, 3, action="migrations.ended")
    assert [event.detail.get("error") for event in ended[:2]] == [None, "The run was interrupted."]


def process_of(run_status: RunStatus) -> int:
    """The process id of a run."""
    (found,) = (one for one in living_processes() if f"carry-out {run_status.run.id}" in one.command)
    return found.pid


def connected(fleet: Fleet, database: str) -> bool:
    """Whether a migration is still connected to the database."""
    look = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'kataven migrations' AND datname = "
    return bool(ask(fleet.postgres, f"{look} '{database}'"))


@pytest.mark.parametrize("command", [("/bin/false",), ("/nowhere/at/all",)], ids=["ends", "is not there"])
def test_process_that_never_starts_the_run_is_reported(
    place: Fleet, olivia: HubBrowser, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    services = replace(place.hub.services, runner=Runner(Path("/"), command))
    monkeypatch.setitem(place.hub.pages.extensions, EXTENSION, services)
    assert press(olivia) == 303
    place.wait_for(RunState.FAILED)
    assert "exited before it started the run" in olivia.get(PAGE).text


def test_run_that_was_never_started_times_out(place: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    migration_runs.request(place.database, "test", RunRequest())
    assert place.run_status().state is RunState.STARTING
    with pytest.raises(RunUnderWay):
        migration_runs.request(place.database, "test", RunRequest())
    monkeypatch.setattr(migration_runs, "START_SECONDS", -1)
    assert place.run_status().state is RunState.STOPPED
    run_id = migration_runs.request(place.database, "test", RunRequest())
    migration_runs.cancel(place.database, run_id, "enough")
    assert place.run_status().run.error == "enough"


def test_run_is_executed_once(fleet: Fleet, olivia: HubBrowser) -> None:
    assert press(olivia, account="behind-a") == 303
    run_id = fleet.wait_for(RunState.DONE).run.id
    again = fleet.hub.app.test_cli_runner().invoke(carry_out, [str(run_id)])
    assert again.exit_code == 1
    assert "in progress" in again.stderr


def test_command_line_run_is_shown_in_the_console(fleet: Fleet, olivia: HubBrowser) -> None:
    done = fleet.hub.app.test_cli_runner().invoke(args=["migrations", "upgrade", "--account", "behind-d"])
    assert done.exit_code == 0, done.output
    page = olivia.get(PAGE).text
    assert "by cli" in page
    assert ">done</span>" in page


def test_databases_are_checked_on_request_and_per_page(
    fleet: Fleet, olivia: HubBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kataven.hub.console import migrations

    assert "not checked" in olivia.get(PAGE).text
    ask(fleet.postgres, "ALTER TABLE agents ADD COLUMN by_hand int", "behind-a")
    with fleet.database.writing() as session:
        accounts.read(session, "behind-b").schema_revision = NEW  # which is wrong
    page = checked(olivia)
    assert page.count(">drifted</span>") == 1
    assert page.count(BEHIND) == 4
    monkeypatch.setattr(migrations, "PAGE_SIZE", 1)
    open_form: list[str] = []
    status = account_migrations.status

    def counting_status(database: object, chosen: list[object], *rest: object) -> object:
        open_form.extend(tenant.account for tenant in chosen)  # type: ignore[attr-defined]
        return status(database, chosen, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(account_migrations, "status", counting_status)
    assert "behind-b</a>" not in checked(olivia)
    assert "behind-b</a>" in checked(olivia, "&after=behind-a")
    assert open_form == ["behind-a", "behind-b"]
    assert olivia.get(f"{PAGE}?check=1&q=nobody").status_code == 200
    assert olivia.get(f"{PAGE}?q=%25&after=%27").status_code == 200


def test_account_without_a_database_is_listed(fleet: Fleet, olivia: HubBrowser) -> None:
    server = DatabaseServer(make_url(fleet.postgres.url("postgres")))
    with server.maintenance() as maintenance:
        maintenance.drop("behind-d")
    assert "does not exist" in checked(olivia)


@pytest.mark.parametrize("path", [PAGE, f"{PAGE}/run"])
def test_migrations_require_the_operator_role(harness: AppHarness, hub: Hub, alice: HubBrowser, path: str) -> None:
    assert alice.get(path).status_code == 403
    assert hub.browser().get(path).location.startswith("/sign-in")
    alice.get("/")
    assert alice.post(PAGE, form()).status_code == 403


def test_polling_the_run_does_not_consume_the_notice(fleet: Fleet, olivia: HubBrowser) -> None:
    assert press(olivia, account="behind-a") == 303
    olivia.get(f"{PAGE}/run")
    assert "Migration run requested." in olivia.get(PAGE).text
    fleet.wait_for(RunState.DONE)
