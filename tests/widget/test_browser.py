"""The widget in a real browser on three origins, from the script tag to the end of the session.

The pages are served over TLS with a Content-Security-Policy that allows scripts with a nonce and connections to the
API, but no styles, images or markup from text. A violation of the policy fails the test.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from werkzeug.serving import make_server

from kataven.dev.demo.app import Customer, create_demo
from tests.support.app_harness import AppHarness, Caller
from tests.support.browser import browser
from tests.support.certificates import authority
from tests.support.gunicorn import Gunicorn
from tests.support.pages import Pages
from tests.support.waiting import wait_until
from tests.widget.conftest import Site, VoiceEdge

pytestmark = pytest.mark.browser

EXACT = "https://www.acme.example"
WILDCARD = "https://a.b.shop.acme.example"
REFUSED = "https://www.acme.example.evil.example"
DOMAINS = ("www.acme.example", "*.shop.acme.example")
SECONDS = 20.0

# Records every event of the widget, so tests can read events that occurred earlier.
LISTEN = """
window.events = [];
for (const what of ["load", "ready", "refused", "token", "end", "open", "close"])
  window.addEventListener(`kataven:${what}`, (event) => {
    const {element, ...detail} = event.detail || {};
    window.events.push({what, ...detail, hasElement: Boolean(element)});
  });
document.addEventListener("securitypolicyviolation", (event) =>
  window.events.push({what: "blocked", directive: event.violatedDirective, sample: event.sample}));
