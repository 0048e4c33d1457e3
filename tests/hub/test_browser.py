"""The Hub in Chrome: each user flow, with the mouse, with the keyboard and without JavaScript."""

from __future__ import annotations

import hashlib
import itertools
import os
from pathlib import Path

import pytest
import redis
from selenium.webdriver import Chrome
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from kataven.dev.personas import ALICE, BOB, CHARLIE, OLIVIA, Persona
from kataven.operations import migration_runs
from kataven.people.access import Cause
from kataven.system.models import RunState
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.tenancy.migrations.report import AccountResult, MigrationOutcome
from tests.hub.chrome_user import DESKTOP, PATIENCE_SECONDS, PHONE, ChromeUser, running_hub
from tests.hub.test_browser_flow import KEY, KEYS, NEW_KEY
from tests.support.app_harness import AppHarness
from tests.support.browser import as_new
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser

WIDGET_KEYS = "/settings/widget-keys"


def test_member_sees_keys_but_cannot_create_one(user: ChromeUser) -> None:
    user.sign_in_once(BOB)
    user.go(KEYS)
    assert "Only owners and admins can create and revoke API keys." in user.text
    assert user.is_absent("main form[method=post]")
    response = user.chrome.execute_async_script(
        "const [path, done] = arguments; const csrf = document.querySelector('[name=csrf]').value;"
        "fetch(path, {method: 'POST', body: new URLSearchParams({csrf, name: 'By hand', expiry: '30d'})})"
        ".then(answer => done(answer.status))",
        NEW_KEY,
    )
    assert response == 403


def test_all_actions_work_with_the_keyboard(user: ChromeUser) -> None:
    user.go("/sign-in")
    focus = user.chrome.switch_to.active_element
    assert focus.get_attribute("id") == "account"
    focus.send_keys("acme", Keys.ENTER)
    user.find("button[value=alice]").send_keys(Keys.ENTER)
    user.find("nav.side")  # signed in
    keys = ActionChains(user.chrome)
    keys.send_keys(Keys.TAB).perform()
    assert user.chrome.switch_to.active_element.text == "Skip to main content"
    user.chrome.switch_to.active_element.send_keys(Keys.ENTER)
    user.go(NEW_KEY)
    user.enter("#name", "By keyboard")
    assert KEY.search(user.text)
    menu = user.find("details.menu")
    menu.find_element(By.TAG_NAME, "summary").send_keys(Keys.ENTER)
    assert menu.get_attribute("open") == "true"
    menu.find_element(By.TAG_NAME, "a").send_keys(Keys.ESCAPE)
    assert menu.get_attribute("open") is None
    assert user.chrome.switch_to.active_element.tag_name == "summary"


def test_domain_list_is_explained_while_typing(user: ChromeUser) -> None:
    user.sign_in_once(ALICE)
    user.go(WIDGET_KEYS)
    user.type("domain_allowlist", "acme.com")
    assert user.find(".explained .good").text == "acme.com: acme.com over https"
    user.find("#domain_allowlist").send_keys(Keys.ENTER, "http://acme.com")
    assert user.find(".explained .bad").text.startswith("http://acme.com:")
    user.type("name", "From a browser")
    user.find("#domain_allowlist").clear()
    user.find("#domain_allowlist").send_keys("*.acme.com")
    user.press("Create widget key")
    assert "data-client-key" in user.find("#snippet").text
    user.press("Done")
    assert "all subdomains of acme.com" in user.text
    assert user.violations() == []
    assert user.console_errors() == []


EXPLANATIONS = "return performance.getEntriesByType('resource').filter(one => one.name.includes('/explain')).length"


def test_typing_is_debounced_to_one_explain_request(user: ChromeUser) -> None:
    """Each key press sent a request before, which exhausted the budget of the address within a minute."""
    user.sign_in_once(ALICE)
    user.go(WIDGET_KEYS)
    user.chrome.execute_script(
        "const area = document.getElementById('domain_allowlist');"
        "for (const letter of 'pages-of.acme.com') { area.value += letter; area.dispatchEvent(new Event('input')); }"
    )
    assert user.find(".explained .good").text == "pages-of.acme.com: pages-of.acme.com over https"
    assert user.chrome.execute_script(EXPLANATIONS) == 1


