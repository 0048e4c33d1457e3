"""Every API operation and every Hub page, for an account at each supported schema revision.

Before its migration, an account gets correct responses or 503 `schema_mismatch`, but never 500.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from werkzeug.test import TestResponse

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.personas import ALICE, OLIVIA
from kataven.hub.page_blueprint import access_of
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.web.operation import Operation, operation_of
from tests.hub.conftest import Hub
from tests.hub.hub_browser import HubBrowser
from tests.support.app_harness import AppHarness
from tests.support.walk import ORIGIN, PAGES, REQUESTS, World, prefixes

OLDEST, HEAD = ACCOUNT_SCHEMA.window[0], ACCOUNT_SCHEMA.head
THREADS = 4


def operations(harness: AppHarness) -> dict[tuple[str, str], Operation]:
    """Of the real URL map."""
    declared = (operation_of(view) for view in harness.app.view_functions.values())
    return {(one.method, one.path): one for one in declared if one is not None}


@pytest.fixture(scope="module", params=ACCOUNT_SCHEMA.window)
def world(request: pytest.FixtureRequest, harness: AppHarness, postgres: EmbeddedPostgres) -> World:
    return World(harness, postgres, f"walked-{request.param.replace('_', '-')}", request.param)


def send(world: World, hub: Hub, operation: Operation, prefix: str = "") -> tuple[str, TestResponse]:
    """The requested path, and the response."""
    request = REQUESTS[operation.method, operation.path](world)
    path = prefix + request.path
    app = hub.app if prefix.startswith("/hub-api") else world.harness.app
    headers = {"Origin": ORIGIN} if request.caller is None else dict(request.caller.headers)
    return path, app.test_client().open(path, method=operation.method, json=request.body, headers=headers)


def right_statuses(operation: Operation) -> set[int]:
    found = {operation.response.status, *(other.status for other in operation.others)}
    # The harness configures no contact.
    return found | {404} if operation.path == "/.well-known/security.txt" else found


def waiting_statuses(operation: Operation) -> set[int]:
    """The statuses that are right while the account is migrated."""
    # A user who was seen before the migration is not stored, so a request after it does not find the user.
    return {503, 404} if "<person_id>" in operation.path else {503}


def faults_of(world: World, hub: Hub, operation: Operation) -> Iterator[str]:
    """The wrong responses of an operation, by path."""
    for prefix in prefixes(operation.path):
        path, answer = send(world, hub, operation, prefix)
        if answer.status_code not in right_statuses(operation) and not is_out_of_step(world, answer):
            yield f"{operation.method} {path}: {answer.status_code} {code_of(answer)}"


def owner_of(world: World, hub: Hub) -> HubBrowser:
    """Alice's browser with a token of the account's owner, because the issuer signs in only the test personas."""
    browser, sessions = hub.signed_in(ALICE), hub.services.sessions
    cookie = browser.client.get_cookie(hub.services.cookie_name)
    assert cookie is not None
    session = sessions.read(cookie.value)
    assert session is not None
    assert session.user is not None
    person = replace(session.user, access_token=world.harness.issuer.token(world.owner_person))
    sessions.save(session.with_(user=person, account=world.account))
    return browser


def code_of(answer: TestResponse) -> str | None:
    """The problem code of an API response or a page, or None."""
    found = re.search(r'"quiet small">([a-z_]+) ·|"code":"([a-z_]+)"', answer.text)
    return found and (found[1] or found[2])


def is_out_of_step(world: World, answer: TestResponse) -> bool:
    """Whether the response names the account's revision and the required one."""
    if world.revision == HEAD or answer.status_code != 503:
        return False
    problem = answer.get_json()
    return problem["code"] == "schema_mismatch" and world.revision in problem["detail"] and HEAD in problem["detail"]


def test_every_operation_has_a_request_in_the_walk(harness: AppHarness) -> None:
    assert set(operations(harness)) == set(REQUESTS)


def test_every_page_has_a_request_in_the_walk(hub: Hub) -> None:
    rules = {
        (next(iter(rule.methods - {"HEAD", "OPTIONS"})), rule.rule)
        for rule in hub.pages.url_map.iter_rules()
        if rule.methods is not None and access_of(hub.pages.view_functions[rule.endpoint]) is not None
    }
    assert rules == set(PAGES)


def test_overview_is_shown_at_every_supported_revision(world: World, hub: Hub) -> None:
    page = owner_of(world, hub).get("/")
    assert page.status_code == 200
    assert ("Requests are counted from then on." in page.text) == (world.revision < "account_0006")


def test_every_operation_works_or_returns_503_at_every_supported_revision(world: World, hub: Hub) -> None:
    found = [fault for operation in operations(world.harness).values() for fault in faults_of(world, hub, operation)]
    assert not found, "\n".join(found)


