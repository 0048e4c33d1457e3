"""Requests, receipts and the calls of keys in Chrome, in the large account: presses, keyboard, scripts, widths."""

from __future__ import annotations

import re
from collections.abc import Iterator
from uuid import uuid4

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool

import app as factory
from kataven import settings
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.personas import ALICE, org_id
from kataven.operations import account_creation
from kataven.web.services import EXTENSION
from tests.hub import large
from tests.hub.chrome_user import DESKTOP, PHONE, ChromeUser, RunningHub, Sessions, running_hub
from tests.hub.test_key_pages_browser import TRANSFERRED
from tests.support.app_harness import AppHarness
from tests.support.browser import as_new
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser

ACCOUNT = "large-calls"
KEYS = "/settings/api-keys"
MAX_REQUESTS, MAX_PAGE_BYTES = 5, 30_000
NEW_REQUEST = """
INSERT INTO request_log (id, created_at, request_id, caller, kind, name, route, status, outcome, code, step,
                         milliseconds, address, agent)
SELECT gen_random_uuid(), now(), :request_id, id, 'api_key', name, 'GET /v1/new', 200, 'ok', '', 8, 1, '192.0.2.1',
       'curl'
FROM api_keys WHERE name = 'Server 10'
"""


@pytest.fixture(scope="module")
def database(harness: AppHarness, postgres: EmbeddedPostgres) -> Iterator[Engine]:
    """The database of a large account, in a separate installation."""
    environ = {**harness.environ, "KATAVEN_DATABASE_URL": postgres.url("kataven_large_calls")}
    configured = settings.load(environ)
    account_creation.prepare_system(configured.database_url.get_secret_value())
    system = factory.create_api(configured).extensions[EXTENSION].directory.database
    account_creation.create(system, account_creation.NewAccount(ACCOUNT, "Large", org_id(ALICE.account)), actor="test")
    engine = create_engine(postgres.url(ACCOUNT), poolclass=NullPool)
    large.fill_account(engine)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def servers(
    harness: AppHarness, postgres: EmbeddedPostgres, database: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningHub]:
    environ = {**harness.environ, "KATAVEN_DATABASE_URL": postgres.url("kataven_large_calls")}
    with running_hub(environ, tmp_path_factory.mktemp("place")) as servers:
        yield servers


@pytest.fixture
def user(chrome: Chrome, servers: RunningHub, sessions: Sessions) -> ChromeUser:
    as_new(chrome)
    user = ChromeUser(chrome, servers, sessions)
    user.size(*DESKTOP)
    if ALICE not in sessions:
        user.sign_in(ALICE, ACCOUNT)
    user.sign_in_once(ALICE)
    return user


def value(database: Engine, query: str, **values: str) -> str:
    with database.connect() as connection:
        return str(connection.execute(text(query), values).scalar_one())


def key_path(database: Engine, name: str) -> str:
    key_id = value(database, "SELECT id FROM api_keys WHERE name = :name", name=name)
    return f"{KEYS}/{key_id}"


def receipt_path(database: Engine, name: str) -> str:
    """The receipt of the revocation of a key."""
    of_name = "SELECT id FROM audit_events WHERE action = 'api_key.revoked' AND detail ->> 'name' = :name"
    return f"/receipts/{value(database, of_name, name=name)}"


def rows(user: ChromeUser) -> list[str]:
    return [row.text for row in user.chrome.find_elements(By.CSS_SELECTOR, "#rows tbody tr")]


def is_in_view(user: ChromeUser, selector: str) -> bool:
    script = "const box = arguments[0].getBoundingClientRect(); return box.top >= 0 && box.bottom <= innerHeight"
    return bool(user.chrome.execute_script(script, user.find(selector)))


def test_who_used_a_key_at_an_hour_and_from_where_is_found_with_two_presses(user: ChromeUser) -> None:
    user.go(f"{KEYS}?q=server+10&sort=name")
    user.press("Server 10")  # 1
    hour = user.chrome.find_elements(By.CSS_SELECTOR, ".over a")[-3]
    assert is_in_view(user, ".drawing")
    title = hour.get_attribute("title") or ""
    before = user.find("html")
    hour.click()  # 2
    wait_until(lambda: user.chrome.current_url.find("/requests?") > 0 and user.find("html") != before, 20)
    found = rows(user)
    assert found
    at = re.search(r"(\d\d):00 UTC", title)
    assert at
    for row in found:
        assert f" {at[1]}:" in row
        assert "Server 10" in row
        assert re.search(r"(203\.0\.113|198\.51\.100)\.10\b", row)
    assert user.console_errors() == []


@pytest.mark.parametrize("script", [True, False])
def test_reason_of_a_429_is_found_from_its_request_id_with_two_presses(
    user: ChromeUser, database: Engine, script: bool
) -> None:
    request_id = value(database, "SELECT request_id FROM request_log WHERE outcome = 'limited' LIMIT 1")
    user.go("/")
    user.allow_scripts(script)
    user.find(".side a[href='/requests']").click()  # 1
    user.enter("#find", request_id)  # 2
    assert user.find("h2").text == "The limit of the account was reached"
    assert "300 requests per minute" in user.find(".verdict").text
    assert is_in_view(user, ".verdict")
    assert request_id in user.text