"""


@pytest.fixture(scope="module")
def api(harness: AppHarness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    with Gunicorn(harness.environ, tmp_path_factory.mktemp("api") / "log") as running:
        yield running


@pytest.fixture(scope="module")
def pages(api: Gunicorn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    certificate = authority(tmp_path_factory.mktemp("tls") / "ca").issue("www.acme.example")
    with Pages(certificate, lambda: api.url) as running:
        yield running


@pytest.fixture(scope="module")
def chrome(pages: Pages, server_folder: Path) -> Iterator[Chrome]:
    folder = server_folder / "browser"
    folder.mkdir()
    with browser(folder, {f"*.{top}:443": pages.place for top in ("acme.example", "evil.example")}) as running:
        yield running


@pytest.fixture
def embedded(
    api: Gunicorn, pages: Pages, new_site: Callable[..., Site], alice: Caller, create_user_token: Callable[..., str]
) -> Site:
    """A site: `/` has the script tag with key and agent, `/plain` without both, `/user` with a user token as well."""
    site = new_site(alice, domains=DOMAINS)
    listen = "<script nonce={nonce}>" + LISTEN + "</script>"
    tag = f'<script nonce={{nonce}} src="{api.url}/widget.js"{{data}} async></script>'
    data = f' data-client-key="{site.key}" data-agent="{site.agent_id}"'

    def page(attributes: str) -> Callable[[str], str]:
        return lambda nonce: (listen + tag).replace("{nonce}", nonce).replace("{data}", attributes)

    user = f'{data} data-user-token="{create_user_token(display_name="Uma")}"'
    pages.pages |= {"/": page(data), "/plain": page(""), "/user": page(user)}
    return site


class Tab:
    """A browser tab: the widget as users and scripts of the page see it."""

    def __init__(self, chrome: Chrome) -> None:
        self.chrome = chrome

    def go(self, url: str) -> Tab:
        self.chrome.get(url)
        return self

    def events(self, what: str) -> list[dict[str, Any]]:
        """The recorded events of this kind."""
        found: list[dict[str, Any]] = self.run(
            "return (window.events || []).filter(e => e.what === arguments[0])", what
        )
        return found

    def wait_for(self, what: str, count: int = 1) -> dict[str, Any]:
        """The `count`-th event of this kind."""
        wait_until(
            lambda: len(self.events(what)) >= count, SECONDS, lambda: (self.run("return window.events"), self.log())
        )
        return self.events(what)[count - 1]

    def run(self, script: str, *arguments: Any) -> Any:
        return self.chrome.execute_script(script, *arguments)

    def resolve(self, script: str, *arguments: Any) -> Any:
        """The result of a promise: its value, or `{code, detail}` of its error."""
        return self.chrome.execute_async_script(
            f"const done = arguments[arguments.length - 1];"
            f"({script}).then(done, (error) => done({{code: error.code, detail: error.message}}))",
            *arguments,
        )

    def find(self, selector: str) -> WebElement:
        found: WebElement = self.run(
            "return document.querySelector('kataven-widget').shadowRoot.querySelector(arguments[0])", selector
        )
        return found

    def announced(self, element: WebElement) -> tuple[str, str]:
        """The accessible name and role."""
        return element.accessible_name, element.aria_role

    def focused(self) -> str:
        """The class or id of the focused element in the widget."""
        found: str = self.run(
            "const at = document.querySelector('kataven-widget').shadowRoot.activeElement;"
            "return at ? at.className || at.id : ''"
        )
        return found

    def press(self, *keys: str) -> None:
        ActionChains(self.chrome).send_keys(*keys).perform()

    def log(self) -> list[str]:
        return [entry["message"] for entry in self.chrome.get_log("browser")]


@pytest.fixture
def tab(chrome: Chrome) -> Iterator[Tab]:
    tab = Tab(chrome)
    yield tab
    assert tab.events("blocked") == [], "the page's policy blocked a resource"


@pytest.mark.parametrize("origin", [EXACT, WILDCARD], ids=["exact", "wildcard"])
def test_script_tag_leads_to_a_verified_token(embedded: Site, tab: Tab, edge: VoiceEdge, origin: str) -> None:
    tab.go(f"{origin}/").wait_for("ready")
    assert tab.events("token") == [], "no token is issued before the widget is opened"
    tab.find(".launcher").click()
    event = tab.wait_for("token")
    claims = edge.claims(event["token"])
    assert (claims["account"], claims["agent_id"], claims["origin"]) == ("acme", embedded.agent_id, origin)
    assert (event["agent"], event["kind"], event["voiceUrl"], event["hasElement"]) == (
        embedded.agent_id,
        "guest",
        None,
        True,
    )
    assert tab.find(".greeting").text == "Good day!"
    assert "not set up on this page yet" in tab.find(".status").text


def test_unlisted_page_is_rejected_with_a_readable_error(embedded: Site, tab: Tab) -> None:
    event = tab.go(f"{REFUSED}/").wait_for("refused")
    assert event["code"] == "origin_refused"
    assert REFUSED in event["detail"]
    assert tab.run("return document.querySelector('kataven-widget')") is None
    assert tab.resolve("Kataven.token()")["code"] != ""
    # The page's own script gets the same result: the preflight succeeds, and the error is readable.
    body = {"client_key": embedded.key, "agent_id": embedded.agent_id}
    response = tab.resolve(FETCH, "/v1/widget/auth/guest", json.dumps(body))
    assert (response["status"], response["body"]["code"]) == (403, "origin_refused")


FETCH = """
fetch(new URL(document.querySelector('script[src]').src).origin + arguments[0], {
  method: 'POST', headers: {'Content-Type': 'application/json'}, body: arguments[1]
}).then(async (response) => ({
  status: response.status, id: response.headers.get('X-Request-ID'), body: await response.json()
}))
"""


def test_all_errors_are_readable_by_the_page(embedded: Site, tab: Tab) -> None:
    tab.go(f"{EXACT}/plain").wait_for("load")
    for path, body, status, code in (
        ("/v1/widget/auth/guest", "{", 400, "invalid_request"),
        ("/v1/widget/auth/guest", "{}", 400, "invalid_request"),
        ("/v1/widget/config", "{}", 405, "method_not_allowed"),
        ("/v1/widget/auth/refresh", json.dumps({"refresh_token": "x"}), 400, "invalid_request"),
        ("/v1/widget/auth/guest", json.dumps({"client_key": embedded.key}), 400, "agent_missing"),
    ):
        response = tab.resolve(FETCH, path, body)
        assert (response["status"], response["body"]["code"]) == (status, code), path
        assert response["id"] == response["body"]["request_id"]


def test_browser_cannot_create_user_tokens(embedded: Site, tab: Tab) -> None:
    tab.go(f"{EXACT}/plain").wait_for("load")
    assert "code" in tab.resolve(FETCH, "/v1/widget/auth/user-token", "{}"), "no CORS for operations with a secret key"


def test_token_is_refreshed_before_it_expires(embedded: Site, tab: Tab, edge: VoiceEdge) -> None:
    tab.go(f"{EXACT}/").wait_for("ready")
    first = tab.resolve("Kataven.token()")
    assert tab.resolve("Kataven.token()") == first, "a valid token is returned again"
    tab.run("const now = Date.now; Date.now = () => now() + 490_000")  # advances the page's clock by about 8 minutes
    second = tab.resolve("Kataven.token()")
    assert second != first
    before, after = edge.claims(first), edge.claims(second)
    assert (after["sub"], after["widget_key_id"]) == (before["sub"], before["widget_key_id"])
    assert [event["token"] for event in tab.events("token")] == [first, second]


def test_disabled_key_ends_the_session_at_the_next_refresh(embedded: Site, tab: Tab) -> None:
    tab.go(f"{EXACT}/").wait_for("ready")
    tab.find(".launcher").click()
    tab.wait_for("token")
    assert embedded.change(disabled=True)["receipt"]["acknowledged"] >= 2, "the test process and the two workers"
    tab.run("const now = Date.now; Date.now = () => now() + 490_000")
    assert tab.resolve("Kataven.token()")["code"] == "widget_key_disabled"
    assert tab.wait_for("end")["code"] == "widget_key_disabled"
    wait_until(lambda: "widget_key_disabled" in tab.find(".status").text, SECONDS)
    assert tab.go(f"{EXACT}/").wait_for("refused")["code"] == "widget_key_disabled"


def test_stolen_refresh_token_ends_the_session_and_the_widget_starts_another(
    embedded: Site, tab: Tab, edge: VoiceEdge
) -> None:
    tab.go(f"{EXACT}/plain").wait_for("load")
    # The attacker reads the widget's responses, as any script of the page could.
    spy = "const real = fetch; window.pairs = []; window.fetch = async (...a) => { const r = await real(...a);"
    tab.run(spy + " if (/auth/.test(a[0])) window.pairs.push(await r.clone().json()); return r }")
    tab.resolve("Kataven.init({clientKey: arguments[0], agent: arguments[1]})", embedded.key, embedded.agent_id)
    first = edge.claims(tab.resolve("Kataven.token()"))
    stolen = tab.run("return window.pairs[0].refresh_token")
    assert embedded.at(EXACT).refresh(stolen).status_code == 200
    tab.run("const now = Date.now; Date.now = () => now() + 490_000")
    second = edge.claims(tab.resolve("Kataven.token()"))
    assert second["sub"] != first["sub"], "another session"
    assert tab.run("return window.pairs.map((pair) => pair.code || 'pair')") == ["pair", "refresh_token_reused", "pair"]


def test_user_token_is_exchanged_once_and_the_user_does_not_become_a_guest(
    embedded: Site, tab: Tab, edge: VoiceEdge
) -> None:
    tab.go(f"{EXACT}/user").wait_for("ready")
    user_token = tab.run("return document.querySelector('script[src]').dataset.userToken")
    claims = edge.claims(tab.resolve("Kataven.token()"))
    assert (claims["kind"], claims["sub"], claims["name"]) == ("user", "u-17", "Uma")
    # The same token is sent again from another listed page.
    tab.go(f"{WILDCARD}/plain").wait_for("load")
    options = "{clientKey: arguments[0], agent: arguments[1], userToken: arguments[2]}"
    tab.resolve(f"Kataven.init({options})", embedded.key, embedded.agent_id, user_token)
    assert tab.resolve("Kataven.token()")["code"] == "user_token_used"
    assert tab.wait_for("end")["code"] == "user_token_used"
    assert tab.resolve("Kataven.token()")["code"] == "user_token_used"


def test_script_that_is_embedded_twice_draws_one_launcher(embedded: Site, tab: Tab, pages: Pages) -> None:
    once = pages.pages["/"]
    pages.pages["/twice"] = lambda nonce: (
        once(nonce) + once(nonce).rpartition("</script><script")[2].join(["<script", ""])
    )
    tab.go(f"{EXACT}/twice").wait_for("ready")
    wait_until(lambda: any("twice" in line for line in tab.log()), SECONDS)
    assert tab.run("return document.querySelectorAll('kataven-widget').length") == 1


def test_callbacks_receive_the_same_data_as_events(embedded: Site, tab: Tab, edge: VoiceEdge) -> None:
    tab.go(f"{EXACT}/plain").wait_for("load")
    options = (
        "{clientKey: arguments[0], agent: arguments[1], onToken: (d) => window.given = d.token,"
        " onEnd: (d) => window.ended = d.code, userToken: async () => null}"
    )
    ready = tab.resolve(f"Kataven.init({options})", embedded.key, embedded.agent_id)
    assert ready["agent"]["name"] == "Front desk"
    tab.run("Kataven.open()")
    edge.claims(tab.wait_for("token")["token"])
    wait_until(lambda: tab.run("return window.given") == tab.events("token")[0]["token"], SECONDS)
    tab.run("Kataven.remove()")
    wait_until(lambda: tab.run("return window.ended") == "ended", SECONDS)
    assert tab.run("return document.querySelector('kataven-widget')") is None


def test_widget_is_accessible_by_keyboard_and_screen_reader(embedded: Site, tab: Tab) -> None:
    tab.go(f"{EXACT}/").wait_for("ready")
    launcher = tab.find(".launcher")
    expected = ("Talk to Front desk", "button")  # Chromium builds the accessibility tree after the page
    wait_until(lambda: tab.announced(launcher) == expected, SECONDS, lambda: (tab.announced(launcher), tab.log()))
    assert launcher.get_attribute("aria-expanded") == "false"
    tab.press(Keys.TAB)
    assert tab.focused() == "launcher"
    tab.press(Keys.ENTER)
    tab.wait_for("open")
    assert tab.focused() == "title", "the panel has the focus"
    panel = tab.find("#panel")
    assert (panel.accessible_name, panel.aria_role) == ("Front desk", "dialog")
    assert launcher.get_attribute("aria-expanded") == "true"
    assert tab.find(".status").aria_role == "status"
    tab.press(Keys.TAB)
    assert tab.focused() == "close"
    tab.press(Keys.ESCAPE)
    tab.wait_for("close")
    assert (tab.focused(), panel.is_displayed()) == ("launcher", False)
    tab.press(Keys.SPACE)
    tab.wait_for("open", 2)
    tab.find(".close").click()
    tab.wait_for("close", 2)


def test_demo_page_works_under_its_own_policy(
    harness: AppHarness, api: Gunicorn, embedded: Site, tab: Tab, edge: VoiceEdge
) -> None:
    embedded.change(domain_allowlist=["localhost:*"])
    demo = create_demo(Customer(api.url, embedded.key, harness.new_key("acme")))
    with serving(demo) as port:
        tab.go(f"http://localhost:{port}/").run(LISTEN)
        wait_until(lambda: bool(tab.run("return document.querySelector('kataven-widget')")), SECONDS, tab.log)
        tab.find(".launcher").click()
        assert edge.claims(tab.wait_for("token")["token"])["origin"] == f"http://localhost:{port}"
        tab.find(".close").click()
        tab.chrome.find_element("id", "sign-in").click()
        claims = edge.claims(tab.wait_for("token", 2)["token"])
        assert (claims["kind"], claims["sub"], claims["name"]) == ("user", "demo-user-17", "Uma Demo")
        shown = tab.chrome.find_element("id", "events").text
        assert "kataven:token" in shown
        assert embedded.agent_id in shown
        assert not [line for line in tab.log() if "Content Security Policy" in line]


@contextmanager
def serving(application: Flask) -> Iterator[int]:
    """Serve a WSGI application on a loopback port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        server = make_server("127.0.0.1", port, application, threaded=True, fd=listener.fileno())
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield port
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