def test_superseded_explain_request_is_aborted(user: ChromeUser) -> None:
    user.sign_in_once(ALICE)
    user.go(WIDGET_KEYS)
    user.chrome.execute_script(
        "window.asked = []; window.fetch = (_, options) => new Promise(() => window.asked.push(options.signal));"
    )
    for count in (1, 2):
        user.find("#domain_allowlist").send_keys("a")
        wait_until(lambda count=count: user.chrome.execute_script("return asked.length") == count, 20)
    assert user.chrome.execute_script("return asked.map(signal => signal.aborted)") == [True, False]
    assert user.console_errors() == []


def test_the_real_widget_shows_the_form_while_it_is_edited(user: ChromeUser) -> None:
    user.sign_in_once(ALICE)
    user.go("/widget")
    frame = user.find("iframe")
    wait_until(frame.is_displayed, PATIENCE_SECONDS)
    user.type("title", "Help desk")
    user.type("accent_color", "#ffe08a")
    user.find("#launcher_label").send_keys("Ask us")
    user.find("#position").send_keys("Bottom-left")
    user.find("#theme").send_keys("Dark")
    assert user.find("[data-ratio=shape]").text == "1.29"
    assert user.find("[data-verdict=shape]").text == "fails WCAG AA, 3 : 1"
    assert user.chrome.switch_to.active_element.get_attribute("id") == "theme", "the preview took the focus"
    user.chrome.switch_to.frame(frame)
    drawn = (
        "const host = document.querySelector('kataven-widget'), root = host?.shadowRoot; if (!host) return null;"
        "const [title, button, panel] = ['h2', '.launcher', 'section'].map((one) => root.querySelector(one));"
        "return [host.dataset.position, host.dataset.theme, title.textContent, button.textContent,"
        "getComputedStyle(button).backgroundColor, panel.hidden]"
    )
    expected = ["bottom-left", "dark", "Help desk", "Ask us", "rgb(255, 224, 138)", False]
    wait_until(lambda: user.chrome.execute_script(drawn) == expected, PATIENCE_SECONDS)
    reachable = "try { return document.cookie + parent.document.title } catch { return null }"
    assert user.chrome.execute_script(reachable) is None
    user.chrome.switch_to.default_content()
    assert user.console_errors() == []


def test_widget_page_shows_a_drawing_without_scripts(user: ChromeUser) -> None:
    user.sign_in_once(ALICE)
    user.allow_scripts(False)
    user.go("/widget")
    assert user.find(".preview svg").is_displayed()
    assert not user.find("iframe").is_displayed()
    assert not user.find("[data-color-picker]").is_displayed()


def test_widget_preview_updates_while_typing(user: ChromeUser) -> None:
    user.sign_in_once(CHARLIE)  # other tests check acme's widget
    user.go("/widget")
    user.type("title", "Ask Globex")
    user.type("accent_color", "#a81c25")
    assert user.find("[data-title]").get_attribute("textContent") == "Ask Globex"
    assert user.find("[data-color]").get_attribute("fill") == "#a81c25"
    user.press("Save changes")
    assert "Saved." in user.find("[role=status]").text
    assert user.find("#title").get_attribute("value") == "Ask Globex"
    assert user.console_errors() == []


