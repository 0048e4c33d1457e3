"""The list of agents with 500 of them: search, filters and paging; and the editor: duplicates and suggestions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from uuid import uuid4

import pytest
from sqlalchemy import text

from kataven.account.models import Agent
from kataven.web.inputs.agents import AgentInput
from tests.hub.forms import forms_of
from tests.hub.hub_browser import HubBrowser
from tests.hub.test_agents import FORM
from tests.support.app_harness import AppHarness

MARK = f"Line{uuid4().hex[:6]}"
TITLE = re.compile(r"<bdi>([^<]*)</bdi></a>")


@pytest.fixture(scope="module", autouse=True)
def many_agents(harness: AppHarness) -> Iterator[None]:
    """120 agents of globex, of which 20 are paused."""
    record = harness.services.directory.find("globex")
    assert record is not None
    agent = AgentInput(name="-").model_dump()
    with harness.services.registry.writing(record.tenant) as session:
        for number in range(120):
            own = {"name": f"{MARK} {number}", "status": "active" if number % 6 else "paused"}
            suggested = {"llm_model": f"model-{number % 3}", "voice_id": f"voice-{number % 2}"}
            session.add(Agent(**{**agent, **own, **suggested}, created_by="test"))
    yield
    with harness.services.registry.writing(record.tenant) as session:
        session.execute(text("DELETE FROM agents WHERE name LIKE :mark"), {"mark": f"%{MARK}%"})


def test_agents_are_found_by_name_description_and_id(charlie: HubBrowser) -> None:
    page = charlie.get(f"/agents?q={MARK.lower()}+11").text
    assert len(TITLE.findall(page)) == 11  # 11, and 110 to 119
    link = re.search(r'href="/agents/([0-9a-f-]{36})"', page)
    assert link is not None
    assert len(TITLE.findall(charlie.get(f"/agents?q={link[1]}").text)) == 1
    assert "No agents found" in charlie.get("/agents?q=no-such-agent").text
    assert "No agents found" in charlie.get(f"/agents?q={'x' * 201}").text
    assert charlie.get("/agents?q=%00").status_code == 200


def test_chips_count_the_agents_that_the_search_finds(charlie: HubBrowser) -> None:
    page = charlie.get(f"/agents?q={MARK}").text
    chips = re.findall(rf'href="(/agents\?q={MARK}[^"]*)"[^>]*>(\w+) <span class="count">(\d+)<', page)
    assert [(label, count) for _, label, count in chips] == [("All", "120"), ("Active", "100"), ("Paused", "20")]
    paused = charlie.get(chips[2][0].replace("&amp;", "&")).text
    assert len(TITLE.findall(paused)) == 20
    assert charlie.get("/agents?status=nonsense").status_code == 200


def test_pages_of_a_search_follow_each_other_and_lead_back(charlie: HubBrowser) -> None:
    path, seen, labels = f"/agents?q={MARK}&status=active", [], []
    while True:
        page = charlie.get(path).text
        seen += TITLE.findall(page)
        labels += re.findall(r"(\d+ to \d+ of \d+)", page)
        following = re.search(r'href="([^"]+)" rel="next"', page)
        if following is None:
            break
        path = following[1].replace("&amp;", "&")
    assert len(seen) == len(set(seen)) == 100
    assert labels == ["1 to 50 of 100", "51 to 100 of 100"]
    previous = re.search(r'href="([^"]+)" rel="prev"', page)
    assert previous is not None
    assert TITLE.findall(charlie.get(previous[1].replace("&amp;", "&")).text) == seen[:50]


def test_a_duplicate_has_the_values_of_its_agent_and_is_a_draft(charlie: HubBrowser) -> None:
    charlie.get("/agents/new")
    values = {**FORM, "name": f"{MARK} original", "system_prompt": "Be brief.", "widget_enabled": "on"}
    made = charlie.post("/agents/new", values).location
    assert f'href="/agents/new?from={made.rpartition("/")[2]}"' in charlie.get(made).text
    form = forms_of(charlie.get(f"/agents/new?from={made.rpartition('/')[2]}").text)["/agents/new"].fields
    assert form["name"] == f"Copy of {MARK} original"
    assert (form["status"], form["system_prompt"], form["widget_enabled"]) == ("draft", "Be brief.", "on")
    copied = charlie.post("/agents/new", form).location
    assert copied != made
    assert forms_of(charlie.get(made).text)[made].fields["name"] == f"{MARK} original"


def test_an_unknown_agent_is_not_duplicated(charlie: HubBrowser, bob: HubBrowser) -> None:
    for wrong in (str(uuid4()), "nonsense", ""):
        assert charlie.get(f"/agents/new?from={wrong}").status_code == 404
    assert bob.get(f"/agents/new?from={uuid4()}").status_code == 403


def test_the_editor_suggests_the_models_and_voices_of_the_account(charlie: HubBrowser, alice: HubBrowser) -> None:
    page = charlie.get("/agents/new").text
    models = re.search(r'<datalist id="models">(.*?)</datalist>', page)
    voices = re.search(r'<datalist id="voices">(.*?)</datalist>', page)
    assert models is not None
    assert voices is not None
    assert set(re.findall('value="(model-[^"]*)"', models[1])) == {"model-0", "model-1", "model-2"}
    assert set(re.findall('value="(voice-[^"]*)"', voices[1])) == {"voice-0", "voice-1"}
    assert "model-0" not in alice.get("/agents/new").text


def test_only_forms_with_unsaved_values_are_marked(charlie: HubBrowser) -> None:
    charlie.get("/agents/new")
    made = charlie.post("/agents/new", {**FORM, "name": f"{MARK} guarded"}).location
    assert " data-guard>" in charlie.get(made).text
    assert 'data-guard="unsaved"' in charlie.post(made, {**FORM, "name": ""}).text
