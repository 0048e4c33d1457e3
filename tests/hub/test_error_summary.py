"""Form errors: the title, the error summary with links to the fields, and the messages."""

from __future__ import annotations

import re

import pytest

from kataven.ratelimit.policy import LIMIT_FIELDS, MAX_LIMIT
from kataven.system.schema import ACCOUNT_SCHEMA
from tests.hub.hub_browser import HubBrowser
from tests.hub.test_agents import FORM

SUMMARY = re.compile(r'<div class="notice summary".*?</div>', re.DOTALL)
LINK = re.compile(r'<a href="#([^"]+)">([^<]+)</a>')


def links(page: str) -> list[tuple[str, str]]:
    """The links of the error summary. Each target is the id of exactly one field."""
    found = SUMMARY.search(page)
    assert found, "there is no summary"
    assert "<title>Error: " in page
    assert page.index(found[0]) < page.index("<h1>")
    for target, _ in LINK.findall(found[0]):
        assert page.count(f'id="{target}"') == 1
    return LINK.findall(found[0])


def test_error_summary_lists_invalid_fields_in_page_order(alice: HubBrowser) -> None:
    alice.get("/agents/new")
    page = alice.post("/agents/new", {**FORM, "background_audio_volume": "7", "name": "", "voice_id": "x" * 201}).text
    assert [target for target, _ in links(page)] == ["name", "voice_id", "background_audio_volume"]
    assert links(page)[0][1] == "Enter a name"


@pytest.mark.parametrize(
    ("path", "form", "target"),
    [
        ("/settings/api-keys/new", {"name": "", "expiry": "never"}, "name"),
        ("/settings/widget-keys", {"name": "x", "domain_allowlist": "http://acme.com"}, "domain_allowlist"),
        ("/widget", {"accent_color": "red"}, "accent_color"),
    ],
)
def test_account_forms_have_an_error_summary(alice: HubBrowser, path: str, form: dict[str, str], target: str) -> None:
    alice.get(path)
    assert target in dict(links(alice.post(path, form).text))


@pytest.mark.parametrize(
    ("page", "path", "form", "target"),
    [
        ("/console/new-account", "/console/new-account", {"account": "A B", "name": ""}, "name"),
        ("/console/accounts/acme", "/console/accounts/acme/limits", {"per_minute": "0"}, "per_minute"),
        ("/console/accounts/acme", "/console/accounts/acme/policy", {"max_days": "-1"}, "max_days"),
        ("/console/accounts/acme", "/console/accounts/acme/suspend", {"confirm": "globex"}, "confirm-suspend"),
        ("/console/accounts/acme", "/console/accounts/acme/archive", {"confirm": ""}, "confirm-archive"),
        ("/console/migrations", "/console/migrations", {"confirm": "no"}, "confirm"),
    ],
)
def test_console_forms_have_an_error_summary(
    olivia: HubBrowser, page: str, path: str, form: dict[str, str], target: str
) -> None:
    olivia.get(page)
    assert target in dict(links(olivia.post(path, form).text))


def test_errors_without_a_field_are_in_the_summary(olivia: HubBrowser) -> None:
    olivia.get("/console/accounts/acme")
    page = olivia.post("/console/accounts/acme/resume").text
    found = SUMMARY.search(page)
    assert found
    assert "<li>" in found[0]
    assert links(page) == []


def test_sign_in_page_has_an_error_summary(anonymous: HubBrowser) -> None:
    anonymous.get("/sign-in")
    assert links(anonymous.post("/sign-in", {"account": ""}).text) == [("account", "Enter an account")]


def test_page_without_errors_has_no_summary(alice: HubBrowser) -> None:
    page = alice.get("/agents/new").text
    assert "Error: " not in page
    assert not SUMMARY.search(page)


# Messages


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "x" * 201}, "Name must be 200 characters or fewer"),
        ({"background_audio_volume": "1.5"}, "Background volume must be 1 or less"),
        ({"background_audio_volume": "-1"}, "Background volume must be 0 or more"),
        ({"background_audio_volume": "loud"}, "Background volume must be a number, such as 0.5"),
        ({"background_audio_volume": "nan"}, "Background volume must be a number, such as 0.5"),
        ({"category": "espionage"}, "Choose a category from the list"),
        ({"llm_model": ""}, "Enter a language model"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)
def test_common_errors_name_the_field_and_the_fix(alice: HubBrowser, changes: dict[str, str], words: str) -> None:
    alice.get("/agents/new")
    page = alice.post("/agents/new", {**FORM, **changes}).text
    (name,) = changes
    assert f'<p class="problem" id="{name}-problem">{words}</p>' in page


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"jobs": "many"}, "Parallel accounts must be a whole number, such as 8"),
        ({"jobs": "1.5"}, "Parallel accounts must be a whole number, such as 8"),
        ({"jobs": "65"}, "Parallel accounts must be 64 or less"),
    ],
)
def test_number_errors_name_the_field_and_the_fix(olivia: HubBrowser, form: dict[str, str], words: str) -> None:
    olivia.get("/console/migrations")
    page = olivia.post("/console/migrations", {"confirm": ACCOUNT_SCHEMA.head, **form}).text
    assert f'<p class="problem" id="jobs-problem">{words}</p>' in page


def test_limits_in_errors_have_thousands_separators(olivia: HubBrowser) -> None:
    olivia.get("/console/accounts/acme")
    form = {limit.field: "1" for limit in LIMIT_FIELDS} | {"per_minute": str(MAX_LIMIT + 1)}
    page = olivia.post("/console/accounts/acme/limits", form).text
    assert f"Requests per minute must be {MAX_LIMIT:,} or less" in page


def test_too_long_list_error_names_the_maximum(alice: HubBrowser) -> None:
    alice.get("/settings/widget-keys")
    pages = "\n".join(f"a{number}.example" for number in range(101))
    page = alice.post("/settings/widget-keys", {"name": "Too many", "domain_allowlist": pages}).text
    assert "Allowed domains must have 100 lines or fewer" in page
