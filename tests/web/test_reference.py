"""The reference at `/docs`: complete without JavaScript, without external resources, and with permalinks."""

from __future__ import annotations

import gzip
import html
import re

import pytest

from kataven.web import reference
from kataven.web.docs import prose, tryable
from kataven.web.docs.colors import colored
from kataven.web.problems import PROBLEM_TYPES
from tests.support.app_harness import AppHarness
from tests.web.test_reference_samples import DOCUMENTS, OPERATIONS, SCHEMAS

MAX_REQUESTS = 5
MAX_COMPRESSED_BYTES_PER_OPERATION = 1_000
"""Each has three samples, its parameters and its schemas. 40 operations fit into 40 KB."""


@pytest.fixture(scope="module")
def page(harness: AppHarness) -> str:
    return harness.caller().get("/docs").text


def section(page: str, name: str) -> str:
    found = re.search(rf'<section id="{name}".*?</section>', page, re.DOTALL)
    assert found, name
    return found[0]


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_has_samples_and_a_permalink(page: str, name: str) -> None:
    _, _, operation = OPERATIONS[name]
    shown = section(page, name)
    assert f'href="#{name}"' in shown
    for language in ("sh", "python", "ts"):
        assert f'<pre class="{language}"><code>' in shown
        assert f'value="{language}"' in shown
    for parameter in operation["parameters"]:
        assert f'id="{name}.{parameter["name"]}"' in shown
    for status, response in operation["responses"].items():
        for code in re.findall(r"`(\w+)`: ", response["description"]) if status >= "400" else ():
            assert f'<a href="/docs/errors#{code}">{code}</a>' in shown


def test_every_schema_and_every_field_has_a_permalink(page: str) -> None:
    for name, schema in SCHEMAS.items():
        assert f'id="schema-{name}"' in page
        for field, value in schema.get("properties", {}).items():
            if not value.get("readOnly"):
                assert page.count(f'id="{name}.{field}"') == 1


def test_every_link_leads_to_an_element(harness: AppHarness, page: str) -> None:
    errors = harness.caller().get("/docs/errors").text
    ids = {path: re.findall(r'\bid="([^"]+)"', text) for path, text in (("", page), ("/docs/errors", errors))}
    for found in ids.values():
        assert len(found) == len(set(found))
    for text in (page, errors):
        for path, anchor in re.findall(r'href="(/docs/errors|)#([^"]*)"', text):
            assert anchor in ids[path if text is page else "/docs/errors"], anchor


@pytest.mark.parametrize("path", ["/docs", "/docs/errors"])
def test_markdown_is_rendered(harness: AppHarness, path: str) -> None:
    text = harness.caller().get(path).text
    assert "`" not in re.sub(r"<pre.*?</pre>|<code>.*?</code>", "", text, flags=re.DOTALL)
    sample = {"/docs": "Accept-Encoding: gzip", "/docs/errors": "X-Account-ID: acme"}[path]
    assert f"<code>{sample}</code>" in text


def test_required_marks_only_what_a_request_must_contain(page: str) -> None:
    def field(name: str) -> str:
        found = re.search(rf'<li id="{re.escape(name)}".*?</li>', page, re.DOTALL)
        assert found, name
        return found[0]

    assert "<b>required</b>" in field("AgentInput.name")
    assert "required" not in field("Agent.name")  # a response always has it
    assert "optional" in field("Receipt.lapsed")


def test_descriptions_can_not_inject_html_or_scripts() -> None:
    text = (
        "<script>alert(1)</script> <img src=x> ![x](https://e.example/x.png) [a](javascript:alert(1)) [b](//e.example)"
    )
    rendered = str(prose.markdown(text, {}))
    assert "<script" not in rendered
    assert "<img" not in rendered
    assert re.findall(r'href="([^"]*)"', rendered) == ["https://e.example/x.png"]  # a link, and not an image
    assert str(prose.inline("`<b>`", {})) == "<code>&lt;b&gt;</code>"


