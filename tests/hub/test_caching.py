"""What browsers may store: static files forever, pages for "back" until the session ends, and secrets never."""

from __future__ import annotations

import re

import pytest

from tests.hub.conftest import Hub
from tests.hub.hub_browser import HubBrowser

PAGES = ("/", "/agents", "/settings/api-keys", "/settings/api-keys/new", "/people", "/audit-log", "/accounts")
FOREVER = "public, max-age=31536000, immutable"


@pytest.mark.parametrize("path", PAGES)
def test_pages_of_a_session_can_be_shown_again_by_back(alice: HubBrowser, path: str) -> None:
    assert alice.get(path).headers["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize("path", ["/sign-in", "/signed-out", "/help/sign-in", "/nowhere", "/"])
def test_pages_outside_a_session_are_not_stored(anonymous: HubBrowser, path: str) -> None:
    assert anonymous.get(path).headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/nowhere", "/console", "/docs/session"])
def test_errors_and_tokens_of_a_session_are_not_stored(alice: HubBrowser, path: str) -> None:
    assert alice.get(path).headers["Cache-Control"] == "no-store"


def test_form_errors_are_not_stored(alice: HubBrowser) -> None:
    alice.get("/agents/new")
    page = alice.post("/agents/new", {})
    assert (page.status_code, page.headers["Cache-Control"]) == (400, "no-store")


def test_sign_out_clears_the_stored_pages(alice: HubBrowser) -> None:
    alice.get("/")
    assert alice.post("/sign-out").headers["Clear-Site-Data"] == '"cache"'
    assert alice.get("/signed-out").headers["Clear-Site-Data"] == '"cache"'


def test_ended_session_clears_the_stored_pages(hub: Hub, alice: HubBrowser) -> None:
    cookie = alice.client.get_cookie(hub.services.cookie_name, "localhost")
    session = hub.services.sessions.read(cookie and cookie.value)
    assert session is not None
    hub.services.sessions.end(session)
    assert alice.get("/agents").headers["Clear-Site-Data"] == '"cache"'


def test_redirect_to_the_sign_in_of_a_new_browser_clears_nothing(anonymous: HubBrowser) -> None:
    assert "Clear-Site-Data" not in anonymous.get("/agents").headers


def test_static_files_are_immutable_under_the_digest_of_their_content(alice: HubBrowser) -> None:
    assets = re.findall(r'(?:href|src)="(/static/[^"#]+)', alice.get("/").text)
    assert len(set(assets)) == 3, "a style sheet, a script and the icons"
    for path in set(assets):
        response = alice.client.get(path, base_url=alice.url, headers={"Accept-Encoding": "gzip"})
        assert response.headers["Cache-Control"] == FOREVER, path
        assert response.headers["Content-Encoding"] == "gzip", path
        response.close()


@pytest.mark.parametrize("query", ["", "?v=", "?v=0123456789ab"])
def test_static_file_of_another_release_is_not_kept(anonymous: HubBrowser, query: str) -> None:
    """During a rollout, a page of the new release can lead to a worker of the previous one."""
    response = anonymous.get(f"/static/hub.css{query}")
    assert response.headers["Cache-Control"] == "no-cache"
    response.close()
    assert anonymous.get("/static/nothing.css?v=0123456789ab").status_code == 404


@pytest.mark.parametrize("path", ["nothing/../hub.css", "./hub.css"])
def test_static_file_under_another_spelling_of_its_path_is_not_kept(anonymous: HubBrowser, path: str) -> None:
    """Browsers never send these paths; other clients can."""
    response = anonymous.get(f"/static/{path}?v=0123456789ab")
    assert (response.status_code, response.headers["Cache-Control"]) == (200, "no-cache")
    response.close()


def test_switch_of_the_account_clears_the_stored_pages(alice: HubBrowser) -> None:
    alice.get("/accounts")
    response = alice.post("/accounts", {"account": "acme"})
    assert (response.status_code, response.headers.get("Clear-Site-Data")) == (303, '"cache"')