def test_back_returns_to_the_same_row(user: ChromeUser, database: Engine) -> None:
    user.go("/requests?outcome=refused")
    user.press("Older requests")
    row = user.chrome.find_elements(By.CSS_SELECTOR, "#rows th a")[-1]
    place, url = row.get_attribute("id") or "", user.chrome.current_url
    before = user.find("html")
    row.click()
    wait_until(lambda: user.find("html") != before, 20)
    with database.begin() as connection:
        connection.execute(text(NEW_REQUEST), {"request_id": uuid4().hex})
    before = user.find("html")
    user.find(".crumbs a").click()
    wait_until(lambda: user.find("html") != before, 20)
    assert user.chrome.current_url == f"{url}#{place}"
    assert is_in_view(user, f"#{place}")


def test_newest_page_updates_without_moving_the_focus_and_can_be_paused(user: ChromeUser, database: Engine) -> None:
    user.go("/requests")
    first = user.find("#rows th a")
    place = first.get_attribute("id")
    user.chrome.execute_script("arguments[0].focus()", first)
    with database.begin() as connection:
        connection.execute(text(NEW_REQUEST), {"request_id": uuid4().hex})
    wait_until(lambda: "GET /v1/new" in rows(user)[0], 60)
    assert user.chrome.switch_to.active_element.get_attribute("id") == place
    assert user.console_errors() == []
    user.press("Pause")
    assert "Not updating" in user.text
    assert user.is_absent("[hx-get]")
    user.press("Newest requests")
    assert "Updates every 5 seconds" in user.text


def test_log_is_filtered_and_paged_without_a_script(user: ChromeUser) -> None:
    user.allow_scripts(False)
    user.go("/requests")
    assert "Updates every 5 seconds" not in user.text
    user.press("Rate limited")
    user.find(".filters summary").click()
    user.enter("#caller", "server 1")
    assert rows(user)
    assert all("Server 1 " in row and "429" in row for row in rows(user))
    user.press("Clear")
    first = rows(user)
    user.press("Older requests")
    assert rows(user) != first
    user.press("Newer requests")
    assert len(rows(user)) == len(first)


def test_hour_of_a_key_is_chosen_with_the_keyboard(user: ChromeUser, database: Engine) -> None:
    user.go(key_path(database, "Server 10"))
    assert user.chrome.execute_script("return document.querySelectorAll('.over a:not([tabindex=\"-1\"])').length") == 0
    user.find("#calls .figures summary").send_keys(Keys.ENTER)
    user.enter("#calls .figures tbody a")
    assert rows(user)
    user.enter("#rows th a")
    assert user.find(".pipeline .decided").text
    user.enter(".crumbs a")
    assert rows(user)


@pytest.mark.parametrize("script", [True, False])
def test_key_in_use_is_revoked_with_its_name_and_the_receipt_lists_each_worker(
    user: ChromeUser, database: Engine, script: bool
) -> None:
    name = "Server 5" if script else "Server 10"
    user.allow_scripts(script)
    user.go(f"{key_path(database, name)}/revoke")
    assert user.find(".warning").text.startswith("In use: ")
    assert is_in_view(user, "main button.danger")
    user.enter("main form button.danger")
    assert user.find(".summary").text.startswith("There is a problem")
    user.enter("#confirm", name)
    user.press("View receipt")
    assert user.find(".verdict h2").text == "No worker accepts it any more"
    bars = user.chrome.find_elements(By.CSS_SELECTOR, ".workers tbody tr")
    confirmed = re.search(r"(\d+) of (\d+)", user.find(".verdict").text)
    assert confirmed
    assert confirmed[1] == confirmed[2] == str(len(bars))
    user.press(name)
    assert "Revoked by Alice" in user.find(".timeline").text


def test_unused_key_is_revoked_with_one_press(user: ChromeUser, database: Engine) -> None:
    user.go(f"{key_path(database, 'Server 40')}/revoke")
    assert "Not in use" in user.text
    user.press("Revoke key")
    assert user.find("[role=status]").text.startswith("Revoked “Server 40”")


PAGES = {
    "requests": "/requests",
    "wrong filter": "/requests?address=x&caller=server+1",
    "request": "/requests/{request}",
    "unknown request": "/requests/unknown",
    "receipt": "{receipt}",
    "key": "{key}",
    "keys": KEYS,
    "revoke": "{key}/revoke",
    "bulk": f"{KEYS}/bulk?action=revoke&ids={{id}}",
}
WIDTHS = (390, 640, 768, 980, 1100, 1440)
LOOKS = (
    (PHONE, {"name": "prefers-color-scheme", "value": "light"}),
    ((1440, 900), {"name": "prefers-color-scheme", "value": "dark"}),
    ((640, 450), {"name": "forced-colors", "value": "active"}),  # a window of 1,280 pixels at a zoom of 200 %
)


@pytest.mark.parametrize("name", PAGES)
def test_page_is_accessible_and_small(user: ChromeUser, database: Engine, name: str) -> None:
    key = key_path(database, "Server 2")
    path = PAGES[name].format(
        key=key,
        id=key.rpartition("/")[2],
        request=value(database, "SELECT id FROM request_log WHERE outcome = 'limited' LIMIT 1"),
        receipt=receipt_path(database, "Server 21"),
    )
    user.go(path)
    requests, transferred = user.chrome.execute_script(TRANSFERRED)
    assert requests <= MAX_REQUESTS
    assert transferred <= MAX_PAGE_BYTES
    user.chrome.execute_script("document.querySelectorAll('main details').forEach(one => one.open = true)")
    for size, feature in LOOKS:
        user.size(*size)
        user.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        assert user.all_violations() == [], (size, feature)
    for width in WIDTHS:
        user.size(width, 900)
        assert user.overflow() == 0, width
    assert user.console_errors() == []