def test_keys_are_listed_created_and_revoked_at_every_supported_revision(world: World) -> None:
    assert world.owner.get("/v1/api-keys").status_code == 200
    created = world.owner.post("/v1/api-keys", {"name": "CI", "expiry": "30d"})
    assert created.status_code == 201, created.text
    caller = world.harness.bearer(created.get_json()["key"])
    assert caller.get("/v1/me").status_code == 200
    revoked = world.owner.patch(f"/v1/api-keys/{created.get_json()['id']}", {"disabled": True})
    assert revoked.status_code == 200
    assert caller.get("/v1/me").get_json()["code"] == "revoked_credential"


def test_every_page_works_or_returns_503_at_every_supported_revision(world: World, hub: Hub) -> None:
    owner, olivia = owner_of(world, hub), hub.signed_in(OLIVIA)
    hub.services.sessions.start_cooldown("measure", 30)
    found = []
    for (method, path), form_of in PAGES.items():
        form, browser = form_of(world), olivia if path.startswith("/console") else owner
        answer = browser.get(form.path) if method == "GET" else browser.post(form.path, form.fields)
        out_of_step = world.revision != HEAD and answer.status_code == 503 and "schema_mismatch" in answer.text
        if answer.status_code not in form.statuses and not out_of_step:
            found.append(f"{method} {form.path}: {answer.status_code} {code_of(answer)}")
    assert not found, "\n".join(found)


def test_pages_work_without_tables_for_usage(world: World, hub: Hub) -> None:
    """Keys can be listed, checked and revoked, and receipts read, before usage is recorded."""
    owner, key = owner_of(world, hub), f"/settings/api-keys/{world.api_key()[0]}"
    receipt = world.receipt()
    has_usage = world.revision >= "account_0006"
    for path, missing in (
        ("/settings/api-keys", None),
        (key, "Calls are not recorded yet"),
        (f"{key}/revoke", None),
        (f"/settings/api-keys/bulk?action=revoke&ids={world.api_key()[0]}", None),
        (f"/receipts/{receipt}", "Refused calls are not counted"),
        ("/requests", "Requests are not recorded yet"),
        ("/requests/unknown", "Requests are not recorded yet"),
    ):
        page = owner.get(path)
        assert page.status_code == (404 if path == "/requests/unknown" and has_usage else 200), path
        assert missing is None or (missing in page.text) is not has_usage, path


def test_every_account_command_works_or_prints_one_line_at_every_supported_revision(world: World) -> None:
    run, account = world.harness.app.test_cli_runner().invoke, world.account
    dump = ""
    for words in (
        ["accounts", "show", account],
        ["accounts", "limits", account, "--per-minute", "999999"],
        ["accounts", "policy", account, "--max-key-expiry-days", "3650", "--existing"],
        ["keys", "create", "--account", account, "--name", "CI"],
        ["keys", "list", "--account", account],
        ["keys", "show", world.api_key()[0], "--account", account],
        ["keys", "rotate", world.api_key()[0], "--account", account],
        ["keys", "end-former-secret", world.api_key()[0], "--account", account],
        ["keys", "revoke", world.api_key()[0], "--account", account],
        ["peppers", "status", "--by-account"],
        ["migrations", "status", "--account", account],
        ["migrations", "upgrade", "--account", account, "--dry-run"],
        ["accounts", "suspend", account],
        ["accounts", "dump", account, "--json"],
        ["accounts", "load", account, "--yes-replace", account, "--from"],
        ["accounts", "resume", account],
    ):
        result = run(args=[*words, dump] if words[-1] == "--from" else words)
        assert result.exception is None or isinstance(result.exception, SystemExit), (words, result.exc_info)
        behind = world.revision != HEAD and world.revision in result.output and "needs" in result.output
        others_count = words[0] == "peppers"  # other tests may have dropped their databases
        assert result.exit_code == 0 or behind or others_count, (words, result.output)
        dump = json.loads(result.stdout)["dump"] if words[1] == "dump" else dump


def test_no_request_fails_while_its_account_is_migrated(
    harness: AppHarness, hub: Hub, postgres: EmbeddedPostgres
) -> None:
    world = World(harness, postgres, "walked-meanwhile", OLDEST)
    known = list(operations(harness).values())
    waits, migrated = threading.Barrier(THREADS + 1), threading.Event()

    def ask_for_everything(thread: int) -> list[str]:
        """At least two requests: during the migration and after it."""
        found, rounds_after = [], 0
        waits.wait()
        while rounds_after == 0:
            rounds_after += migrated.is_set()
            for operation in known[thread::THREADS]:
                _, answer = send(world, hub, operation)
                may_wait = not rounds_after and answer.status_code in waiting_statuses(operation)
                if answer.status_code not in right_statuses(operation) and not may_wait:
                    found.append(f"{operation.method} {operation.path}: {answer.status_code} {code_of(answer)}")
        return found

    with ThreadPoolExecutor(THREADS) as pool:
        asking = [pool.submit(ask_for_everything, thread) for thread in range(THREADS)]
        waits.wait()
        try:
            done = harness.app.test_cli_runner().invoke(args=["migrations", "upgrade", "--account", world.account])
        finally:
            migrated.set()
        found = [fault for future in asking for fault in future.result()]
    assert done.exit_code == 0, done.output
    assert not found, "\n".join(found)
