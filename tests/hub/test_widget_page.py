"""The page of the widget: the contrast of its colour, and the frame of the preview."""

from __future__ import annotations

import re

import pytest

from kataven.hub.contrast import contrast_of
from kataven.widget import embed
from tests.hub.hub_browser import HubBrowser


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


def test_the_page_states_the_contrast_without_scripts(alice: HubBrowser) -> None:
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