def test_unsaved_changes_of_an_agent_are_stated_and_not_lost_by_a_click(user: ChromeUser) -> None:
    user.sign_in_once(ALICE)
    user.go("/agents/new")
    user.size(DESKTOP[0], 500)
    name, save = user.find("#name"), user.find(".save-bar button")
    in_view = "const box = arguments[0].getBoundingClientRect(); return box.bottom <= innerHeight && box.top >= 0"
    assert user.chrome.execute_script(in_view, save), "the button is visible without scrolling"
    asks = (
        "const leave = new Event('beforeunload', {cancelable: true}); dispatchEvent(leave);"
        "return leave.defaultPrevented"
    )
    covered = (
        "const [one, bar] = [document.activeElement, document.querySelector('.save-bar')];"
        "const [top, bottom] = [bar.getBoundingClientRect().top, one.getBoundingClientRect().bottom];"
        "return one.tagName !== 'TEXTAREA' && !bar.contains(one) && bottom > top"
    )
    user.size(DESKTOP[0], 780)
    for _ in range(24):
        ActionChains(user.chrome).send_keys(Keys.TAB).perform()
        focused = user.chrome.switch_to.active_element.get_attribute("name")
        assert not user.chrome.execute_script(covered), f"the bar covers {focused}"
    user.chrome.execute_script("scrollTo(0, 0)")
    assert not user.chrome.execute_script(asks)
    name.send_keys("Guarded")
    assert user.find("[data-unsaved]").text == "Unsaved changes"
    assert user.chrome.execute_script(asks)
    name.clear()
    assert user.find("[data-unsaved]").text == ""
    assert not user.chrome.execute_script(asks)
    user.find("#status").send_keys("Paused")
    assert user.chrome.execute_script(asks)
    name.send_keys("Guarded")
    user.press("Create agent")  # saving does not ask
    assert user.find("h1").text == "Guarded"
    assert not user.chrome.execute_script(asks)
    user.press("Duplicate")
    assert user.find("#name").get_attribute("value") == "Copy of Guarded"
    assert user.console_errors() == []


def test_agent_is_created_and_edited(user: ChromeUser) -> None:
    user.sign_in_once(ALICE)
    user.go("/agents")
    user.press("Create agent")
    user.type("name", "Made by hand")
    user.type("greeting_message", "Good day.")
    user.press("Create agent")
    assert "Created “Made by hand”." in user.text
    box = user.find("input[name=ringing_enabled]")
    user.chrome.execute_script("arguments[0].scrollIntoView({block: 'center'})", box)  # not below the bar
    box.click()
    user.press("Save changes")
    assert user.find("input[name=ringing_enabled]").is_selected()
    assert user.violations() == []


