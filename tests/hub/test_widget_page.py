"""The page of the widget: the contrast of its colour, and the frame of the preview."""

from __future__ import annotations

import html
import re
from uuid import uuid4

import pytest
from sqlalchemy import text as sql

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.personas import ALICE
from kataven.hub.contrast import contrast_of
from kataven.identity import token as tokens
from kataven.identity.token import TokenKind
from kataven.widget import embed
from tests.hub.forms import forms_of
from tests.hub.hub_browser import HubBrowser
from tests.support.app_harness import AppHarness
from tests.test_no_plaintext import everything_stored


@pytest.mark.parametrize(
    ("color", "ink", "text", "on_white"),
    [("#000000", "white", 21.0, 21.0), ("#ffffff", "black", 21.0, 1.0), ("#1746a2", "white", 8.63, 8.63)],
)
def test_contrast_is_that_of_wcag(color: str, ink: str, text: float, on_white: float) -> None:
    found = contrast_of(color)
    assert found is not None
    assert found.ink == ink
    assert found.text == pytest.approx(text, abs=0.005)
    assert found.on_white == pytest.approx(on_white, abs=0.005)


def test_text_on_the_button_is_readable_with_every_color() -> None:
    shades = range(0, 256, 15)
    ratios = [contrast_of(f"#{r:02x}{g:02x}{b:02x}") for r in shades for g in shades for b in shades]
    assert all(found is not None and found.text_passes for found in ratios)


@pytest.mark.parametrize("color", [None, "", "red", "#123", "#12345g", "#1746a2 "])
def test_another_text_has_no_contrast(color: str | None) -> None:
    assert contrast_of(color) is None


def test_the_page_states_the_contrast_without_scripts(alice: HubBrowser, harness: AppHarness) -> None:
    assert harness.user(ALICE).patch("/v1/widget-settings", {"accent_color": "#1746a2"}).status_code == 200
    page = alice.get("/widget")
    assert re.search(r'data-ratio="text">8\.63</span>.*passes WCAG AA, 4\.5 : 1', page.text)
    wrong = alice.post("/widget", {"accent_color": "yellowish"})
    assert wrong.status_code == 400
    assert re.search(r"<dl class=\"contrast\"[^>]* hidden", wrong.text)


def test_the_frame_of_the_preview_is_sandboxed_and_only_the_widget_page_frames_it(alice: HubBrowser) -> None:
    page = alice.get("/widget")
    assert page.headers["Content-Security-Policy"].endswith("; frame-src 'self'")
    assert 'sandbox="allow-scripts"' in page.text
    frame = alice.get("/widget/preview")
    policy = dict(part.partition(" ")[::2] for part in frame.headers["Content-Security-Policy"].split("; "))
    assert policy["sandbox"] == "allow-scripts"
    assert policy["default-src"] == "'none'"
    assert re.fullmatch(r"'sha256-[\w+/=]+' 'sha256-[\w+/=]+'", policy["script-src"])
    assert policy["frame-ancestors"] == "'self'"
    assert "connect-src" not in policy
    assert "csrf" not in frame.text
    assert "frame-src" not in alice.get("/agents").headers["Content-Security-Policy"]


def test_the_preview_runs_the_script_that_web_pages_embed(alice: HubBrowser) -> None:
    frame = alice.get("/widget/preview").text
    assert embed.script().body.decode().replace("</script", "<\\/script") in frame
    assert frame.count("</script>") == 2


def new_key(alice: HubBrowser, name: str, domains: str = "acme.com") -> tuple[str, str]:
    """The text and the id of a new widget key."""
    alice.get("/settings/widget-keys")
    page = alice.post("/settings/widget-keys", {"name": name, "domain_allowlist": domains})
    assert page.status_code == 201, page.text
    found = re.search(r"pk_live_[0-9A-Za-z_-]+", page.text)
    key_id = re.search(r'href="/settings/widget-keys/([0-9a-f-]{36})"', page.text)
    assert found is not None
    assert key_id is not None
    return found[0], key_id[1]


def visit(harness: AppHarness, key: str, origin: str) -> int:
    """The status of a page's request with a widget key."""
    path = f"/v1/widget/config?client_key={key}"
    return harness.app.test_client().get(path, headers={"Origin": origin}).status_code