@pytest.mark.parametrize(("theme", "scheme", "paper"), [
    ("auto", "light", "rgb(255, 255, 255)"),
    ("auto", "dark", "rgb(27, 30, 38)"),
    ("light", "dark", "rgb(255, 255, 255)"),
    ("dark", "light", "rgb(27, 30, 38)"),
])  # fmt: skip
def test_appearance_follows_branding_and_color_scheme(
    embedded: Site, tab: Tab, alice: Caller, theme: str, scheme: str, paper: str
) -> None:
    branding = {"theme": theme, "accent_color": "#ffcc00", "title": "Ask <b>Acme</b>", "launcher_label": "Ask us"}
    alice.patch("/v1/widget-settings", {**branding, "position": "bottom-left"})
    feature = [{"name": "prefers-color-scheme", "value": scheme}]
    tab.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": feature})
    tab.go(f"{EXACT}/").wait_for("ready")
    launcher = tab.find(".launcher")
    assert (launcher.accessible_name, tab.find("h2").get_property("textContent")) == ("Ask us", "Ask <b>Acme</b>")
    assert launcher.value_of_css_property("background-color") == "rgba(255, 204, 0, 1)"
    assert launcher.value_of_css_property("color") == "rgba(0, 0, 0, 1)", "black has more contrast on yellow"
    launcher.click()
    shown = tab.run("return getComputedStyle(arguments[0]).backgroundColor", tab.find("#panel"))
    assert shown == paper
    assert launcher.rect["x"] < 100
    tab.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    alice.patch(
        "/v1/widget-settings", {"theme": "auto", "accent_color": "#1746a2", "title": None, "launcher_label": None,
                                "position": "bottom-right"},
    )  # fmt: skip