def test_copy_button_copies_the_text(user: ChromeUser) -> None:
    user.sign_in_once(ALICE)
    user.chrome.execute_cdp_cmd(
        "Browser.grantPermissions",
        {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"], "origin": user.servers.url},
    )
    user.go("/")
    user.find("[data-copy=api-url]").click()
    copied = user.chrome.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert copied == user.find("#api-url").text
    assert user.find("[data-copy=api-url] + [role=status]").get_attribute("textContent") == "Copied"
    # The button can be used again, and announces it again.
    wait_until(lambda: user.find("[data-copy=api-url]").text == "Copy", 20)
    assert user.find("[data-copy=api-url] + [role=status]").get_attribute("textContent") == ""


@pytest.mark.parametrize(("platform", "words"), [("MacIntel", "Press ⌘C"), ("Linux x86_64", "Press Ctrl+C")])
def test_copy_button_names_the_shortcut_without_clipboard_permission(
    user: ChromeUser, platform: str, words: str
) -> None:
    user.sign_in_once(ALICE)
    script = (
        f"Object.defineProperty(Navigator.prototype, 'platform', {{ get: () => {platform!r} }});"
        "Object.defineProperty(Navigator.prototype, 'clipboard', { get: () => undefined });"
    )
    added = user.chrome.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    try:
        user.go("/")
        user.find("[data-copy=api-url]").click()
        assert user.find("[data-copy=api-url]").text == words
        assert user.chrome.execute_script("return getSelection().toString()") == user.find("#api-url").text
    finally:
        user.chrome.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


def focus(user: ChromeUser) -> str:
    """The text of the focused element."""
    return user.chrome.switch_to.active_element.text


@pytest.mark.parametrize("script", [True, False], ids=["with a script", "without"])
def test_error_summary_has_the_focus_and_links_to_the_field(user: ChromeUser, script: bool) -> None:
    user.sign_in_once(OLIVIA)
    user.allow_scripts(script)
    user.go("/console/accounts/globex")
    user.type("confirm-suspend", "another name")
    user.press("Suspend account")
    assert user.chrome.title.startswith("Error: ")
    assert focus(user).startswith("There is a problem")
    user.chrome.switch_to.active_element.find_element(By.TAG_NAME, "a").send_keys(Keys.ENTER)
    assert user.chrome.switch_to.active_element.get_attribute("id") == "confirm-suspend"
    user.allow_scripts(True)
    assert user.violations() == []


@pytest.mark.parametrize("script", [True, False], ids=["with a script", "without"])
def test_notice_has_the_focus_after_a_form_submission(user: ChromeUser, script: bool) -> None:
    user.sign_in_once(ALICE)
    user.allow_scripts(script)
    user.go("/agents/new")
    user.type("name", "With focus")
    user.press("Create agent")
    assert focus(user) == "Created “With focus”."
    user.go(NEW_KEY)
    user.type("name", "Key with focus")
    user.press("Create API key")
    assert focus(user) == "Created “Key with focus”"


def test_conflicting_agent_edits_are_resolved_field_by_field(user: ChromeUser) -> None:
    user.sign_in_once(ALICE)
    user.go("/agents/new")
    user.type("name", "In two tabs")
    user.press("Create agent")
    first = user.chrome.current_window_handle
    path = user.chrome.current_url.removeprefix(user.servers.url)
    user.chrome.switch_to.new_window("tab")
    try:
        user.go(path)
        user.type("description", "From the second tab")
        user.press("Save changes")
    finally:
        user.chrome.close()
        user.chrome.switch_to.window(first)
    user.type("description", "From the first tab")
    user.type("greeting_message", "Hello from the first tab")
    user.press("Save changes")
    assert focus(user) == "Someone else changed this while you were editing"
    for size in (PHONE, DESKTOP):
        user.size(*size)
        assert user.violations() == []
        assert user.overflow() == 0
    assert user.chrome.execute_script("return document.querySelector('[type=radio]:checked')") is None
    user.find("input[value='From the second tab']").click()
    user.press("Save changes")
    assert focus(user) == "Saved “In two tabs”."
    assert user.find("#description").get_attribute("value") == "From the second tab"
    assert user.find("#greeting_message").get_attribute("value") == "Hello from the first tab"
    assert user.console_errors() == []


def test_form_is_restored_after_signing_in_again(user: ChromeUser, harness: AppHarness) -> None:
    user.sign_in(ALICE)
    user.go("/agents/new")
    user.type("name", "Typed too late")
    user.type("system_prompt", "At length.\nWith care.")
    secret = next(one["value"] for one in user.sessions[ALICE] if one["name"] == "kataven-hub")
    with redis.Redis.from_url(harness.environ["KATAVEN_REDIS_URL"]) as client:
        assert client.delete(f"hub:session:{hashlib.sha256(secret.encode()).hexdigest()}") == 1
    del user.sessions[ALICE]  # the session has ended
    user.press("Create agent")
    assert "Your session ended." in user.text
    assert user.violations() == []
    assert user.find("#account").get_attribute("value") == "acme"
    user.press("Continue")
    user.find("button[value=alice]").click()
    user.find("details.menu")
    assert "Check the form and submit it again." in focus(user)
    assert user.find("#system_prompt").get_attribute("value") == "At length.\nWith care."
    assert user.violations() == []
    user.press("Create agent")
    assert "Created “Typed too late”." in user.text
    assert user.console_errors() == []


def test_pages_work_without_javascript_except_the_copy_button(user: ChromeUser) -> None:
    user.allow_scripts(False)
    user.sign_in(ALICE)
    user.go(NEW_KEY)
    user.type("name", "Without a script")
    user.press("Create API key")
    assert KEY.search(user.find("#key").text)
    assert not user.find("[data-copy=key]").is_displayed()


@pytest.mark.parametrize(
    "path",
    [
        "/console",
        "/console/new-account",
        "/console/accounts/acme",
        "/console/migrations",
        "/console/migrations?check=1",
        "/console/health",
        "/console/wall",
        "/console/trail",
    ],
)
def test_console_is_accessible_and_fits_a_phone(user: ChromeUser, path: str) -> None:
    user.sign_in_once(OLIVIA)
    for size in (PHONE, DESKTOP):
        user.size(*size)
        user.go(path)
        assert user.violations() == []
        assert user.overflow() == 0


def test_migration_progress_updates_during_a_run(user: ChromeUser, harness: AppHarness) -> None:
    database = harness.services.directory.database
    user.sign_in_once(OLIVIA)
    with migration_runs.executing(
        database, migration_runs.request(database, "test", migration_runs.RunRequest(("acme",)))
    ) as recorder:
        recorder.set_total(2)
        user.go("/console/migrations")
        assert "Upgrade" not in user.text
        for size in (PHONE, DESKTOP):
            user.size(*size)
            assert user.violations() == []
            assert user.overflow() == 0
        recorder.add(AccountResult("acme", MigrationOutcome.FAILED, "account_0001", error="lock timeout " * 20))
        user.find("#run tbody a[href='/console/accounts/acme']")  # added by the script
        assert user.violations() == []
        recorder.add(AccountResult("globex", MigrationOutcome.MIGRATED, "account_0001", "account_0002"))
    user.find("#confirm")  # reloaded by the script
    assert "finished with failures" in user.text
    for size in (PHONE, DESKTOP):
        user.size(*size)
        assert user.violations() == []
        assert user.overflow() == 0
    assert user.console_errors() == []


def test_migration_page_refreshes_without_javascript(user: ChromeUser, harness: AppHarness) -> None:
    database = harness.services.directory.database
    user.allow_scripts(False)
    user.sign_in_once(OLIVIA)
    with migration_runs.executing(
        database, migration_runs.request(database, "test", migration_runs.RunRequest(("acme",)))
    ) as recorder:
        recorder.set_total(1)
        user.go("/console/migrations")
        recorder.add(AccountResult("acme", MigrationOutcome.MIGRATED, "account_0001", "account_0002"))
    user.find("#confirm")
    assert "done" in user.find("#run").text


def test_migration_run_continues_when_the_hub_is_killed(harness: AppHarness, chrome: Chrome, tmp_path: Path) -> None:
    database = harness.services.directory.database

    def state() -> RunState | None:
        with database.reading() as session:
            found = migration_runs.latest(session)
        return found and found.state

    as_new(chrome)
    with running_hub(harness.environ, tmp_path) as servers:
        user = ChromeUser(chrome, servers)
        user.sign_in(OLIVIA)
        user.go("/console/migrations")
        user.type("account", "globex")
        user.type("confirm", ACCOUNT_SCHEMA.head)
        user.press("Upgrade")
        assert "Migration run requested." in user.text
        servers.hub.kill()
        wait_until(lambda: state() is RunState.DONE, 60, state)


def test_long_dependency_message_fits_a_phone(user: ChromeUser) -> None:
    user.sign_in_once(OLIVIA)
    user.size(*PHONE)
    user.go("/console/health")
    said = "failing: schema is at system_0001, this release serves system_0005; run `flask migrations upgrade --system`"
    user.chrome.execute_script(
        "document.querySelector('#dependencies ~ .scroll td:last-child').textContent = arguments[0]", said
    )
    assert user.overflow() == 0


PAGES = [
    "/",
    KEYS,
    NEW_KEY,
    "/agents",
    "/agents/new",
    WIDGET_KEYS,
    "/widget",
    "/search",
    "/search?q=a",
    "/audit-log",
    "/people",
    "/sessions",
    "/accounts",
    "/nowhere",
    "/signed-out",
    "/help/sign-in",
]


@pytest.mark.parametrize("path", PAGES)
def test_pages_are_accessible_and_fit_a_phone(user: ChromeUser, path: str) -> None:
    user.sign_in_once(ALICE)
    for size in (PHONE, DESKTOP):
        user.size(*size)
        user.go(path)
        assert user.violations() == []
        assert user.overflow() == 0


WIDTHS = ((390, 844), (768, 1024), (1440, 900))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("persona", "paths"),
    [
        (ALICE, ("/people", "/people?confirm={}", "/sessions")),
        (OLIVIA, ("/console/people", "/console/accounts/acme/people")),
    ],
    ids=["owner", "operator"],
)
def test_pages_that_end_access_are_accessible_in_all_sizes(
    user: ChromeUser, harness: AppHarness, persona: Persona, paths: tuple[str, ...], scheme: str
) -> None:
    for seen in (ALICE, BOB):
        assert harness.user(seen).get("/v1/me").status_code == 200
    harness.services.people_seen.flush()
    people = harness.services.people
    cause = Cause("security event session-revoked", "issuer:security-events")
    people.apply_event(people.person("left"), "session-revoked", cause, signed_out=True, at=0)
    people.block(people.person(BOB.subject), BOB.name, "acme", Cause("left the company", "jwt:alice"))
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    alice, bob = people.person(ALICE.subject).id, people.person(BOB.subject).id
    try:
        user.sign_in_once(persona)
        user.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        for path, size in itertools.product(paths, WIDTHS):
            user.size(*size)
            user.go(path.format(alice))
            assert user.violations() == [], (path, size)
            assert user.overflow() == 0, (path, size)
            if folder := os.environ.get("KATAVEN_TEST_SCREENSHOTS"):
                name = f"{path.split('?')[0].strip('/').replace('/', '-')}{'-confirm' * ('?' in path)}"
                user.chrome.save_screenshot(f"{folder}/{name}-{size[0]}-{scheme}.png")
    finally:
        people.lift(bob, "acme")


