"""The documentation site: its search, copy buttons, tabs and colours, in Chromium and without a server."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from tests.support.browser import as_new, browser

ROOT = Path(__file__).resolve().parents[1]
AXE = ROOT / "tests" / "vendor" / "axe-core" / "axe.min.js"
PAGES = ("index.html", "search.html?q=429", "how-to/handle-429.html")

pytestmark = [
    pytest.mark.programs,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        importlib.util.find_spec("sphinx") is None and os.environ.get("DOCS_TESTS") != "yes",
        reason="the site's dependencies are not installed: run `make docs` first",
    ),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-E", "-d", folder / "doctrees", "-c", "tools/docs", "docs"]
    done = subprocess.run([*command, folder / "html"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def shared_chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with browser(tmp_path_factory.mktemp("chrome"), {}) as chrome:
        chrome.implicitly_wait(20)
        yield chrome


@pytest.fixture
def chrome(shared_chrome: Chrome) -> Chrome:
    as_new(shared_chrome)
    return shared_chrome


def results(chrome: Chrome, site: Path, query: str) -> list[str]:
    """The pages of the search, best first."""
    chrome.get(f"file://{site}/search.html?q={query.replace(' ', '+')}")
    links = chrome.find_elements(By.CSS_SELECTOR, "#results a")
    return [(link.get_attribute("href") or "").removeprefix(f"file://{site}/") for link in links]


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("429", "how-to/handle-429.html"),
        ("too many requests", "how-to/handle-429.html"),
        ("rotate", "how-to/rotate-a-key.html"),
        ("a key leaked", "how-to/a-key-leaked.html"),
        ("leaked", "how-to/a-key-leaked.html"),
        ("revoke key", "how-to/revoke-a-key.html"),
        ("401", "how-to/fix-401-and-403.html"),
        ("zitadel", "zitadel.html"),
        ("kubernetes", "kubernetes.html"),
    ],
)
def test_search_finds_the_guide_first(chrome: Chrome, site: Path, query: str, first: str) -> None:
    assert results(chrome, site, query)[0] == first


def test_decision_records_are_last_in_the_search_and_the_navigation(chrome: Chrome, site: Path) -> None:
    found = [page.startswith("decisions/") for page in results(chrome, site, "lease")]
    assert found == sorted(found)
    assert not found[0]
    page = (site / "index.html").read_text()
    captions = re.findall(r'class="caption-text">([^<]+)<', page)
    assert captions[-1] == "Background"
    assert re.findall(r'class="reference internal" href="(decisions/README\.html)"', page)


def test_search_without_a_match_reports_it(chrome: Chrome, site: Path) -> None:
    assert results(chrome, site, "xyzzy") == []
    assert chrome.find_element(By.ID, "count").text == "No results"


def test_guides_are_titled_by_a_question(site: Path) -> None:
    for page in (ROOT / "docs" / "how-to").glob("*.md"):
        assert page.read_text().split("\n")[0].endswith("?"), page.name
        assert f'href="how-to/{page.stem}.html"' in (site / "index.html").read_text()


def test_code_has_colours_a_copy_button_and_tabs(chrome: Chrome, site: Path) -> None:
    chrome.get(f"file://{site}/index.html")
    shown = "return [...document.querySelectorAll('.tabs .highlight')].map(one => one.offsetParent !== null)"
    assert chrome.execute_script(shown) == [True, False, False]
    chrome.find_element(By.CSS_SELECTOR, ".tabs label:nth-of-type(2)").click()
    assert chrome.execute_script(shown) == [False, True, False]
    assert chrome.find_element(By.CSS_SELECTOR, ".tabs > div:nth-of-type(2) .copy").text == "Copy"
    assert chrome.find_elements(By.CSS_SELECTOR, ".highlight-python .kn")
    assert chrome.find_elements(By.CSS_SELECTOR, ".highlight-sh .s2")


def test_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert not re.search(r'<(?:script|link|img)[^>]*(?:src|href)="(?:https?:)?//', page.read_text()), page.name


@pytest.mark.parametrize("size", [(1440, 900), (768, 1024), (390, 844)])
def test_pages_are_accessible_and_fit(chrome: Chrome, site: Path, size: tuple[int, int]) -> None:
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 500}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    chrome.set_script_timeout(100)
    for page in PAGES:
        chrome.get(f"file://{site}/{page}")
        chrome.execute_script(AXE.read_text("utf-8"))
        found = chrome.execute_async_script("axe.run('article').then(arguments[0])")["violations"]
        assert [f"{one['id']}: {node['html']}" for one in found for node in one["nodes"]] == [], page
        wider = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert chrome.execute_script(wider) == 0, page