def test_a_refused_page_is_listed_and_allowed_with_one_form(alice: HubBrowser, harness: AppHarness) -> None:
    text, key_id = new_key(alice, "Refusing")
    origin = f"https://{uuid4().hex[:8]}.example:8443"
    assert [visit(harness, text, origin) for _ in range(3)] == [403] * 3
    counted = harness.services.refused_origins
    assert counted is not None
    counted.flush()
    page = alice.get("/widget").text
    row = re.search(rf"<tr>\s*<th scope=\"row\"><bdi>{re.escape(origin)}</bdi>.*?</tr>", page, re.DOTALL)
    assert row is not None
    assert 'class="number">3<' in row[0]
    assert ">Refusing<" in row[0]
    link = re.search(r'href="([^"]+)" aria-label="Allow', row[0])
    assert link is not None
    form = alice.get(html.unescape(link[1]).partition("#")[0]).text
    assert "was added to the form" in form
    fields = forms_of(form)[f"/settings/widget-keys/{key_id}"].fields
    assert fields["domain_allowlist"].splitlines() == ["acme.com", origin]
    alice.post(f"/settings/widget-keys/{key_id}", fields)
    saved = forms_of(alice.get(f"/settings/widget-keys/{key_id}").text)[f"/settings/widget-keys/{key_id}"].fields
    assert origin in saved["domain_allowlist"].splitlines()


def test_pages_that_no_entry_can_allow_have_no_link(alice: HubBrowser, harness: AppHarness) -> None:
    text, key_id = new_key(alice, "Refusing http")
    origin = f"http://{uuid4().hex[:8]}.example"
    assert visit(harness, text, origin) == 403
    assert harness.services.refused_origins is not None
    harness.services.refused_origins.flush()
    page = alice.get("/widget").text
    row = re.search(rf"<bdi>{re.escape(origin)}</bdi>.*?</tr>", page, re.DOTALL)
    assert row is not None
    assert "not https" in row[0]
    unchanged = alice.get(f"/settings/widget-keys/{key_id}?allow={origin}").text
    assert "was added" not in unchanged


@pytest.mark.parametrize(
    "allow", ["<script>", "*", "null", "https://a.example/path", "x" * 5_000, "%00", "ftp://a.example"]
)
def test_only_an_origin_is_added_to_the_form(alice: HubBrowser, allow: str) -> None:
    _, key_id = new_key(alice, "Careful")
    page = alice.get(f"/settings/widget-keys/{key_id}?allow={allow}")
    assert page.status_code == 200
    assert "was added" not in page.text


def test_unknown_keys_and_requests_without_an_origin_are_not_counted(harness: AppHarness) -> None:
    counted = harness.services.refused_origins
    assert counted is not None
    counted.flush()
    unknown = tokens.generate(TokenKind.WIDGET_KEY, "acme").text
    assert visit(harness, unknown, "https://a.example") == 403
    assert visit(harness, unknown, "null") == 403
    assert counted._pending == {}


def test_the_page_of_a_key_shows_its_script_tag_again(alice: HubBrowser, bob: HubBrowser) -> None:
    text, key_id = new_key(alice, "Shown again")
    for browser in (alice, bob):
        assert f"data-client-key=&#34;{text}&#34;" in browser.get(f"/settings/widget-keys/{key_id}").text


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "shown-again-7"}])
def test_keys_of_the_api_show_their_script_tag(
    harness: AppHarness, alice: HubBrowser, headers: dict[str, str], postgres: EmbeddedPostgres
) -> None:
    caller = harness.user(ALICE)
    body = {"name": f"Of the API {len(headers)}", "domain_allowlist": ["acme.com"]}
    created = caller.post("/v1/widget-keys", body, headers=headers).get_json()
    if headers:
        assert caller.post("/v1/widget-keys", body, headers=headers).get_json() == created
    assert created["key"] in alice.get(f"/settings/widget-keys/{created['id']}").text
    everything = everything_stored(postgres)
    assert created["key"].rpartition("_")[2][:40] not in everything
    assert b"shown-again-7".hex() not in everything


def test_a_key_without_a_seed_says_why_its_tag_is_missing(alice: HubBrowser, harness: AppHarness) -> None:
    _, key_id = new_key(alice, "Old")
    record = harness.services.directory.find("acme")
    assert record is not None
    with harness.services.registry.writing(record.tenant) as session:
        session.execute(sql("UPDATE widget_key_seeds SET pepper_id = 'retired' WHERE key_id = :id"), {"id": key_id})
    assert "The tag of this key can" in alice.get(f"/settings/widget-keys/{key_id}").text
    with harness.services.registry.writing(record.tenant) as session:
        session.execute(sql("DELETE FROM widget_key_seeds WHERE key_id = :id"), {"id": key_id})
    assert "The tag of this key can" in alice.get(f"/settings/widget-keys/{key_id}").text


def test_the_audit_log_shows_a_renamed_key(alice: HubBrowser) -> None:
    """Its event has both names, which is not a text."""
    _, key_id = new_key(alice, "Before the change")
    form = forms_of(alice.get(f"/settings/widget-keys/{key_id}").text)[f"/settings/widget-keys/{key_id}"]
    alice.post(form.action, {**form.fields, "name": "After the change"})
    page = alice.get(f"/audit-log?target={key_id}")
    assert page.status_code == 200
    assert "After the change" in page.text
