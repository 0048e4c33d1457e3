"""The Hub in a real browser: each flow as a person goes through it, by mouse, by keyboard and without JavaScript."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import redis
from selenium.webdriver import Chrome
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from kataven.dev.personas import ALICE, BOB, CHARLIE, OLIVIA
from kataven.operations import migration_runs
from kataven.system.models import RunState
from kataven.tenancy.migrations.report import AccountResult, MigrationOutcome
from tests.hub.place import DESKTOP, PHONE, Guest, Place, Sessions, opened_place
from tests.support.app_harness import AppHarness
from tests.support.browser import as_new, browser
from tests.support.waiting import wait_until

KEY = re.compile(r"sk_live_acme_[0-9A-Za-z]{49}")
KEYS = "/settings/api-keys"
WIDGET_KEYS = "/settings/widget-keys"


@pytest.fixture(scope="module")
def place(harness: AppHarness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with opened_place(harness.environ, tmp_path_factory.mktemp("place")) as place:
        yield place


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with browser(tmp_path_factory.mktemp("chrome"), {}) as chrome:
        yield chrome


@pytest.fixture(scope="module")
def sessions() -> Sessions:
    return {}


@pytest.fixture
def guest(chrome: Chrome, place: Place, sessions: Sessions) -> Guest:
    as_new(chrome)
    guest = Guest(chrome, place, sessions)
    guest.size(*DESKTOP)
    return guest


def status(place: Place, key: str) -> int:
    """What the API answers this key with."""
    headers = {"Authorization": f"Bearer {key}"}
    return httpx2.get(f"{place.api.url}/v1/me", headers=headers, trust_env=False).status_code


def test_alice_makes_a_key_sees_it_once_and_revokes_it(guest: Guest, place: Place) -> None:
    guest.sign_in(ALICE)
    guest.go(KEYS)
    guest.type("name", "Till in Berlin")
    guest.press("Make the key")
    found = KEY.search(guest.find("#key").text)
    assert found
    key = found[0]
    assert status(place, key) == 200

    guest.chrome.refresh()  # sends the form again, as a browser does
    assert not KEY.search(guest.text)
    guest.go(KEYS)
    assert guest.text.count("Till in Berlin") == 1
    guest.chrome.back()
    assert not KEY.search(guest.text)
    guest.chrome.forward()

    guest.go(KEYS)
    guest.find("[aria-label='Revoke Till in Berlin']").click()
    assert re.search(r"refused on (\d) of \1 workers, after \d+ ms", guest.find("[role=status]").text)
    assert status(place, key) == 403
    assert guest.complaints() == []


def test_bob_sees_keys_and_can_not_make_one(guest: Guest) -> None:
    guest.come_as(BOB)
    guest.go(KEYS)
    assert "Owners and admins make and revoke them." in guest.text
    guest.chrome.implicitly_wait(0)
    assert guest.chrome.find_elements(By.CSS_SELECTOR, "main form") == []
    answer = guest.chrome.execute_async_script(
        "const [path, done] = arguments; const csrf = document.querySelector('[name=csrf]').value;"
        "fetch(path, {method: 'POST', body: new URLSearchParams({csrf, name: 'By hand', expiry: '30d'})})"
        ".then(answer => done(answer.status))",
        KEYS,
    )
    assert answer == 403


def test_everything_can_be_done_from_the_keyboard(guest: Guest) -> None:
    guest.go("/sign-in")
    focus = guest.chrome.switch_to.active_element
    assert focus.get_attribute("id") == "account"
    focus.send_keys("acme", Keys.ENTER)
    guest.find("button[value=alice]").send_keys(Keys.ENTER)
    guest.find("nav.side")  # there by now
    keys = ActionChains(guest.chrome)
    keys.send_keys(Keys.TAB).perform()
    assert guest.chrome.switch_to.active_element.text == "Skip to the content"
    guest.chrome.switch_to.active_element.send_keys(Keys.ENTER)
    guest.go(KEYS)
    guest.find("#name").send_keys("By keyboard", Keys.ENTER)
    assert KEY.search(guest.text)
    menu = guest.find("details.menu")
    menu.find_element(By.TAG_NAME, "summary").send_keys(Keys.ENTER)
    assert menu.get_attribute("open") == "true"
    menu.find_element(By.TAG_NAME, "a").send_keys(Keys.ESCAPE)
    assert menu.get_attribute("open") is None
    assert guest.chrome.switch_to.active_element.tag_name == "summary"


def test_pages_of_a_widget_key_are_explained_while_they_are_typed(guest: Guest) -> None:
    guest.come_as(ALICE)
    guest.go(WIDGET_KEYS)
    guest.type("domain_allowlist", "acme.com")
    assert guest.find(".explained .good").text == "acme.com: acme.com over https"
    guest.find("#domain_allowlist").send_keys(Keys.ENTER, "http://acme.com")
    assert guest.find(".explained .bad").text.startswith("http://acme.com:")
    guest.type("name", "From a browser")
    guest.find("#domain_allowlist").clear()
    guest.find("#domain_allowlist").send_keys("*.acme.com")
    guest.press("Make the key")
    assert "data-client-key" in guest.find("#snippet").text
    guest.press("I have copied it")
    assert "every subdomain of acme.com" in guest.text
    assert guest.violations() == []
    assert guest.complaints() == []


EXPLANATIONS = "return performance.getEntriesByType('resource').filter(one => one.name.includes('/explain')).length"


def test_pages_are_explained_once_for_all_keys_that_were_pressed_in_a_row(guest: Guest) -> None:
    """There was a request for each key, and the budget of the whole address was gone within a minute."""
    guest.come_as(ALICE)
    guest.go(WIDGET_KEYS)
    guest.chrome.execute_script(
        "const area = document.getElementById('domain_allowlist');"
        "for (const letter of 'pages-of.acme.com') { area.value += letter; area.dispatchEvent(new Event('input')); }"
    )
    assert guest.find(".explained .good").text == "pages-of.acme.com: pages-of.acme.com over https"
    assert guest.chrome.execute_script(EXPLANATIONS) == 1


def test_an_explanation_that_is_overtaken_is_given_up(guest: Guest) -> None:
    guest.come_as(ALICE)
    guest.go(WIDGET_KEYS)
    guest.chrome.execute_script(
        "window.asked = []; window.fetch = (_, options) => new Promise(() => window.asked.push(options.signal));"
    )
    for count in (1, 2):
        guest.find("#domain_allowlist").send_keys("a")
        wait_until(lambda count=count: guest.chrome.execute_script("return asked.length") == count, 20)
    assert guest.chrome.execute_script("return asked.map(signal => signal.aborted)") == [True, False]
    assert guest.complaints() == []


def test_the_preview_follows_what_is_typed(guest: Guest) -> None:
    guest.come_as(CHARLIE)  # acme's widget is looked at elsewhere
    guest.go("/widget")
    guest.type("title", "Ask Globex")
    guest.type("accent_color", "#a81c25")
    assert guest.find("[data-title]").text == "Ask Globex"
    assert guest.find("[data-color]").get_attribute("fill") == "#a81c25"
    guest.press("Save")
    assert "Saved." in guest.find("[role=status]").text
    assert guest.find("#title").get_attribute("value") == "Ask Globex"
    assert guest.complaints() == []


def test_an_agent_is_made_and_changed(guest: Guest) -> None:
    guest.come_as(ALICE)
    guest.go("/agents")
    guest.press("New agent")
    guest.type("name", "Made by hand")
    guest.type("greeting_message", "Good day.")
    guest.press("Make the agent")
    assert "“Made by hand” is made." in guest.text
    guest.find("input[name=ringing_enabled]").click()
    guest.press("Save")
    assert guest.find("input[name=ringing_enabled]").is_selected()
    assert guest.violations() == []


def test_the_copy_button_copies(guest: Guest) -> None:
    guest.come_as(ALICE)
    guest.chrome.execute_cdp_cmd(
        "Browser.grantPermissions",
        {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"], "origin": guest.place.url},
    )
    guest.go("/")
    guest.find("[data-copy=api-url]").click()
    copied = guest.chrome.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert copied == guest.find("#api-url").text
    assert guest.find("[data-copy=api-url] + [role=status]").get_attribute("textContent") == "Copied"
    # It can be copied again, and says so then.
    wait_until(lambda: guest.find("[data-copy=api-url]").text == "Copy", 20)
    assert guest.find("[data-copy=api-url] + [role=status]").get_attribute("textContent") == ""


@pytest.mark.parametrize(("platform", "words"), [("MacIntel", "Press ⌘C"), ("Linux x86_64", "Press Ctrl+C")])
def test_without_a_permission_the_copy_button_names_the_keys(guest: Guest, platform: str, words: str) -> None:
    guest.come_as(ALICE)
    script = (
        f"Object.defineProperty(Navigator.prototype, 'platform', {{ get: () => {platform!r} }});"
        "Object.defineProperty(Navigator.prototype, 'clipboard', { get: () => undefined });"
    )
    added = guest.chrome.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    try:
        guest.go("/")
        guest.find("[data-copy=api-url]").click()
        assert guest.find("[data-copy=api-url]").text == words
        assert guest.chrome.execute_script("return getSelection().toString()") == guest.find("#api-url").text
    finally:
        guest.chrome.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


def focus(guest: Guest) -> str:
    """What a screen reader reads out, and keys go to."""
    return guest.chrome.switch_to.active_element.text


@pytest.mark.parametrize("script", [True, False], ids=["with a script", "without"])
def test_what_is_wrong_has_the_focus_and_leads_to_the_field(guest: Guest, script: bool) -> None:
    guest.come_as(OLIVIA)
    guest.chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not script})
    guest.go("/console/accounts/globex")
    guest.type("confirm-suspend", "another name")
    guest.press("Suspend")
    assert guest.chrome.title.startswith("Error: ")
    assert focus(guest).startswith("There is a problem")
    guest.chrome.switch_to.active_element.find_element(By.TAG_NAME, "a").send_keys(Keys.ENTER)
    assert guest.chrome.switch_to.active_element.get_attribute("id") == "confirm-suspend"
    guest.chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert guest.violations() == []


@pytest.mark.parametrize("script", [True, False], ids=["with a script", "without"])
def test_after_a_form_what_came_of_it_has_the_focus(guest: Guest, script: bool) -> None:
    guest.come_as(ALICE)
    guest.chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not script})
    guest.go("/agents/new")
    guest.type("name", "With focus")
    guest.press("Make the agent")
    assert focus(guest) == "“With focus” is made."
    guest.go(KEYS)
    guest.type("name", "Key with focus")
    guest.press("Make the key")
    assert focus(guest) == "“Key with focus” is made"


def test_an_agent_in_two_tabs_is_chosen_field_by_field(guest: Guest) -> None:
    guest.come_as(ALICE)
    guest.go("/agents/new")
    guest.type("name", "In two tabs")
    guest.press("Make the agent")
    first = guest.chrome.current_window_handle
    path = guest.chrome.current_url.removeprefix(guest.place.url)
    guest.chrome.switch_to.new_window("tab")
    try:
        guest.go(path)
        guest.type("description", "From the second tab")
        guest.press("Save")
    finally:
        guest.chrome.close()
        guest.chrome.switch_to.window(first)
    guest.type("description", "From the first tab")
    guest.type("greeting_message", "Hello from the first tab")
    guest.press("Save")
    assert focus(guest) == "This was changed while you had it open"
    for size in (PHONE, DESKTOP):
        guest.size(*size)
        assert guest.violations() == []
        assert guest.overflow() == 0
    assert guest.chrome.execute_script("return document.querySelector('[type=radio]:checked')") is None
    guest.find("input[value='From the second tab']").click()
    guest.press("Save")
    assert focus(guest) == "“In two tabs” is saved."
    assert guest.find("#description").get_attribute("value") == "From the second tab"
    assert guest.find("#greeting_message").get_attribute("value") == "Hello from the first tab"
    assert guest.complaints() == []


def test_what_was_typed_comes_back_after_signing_in(guest: Guest, harness: AppHarness) -> None:
    guest.sign_in(ALICE)
    guest.go("/agents/new")
    guest.type("name", "Typed too late")
    guest.type("system_prompt", "At length.\nWith care.")
    secret = next(one["value"] for one in guest.sessions[ALICE] if one["name"] == "kataven-hub")
    with redis.Redis.from_url(harness.environ["KATAVEN_REDIS_URL"]) as client:
        assert client.delete(f"hub:session:{hashlib.sha256(secret.encode()).hexdigest()}") == 1
    del guest.sessions[ALICE]  # it is over
    guest.press("Make the agent")
    assert "Your session ended." in guest.text
    assert guest.violations() == []
    assert guest.find("#account").get_attribute("value") == "acme"
    guest.press("Continue")
    guest.find("button[value=alice]").click()
    guest.find("details.menu")
    assert "Check what you typed, and send it again." in focus(guest)
    assert guest.find("#system_prompt").get_attribute("value") == "At length.\nWith care."
    assert guest.violations() == []
    guest.press("Make the agent")
    assert "“Typed too late” is made." in guest.text
    assert guest.complaints() == []


def test_without_javascript_nothing_is_missing_but_the_copy_button(guest: Guest) -> None:
    guest.chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    guest.sign_in(ALICE)
    guest.go(KEYS)
    guest.type("name", "Without a script")
    guest.press("Make the key")
    assert KEY.search(guest.find("#key").text)
    assert not guest.find("[data-copy=key]").is_displayed()


@pytest.mark.parametrize(
    "path",
    [
        "/console",
        "/console/accounts/acme",
        "/console/migrations",
        "/console/migrations?check=1",
        "/console/health",
        "/console/trail",
    ],
)
def test_the_console_is_accessible_and_fits_a_phone(guest: Guest, path: str) -> None:
    guest.come_as(OLIVIA)
    for size in (PHONE, DESKTOP):
        guest.size(*size)
        guest.go(path)
        assert guest.violations() == []
        assert guest.overflow() == 0


def test_a_run_over_the_accounts_is_seen_while_it_goes_on(guest: Guest, harness: AppHarness) -> None:
    database = harness.services.directory.database
    guest.come_as(OLIVIA)
    with migration_runs.executing(
        database, migration_runs.request(database, "test", migration_runs.RunRequest(("acme",)))
    ) as ledger:
        ledger.set_total(2)
        guest.go("/console/migrations")
        assert "Upgrade" not in guest.text
        for size in (PHONE, DESKTOP):
            guest.size(*size)
            assert guest.violations() == []
            assert guest.overflow() == 0
        ledger.add(AccountResult("acme", MigrationOutcome.FAILED, "account_0001", error="lock timeout " * 20))
        guest.find("#run tbody a[href='/console/accounts/acme']")  # arrives by itself
        assert guest.violations() == []
        ledger.add(AccountResult("globex", MigrationOutcome.MIGRATED, "account_0001", "account_0002"))
    guest.find("#confirm")  # so does the end
    assert "ended with failures" in guest.text
    for size in (PHONE, DESKTOP):
        guest.size(*size)
        assert guest.violations() == []
        assert guest.overflow() == 0
    assert guest.complaints() == []


def test_without_javascript_the_page_of_a_run_reloads_itself(guest: Guest, harness: AppHarness) -> None:
    database = harness.services.directory.database
    guest.chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    guest.come_as(OLIVIA)
    with migration_runs.executing(
        database, migration_runs.request(database, "test", migration_runs.RunRequest(("acme",)))
    ) as ledger:
        ledger.set_total(1)
        guest.go("/console/migrations")
        ledger.add(AccountResult("acme", MigrationOutcome.MIGRATED, "account_0001", "account_0002"))
    guest.find("#confirm")
    assert "done" in guest.find("#run").text


def test_a_run_goes_on_when_the_hub_is_killed(harness: AppHarness, chrome: Chrome, tmp_path: Path) -> None:
    database = harness.services.directory.database

    def state() -> RunState | None:
        with database.reading() as session:
            found = migration_runs.latest(session)
        return found and found.state

    as_new(chrome)
    with opened_place(harness.environ, tmp_path) as place:
        guest = Guest(chrome, place)
        guest.sign_in(OLIVIA)
        guest.go("/console/migrations")
        guest.type("account", "globex")
        guest.type("confirm", "account_0002")
        guest.press("Upgrade")
        assert "The run is asked for." in guest.text
        place.hub.kill()
        wait_until(lambda: state() is RunState.DONE, 60, state)


def test_a_dependency_with_much_to_say_fits_a_phone(guest: Guest) -> None:
    guest.come_as(OLIVIA)
    guest.size(*PHONE)
    guest.go("/console/health")
    said = "failing: schema is at system_0001, this release serves system_0005; run `flask migrations upgrade --system`"
    guest.chrome.execute_script("document.querySelector('.tag').textContent = arguments[0]", said)
    assert guest.overflow() == 0


PAGES = [
    "/",
    KEYS,
    "/agents",
    "/agents/new",
    WIDGET_KEYS,
    "/widget",
    "/audit-log",
    "/accounts",
    "/nowhere",
    "/signed-out",
    "/help/sign-in",
]


@pytest.mark.parametrize("path", PAGES)
def test_pages_are_accessible_and_fit_a_phone(guest: Guest, path: str) -> None:
    guest.come_as(ALICE)
    for size in (PHONE, DESKTOP):
        guest.size(*size)
        guest.go(path)
        assert guest.violations() == []
        assert guest.overflow() == 0


def test_the_sign_in_page_is_accessible_in_the_dark_too(guest: Guest) -> None:
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    guest.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    guest.go("/sign-in")
    assert guest.violations() == []
    guest.press("Continue")
    assert "Type the name of your account." in guest.text
    assert guest.violations() == []
    guest.sign_in(ALICE)
    guest.go(KEYS)
    assert guest.violations() == []


def test_signing_out_leads_over_the_issuer_to_the_end(guest: Guest) -> None:
    guest.sign_in(ALICE)
    guest.find("details.menu summary").click()
    guest.chrome.find_element(By.XPATH, "//button[normalize-space()='Sign out']").click()
    wait_until(lambda: guest.chrome.current_url == f"{guest.place.url}/signed-out", 20)
    guest.chrome.back()
    guest.go("/")
    assert "Sign in" in guest.find("h1").text