def test_code_in_a_description_links_to_the_problem_code_or_schema() -> None:
    assert 'href="/docs/errors#not_found"' in prose.inline("`not_found`", {})
    assert 'href="#schema-Agent"' in prose.inline("`Agent`", {"Agent": "#schema-Agent"})


@pytest.mark.parametrize("language", ["sh", "python", "ts", "json"])
def test_colors_keep_the_text(language: str) -> None:
    code = '# <a> "b\\"c" \'d\' // e\ncurl -H "X-Account-ID: acme" &amp; None null True'
    assert html.unescape(re.sub(r"<[^>]+>", "", str(colored(code, language)))) == code


@pytest.mark.parametrize("path", ["/docs", "/docs/errors"])
def test_pages_load_only_their_own_style_and_script(harness: AppHarness, path: str) -> None:
    response = harness.caller().get(path)
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    loaded = re.findall(r'<(?:script|link|img|iframe|object|embed)[^>]*?(?:src|href)="([^"]*)"', response.text)
    own = [url for url in loaded if not url.startswith("data:image/svg+xml,")]
    assert [url.partition("?")[0] for url in own] == ["/docs/style.css", "/docs/script.js"]
    assert re.findall(r"<script[^>]*>([^<]*)</script>", response.text) == [""]
    assert not re.search(
        r"\son\w+=|\sstyle=|<style|javascript:", re.sub(r"<pre.*?</pre>", "", response.text, flags=re.DOTALL)
    )
    for url in own:
        assert harness.caller().get(url).status_code == 200
    assert len(own) + 2 <= MAX_REQUESTS  # the page, and at the Hub the session


def test_page_is_small_and_can_be_revalidated(harness: AppHarness) -> None:
    response = harness.caller().get("/docs")
    assert len(gzip.compress(response.data, 5)) <= MAX_COMPRESSED_BYTES_PER_OPERATION * len(OPERATIONS)
    again = harness.caller(If_None_Match=response.headers["ETag"]).get("/docs")
    assert (again.status_code, again.data) == (304, b"")


def test_script_never_assembles_html_from_strings() -> None:
    script = (reference.STATIC / "docs.js").read_text()
    for name in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser"):
        assert name not in script


def test_api_links_to_the_hub_and_does_not_read_a_session(page: str, harness: AppHarness) -> None:
    assert "data-session" not in page
    assert ">Try it in the Hub</a>" in page
    assert harness.caller().get("/docs/session").status_code == 404


def test_only_reads_that_accept_a_user_can_be_tried(page: str) -> None:
    tried = set(re.findall(r'<section id="(\w+)"[^>]* data-try=', page))
    assert tried == {
        name
        for name, (method, _, operation) in OPERATIONS.items()
        if method == "GET" and {"jwt": []} in operation["security"]
    }
    for name in set(OPERATIONS) - tried:
        with pytest.raises(tryable.UnknownOperation):
            tryable.find(DOCUMENTS[0], name)


def test_parameters_of_a_try_can_not_change_the_path() -> None:
    found = tryable.find(DOCUMENTS[0], "getAgent")
    assert found.target({"agent_id": "..me?x=1#y"}) == "/v1/agents/..me%3Fx%3D1%23y"
    for given in (
        {"agent_id": ".."},
        {"agent_id": "a/b"},
        {"agent_id": ""},
        {},
        {"agent_id": "a", "Authorization": "b"},
    ):
        with pytest.raises(tryable.InvalidParameter):
            found.target(given)
    listed = tryable.find(DOCUMENTS[0], "listAgents")
    assert listed.target({"limit": "1&cursor=2", "cursor": ""}) == "/v1/agents?limit=1%26cursor%3D2"


def test_every_problem_code_is_on_the_page_of_errors(harness: AppHarness) -> None:
    errors = harness.caller().get("/docs/errors").text
    for code in PROBLEM_TYPES:
        assert f'id="{code}"' in errors