def test_sign_in_page_is_accessible_in_dark_mode(user: ChromeUser) -> None:
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    user.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    user.go("/sign-in")
    assert user.violations() == []
    user.press("Continue")
    assert "Enter an account" in user.text
    assert user.violations() == []
    user.sign_in(ALICE)
    user.go(KEYS)
    assert user.violations() == []


def test_sign_out_ends_the_session_at_the_issuer_too(user: ChromeUser) -> None:
    user.sign_in(ALICE)
    user.find("details.menu summary").click()
    user.chrome.find_element(By.XPATH, "//button[normalize-space()='Sign out']").click()
    wait_until(lambda: user.chrome.current_url == f"{user.servers.url}/signed-out", 20)
    user.chrome.back()
    user.go("/")
    assert "Sign in" in user.find("h1").text


# Pages of the console that refresh themselves


def text_of(user: ChromeUser, selector: str) -> str:
    found: str = user.chrome.execute_script("return document.querySelector(arguments[0])?.textContent ?? ''", selector)
    return found


@pytest.mark.parametrize(("path", "part"), [("/console/health", "#live"), ("/console/wall", "#wall")])
def test_page_replaces_its_live_part(user: ChromeUser, path: str, part: str) -> None:
    user.sign_in_once(OLIVIA)
    user.size(*DESKTOP)
    user.go(path)
    user.chrome.execute_script("document.querySelector(arguments[0]).dataset.old = 'yes'", part)
    is_old = "return document.querySelector(arguments[0]).dataset.old === 'yes'"
    wait_until(lambda: user.chrome.execute_script(is_old, part) is False, 20)
    assert user.violations() == []


def test_frozen_wall_is_marked_as_stale_and_recovers(user: ChromeUser) -> None:
    user.sign_in_once(OLIVIA)
    user.size(*DESKTOP)
    user.go("/console/wall")
    wait_until(lambda: text_of(user, "#wall-age").endswith("s ago"), 20)
    user.chrome.execute_script("document.documentElement.dataset.staleAfter = 1")
    user.chrome.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    user.chrome.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    try:
        wait_until(lambda: text_of(user, "#wall-age").startswith("STALE"), 20)
        assert text_of(user, "#wall-stale") == "The wall is not being updated."
        assert user.violations() == []
    finally:
        user.chrome.execute_cdp_cmd("Network.emulateNetworkConditions", {**offline, "offline": False})
    user.chrome.execute_script("document.documentElement.dataset.staleAfter = 15")
    wait_until(lambda: text_of(user, "#wall-age").startswith("Updated"), 20)
    assert text_of(user, "#wall-stale") == ""
