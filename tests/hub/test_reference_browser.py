"""`/docs` of the Hub in Chromium: search, tabs, Try it, without JavaScript, and accessibility."""

from __future__ import annotations

import pytest
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from kataven.dev.personas import ALICE
from tests.hub.chrome_user import AXE, ChromeUser, RunningHub, Sessions
from tests.support.app_harness import AppHarness
from tests.support.browser import as_new
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

SIZES = {"desktop": (1440, 900), "tablet": (768, 1024), "phone": (390, 844), "zoomed to 200 %": (720, 450)}
VISIBLE_CODE = (
    "return [...document.querySelectorAll('#createAgent .tabs pre')].filter(pre => pre.offsetParent)"
    ".map(pre => pre.className)"
)


@pytest.fixture
def user(chrome: Chrome, servers: RunningHub, sessions: Sessions) -> ChromeUser:
    as_new(chrome)
    user = ChromeUser(chrome, servers, sessions)
    user.size(*SIZES["desktop"])
    return user


def open_reference(user: ChromeUser, anchor: str = "") -> None:
    """Open `/docs` as Alice, and wait until the script has filled in her session."""
    user.sign_in_once(ALICE)
    user.go(f"/docs{anchor}")
    user.find(".session")


SECTIONS = (".top", ".side", ".intro", ".group", ".operation[data-try]", ".operation:has(h4[id^=schema])", ".schema")
"""One section of each kind: the template is the same for all, and axe takes minutes for the whole page."""


def findings(user: ChromeUser) -> list[str]:
    """Everything that axe reports, of every impact."""
    user.chrome.set_script_timeout(100)
    user.chrome.execute_script(AXE.read_text("utf-8"))
    found = user.chrome.execute_async_script(
        "const [sections, done] = arguments;"
        "const shown = sections.map(one => document.querySelector(one)).filter(one => one !== null);"
        "axe.run({include: shown.length > 3 ? shown : [document.body]}).then(done)",
        SECTIONS,
    )["violations"]
    return [f"{violation['id']}: {node['html']}" for violation in found for node in violation["nodes"]]


def press(user: ChromeUser, *keys: str) -> None:
    ActionChains(user.chrome).send_keys(*keys).perform()


def focused(user: ChromeUser) -> str:
    return user.chrome.switch_to.active_element.text


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("tablet", "dark"), ("phone", "light")])
def test_reference_is_accessible_and_fits(user: ChromeUser, size: str, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    user.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})
    user.size(*SIZES[size])
    open_reference(user)
    user.chrome.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")
    user.find("#q").send_keys("agent")
    assert findings(user) == []
    assert user.overflow() == 0
    user.go("/docs/errors")
    assert findings(user) == []
    assert user.overflow() == 0
    assert user.console_errors() == []


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("create key", "Create an API key"),
        ("createAgent", "Create an agent"),
        ("/v1/me", "Retrieve the caller"),
        ("rate_limited", "rate_limited"),
        ("expired credential", "expired_credential"),
        ("domain_allowlist", "domain_allowlist"),
        ("AgentInput", "AgentInput"),
        ("revoke", "Revoke, pause or resume several API keys"),
    ],
)
def test_search_finds_operations_fields_schemas_and_codes(user: ChromeUser, query: str, first: str) -> None:
    user.go("/docs")
    user.find("#q").send_keys(query)
    assert user.find(".results a").text.split("\n")[0] == first


def test_search_works_with_the_keyboard(user: ChromeUser) -> None:
    user.go("/docs")
    press(user, "/")
    press(user, "widget key", Keys.ARROW_DOWN)
    assert focused(user).startswith("List widget keys")
    press(user, Keys.ARROW_DOWN, Keys.ARROW_UP, Keys.ESCAPE)
    assert user.chrome.switch_to.active_element.get_attribute("id") == "q"
    assert not user.find(".results").is_displayed()
    press(user, "list audit", Keys.ENTER)
    assert user.chrome.current_url.endswith("/docs#listAuditEvents")
    press(user, "/")
    press(user, "no such thing anywhere")
    assert user.find("#found").text == "No results"


def test_language_applies_to_every_sample_and_is_remembered(user: ChromeUser) -> None:
    user.go("/docs#listAgents")
    assert user.chrome.execute_script(VISIBLE_CODE) == ["sh"]
    user.find("#sh-listAgents").send_keys(Keys.ARROW_RIGHT)
    assert user.chrome.execute_script(VISIBLE_CODE) == ["python"]
    user.chrome.refresh()
    assert user.chrome.execute_script(VISIBLE_CODE) == ["python"]


def test_copy_button_copies_the_visible_sample(user: ChromeUser) -> None:
    permissions = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"], "origin": user.servers.url}
    user.chrome.execute_cdp_cmd("Browser.grantPermissions", permissions)
    user.go("/docs#createAgent")
    user.find("label[for=python-createAgent]").click()
    button = user.find("#createAgent .tabs .copy")
    button.click()
    wait_until(lambda: button.text == "Copied", 20)
    copied = user.chrome.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert copied.startswith("from kataven.client import KatavenClient")


def test_samples_contain_the_account_and_the_hint_of_a_key(user: ChromeUser, harness: AppHarness) -> None:
    hint = harness.new_key("acme")[-8:]
    open_reference(user, "#createApiKey")
    assert f"sk_live_acme_…{hint}" in user.find(".session").text
    assert user.find("#createApiKey .sh .filled").text == "acme"
    assert f"# KATAVEN_API_KEY: sk_live_acme_…{hint} (test)" in user.find("#listAgents .sh").text


def test_try_it_shows_the_response_and_puts_no_secret_in_the_page(user: ChromeUser, harness: AppHarness) -> None:
    agent = harness.user(ALICE).post("/v1/agents", {"name": "Tried in Chromium"}).get_json()
    user.chrome.execute_cdp_cmd("Page.enable", {})
    watch = (
        "window.sent = []; const real = window.fetch; window.fetch = async (...given) => {"
        " const response = await real(...given); const text = await response.clone().text();"
        " window.sent.push([response.url, String(given[1]?.body ?? ''), text]); return response; };"
    )
    added = user.chrome.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": watch})
    try:
        open_reference(user, "#getAgent")
        panel = user.find("#getAgent .try")
        panel.find_element(By.TAG_NAME, "summary").send_keys(Keys.ENTER)
        panel.find_element(By.CSS_SELECTOR, "[name=agent_id]").send_keys(agent["id"], Keys.ENTER)
        wait_until(lambda: "200 OK" in panel.find_element(By.CSS_SELECTOR, "[role=status]").text, 20)
        assert '"name": "Tried in Chromium"' in panel.find_element(By.TAG_NAME, "pre").text
        sent = user.chrome.execute_script("return sent")
        page = user.chrome.execute_script("return document.documentElement.outerHTML + JSON.stringify(localStorage)")
    finally:
        user.chrome.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    secrets = [
        part.partition("=")[2] for _, body, _ in sent for part in body.split("&") if part[:5] in {"token", "csrf="}
    ]
    assert len(secrets) == 3  # the CSRF token twice, and the token
    for secret in secrets:
        assert len(secret) > 30
        assert secret not in page
        assert all(secret not in url for url, _, _ in sent)
    assert user.console_errors() == []


def test_try_it_reports_an_ended_session(user: ChromeUser) -> None:
    user.sign_in(ALICE)
    user.go("/docs#getMe")
    user.find(".session")
    user.chrome.execute_cdp_cmd("Network.clearBrowserCookies", {})
    panel = user.find("#getMe .try")
    panel.find_element(By.TAG_NAME, "summary").click()
    panel.find_element(By.CLASS_NAME, "send").click()
    wait_until(lambda: "session has ended" in panel.text, 20)
    user.sessions.clear()


def test_reader_without_a_session_gets_a_link_to_sign_in(user: ChromeUser) -> None:
    user.go("/docs")
    assert user.find(".session a").get_attribute("href").endswith("/sign-in?next=/docs")
    assert not user.chrome.execute_script("return document.querySelector('.try')")
    assert user.console_errors() == []


def test_page_is_complete_without_javascript(user: ChromeUser) -> None:
    user.allow_scripts(False)
    for size in reversed(SIZES.values()):
        user.size(*size)
        user.go("/docs")
        assert user.find(".side").is_displayed()
        assert not user.find(".find").is_displayed()
        assert user.find("#createAgent .sh").is_displayed()
        assert user.find("#createAgent .code figure:last-of-type pre").is_displayed()
        assert user.overflow() == 0
    user.find("label[for=ts-createAgent]").click()
    assert user.find("#createAgent .ts").is_displayed()
    assert not user.find("#createAgent .sh").is_displayed()


def test_page_needs_at_most_five_requests(user: ChromeUser) -> None:
    user.chrome.execute_cdp_cmd("Network.clearBrowserCache", {})
    open_reference(user)
    loaded = user.chrome.execute_script("return performance.getEntriesByType('resource').map(one => one.name)")
    own = [url for url in loaded if url.startswith("http")]
    assert all(url.startswith(user.servers.url) for url in own)
    assert len(own) + 1 <= 5, own
