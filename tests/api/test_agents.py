"""`/v1/agents`: every field, defaults, validation, paging."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from kataven.web.schema import MAX_BODY_BYTES
from tests.support.app_harness import Caller

EVERYTHING = {
    "name": "Front desk",
    "description": "Answers the phone.",
    "category": "sales",
    "status": "active",
    "system_prompt": "Be brief.\nBe kind.",
    "greeting_message": "Good day!",
    "greeting_mode": "locked",
    "llm_model": "gpt-4o-mini",
    "voice_provider": "elevenlabs",
    "voice_id": "rachel",
    "auth_mode": "public",
    "ringing_enabled": True,
    "background_audio_enabled": True,
    "background_audio_volume": 0.25,
    "noise_suppression_enabled": True,
}
DEFAULTS = {
    "description": None,
    "category": "custom",
    "status": "draft",
    "system_prompt": None,
    "greeting_message": None,
    "greeting_mode": "interruptible",
    "llm_model": "gpt-4o",
    "voice_provider": "cartesia",
    "voice_id": None,
    "auth_mode": "authenticated",
}


def test_agent_is_created_read_updated_and_deleted(acme_key: Caller) -> None:
    created = acme_key.post("/v1/agents", EVERYTHING)
    assert created.status_code == 201
    agent = created.get_json()
    assert agent.items() >= EVERYTHING.items()
    path = f"/v1/agents/{agent['id']}"
    assert created.headers["Location"] == path
    assert acme_key.get(path).get_json() == agent

    changed = acme_key.patch(path, {"status": "paused", "voice_id": None})
    assert changed.status_code == 200
    after = changed.get_json()
    assert (after["status"], after["voice_id"], after["name"]) == ("paused", None, "Front desk")
    assert after["updated_at"] > agent["updated_at"]
    assert acme_key.get(path).get_json() == after

    assert acme_key.delete(path).status_code == 204
    assert acme_key.get(path).status_code == 404
    assert acme_key.delete(path).status_code == 404


def test_omitted_fields_have_defaults(acme_key: Caller) -> None:
    agent = acme_key.post("/v1/agents", {"name": "Plain"}).get_json()
    assert agent.items() >= DEFAULTS.items()
    assert agent["created_by"].startswith("api_key:")


def test_created_by_names_the_user(alice: Caller) -> None:
    assert alice.post("/v1/agents", {"name": "Hers"}).get_json()["created_by"] == "jwt:alice"


def test_server_set_fields_are_ignored(acme_key: Caller) -> None:
    mine = {"id": "x", "created_at": 1, "updated_at": [], "created_by": "me"}
    created = acme_key.post("/v1/agents", {"name": "Mine", **mine})
    assert created.status_code == 201
    assert all(created.get_json()[name] != value for name, value in mine.items())
    assert acme_key.patch(f"/v1/agents/{created.get_json()['id']}", created.get_json()).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": 7}, "name"),
        ({"name": ["a"]}, "name"),
        ({"name": "a", "categroy": "sales"}, "categroy"),
        ({"name": "a", "category": "none"}, "category"),
        ({"name": "a", "status": True}, "status"),
        ({"name": "a", "voice_provider": "siri"}, "voice_provider"),
        ({"name": "a", "ringing_enabled": "yes"}, "ringing_enabled"),
        ({"name": "a", "ringing_enabled": 1}, "ringing_enabled"),
        ({"name": "a", "background_audio_volume": 1.01}, "background_audio_volume"),
        ({"name": "a", "background_audio_volume": -0.1}, "background_audio_volume"),
        ({"name": "a", "background_audio_volume": "0.5"}, "background_audio_volume"),
        ({"name": "a", "description": "x" * 2001}, "description"),
        ({"name": "a", "system_prompt": "nul\x00"}, "system_prompt"),
        ([], "body"),
        ("text", "body"),
        (None, "body"),
    ],
)
def test_invalid_body_returns_400_and_names_the_field(acme_key: Caller, body: Any, field: str) -> None:
    response = acme_key.call("POST", "/v1/agents", data=json.dumps(body), content_type="application/json")
    assert response.status_code == 400
    problem = response.get_json()
    assert problem["code"] == "invalid_request"
    assert field in [error["field"] for error in problem["errors"]]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b'{"name": "a"',
        b"\xff\xfe",
        b'{"name": "\xff"}',
        b'{"name": "\\ud800"}',
        b'{"name": "a", "background_audio_volume": NaN}',
        b'{"name": "a", "background_audio_volume": Infinity}',
        b'{"name": "a", "background_audio_volume": 1e999}',
        b'{"name": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"name": ' + b"9" * 5_000 + b"}",
    ],
)
def test_malformed_json_returns_400(acme_key: Caller, raw: bytes) -> None:
    response = acme_key.call("POST", "/v1/agents", data=raw, content_type="application/json")
    assert (response.status_code, response.get_json()["code"]) == (400, "invalid_request")
    assert response.get_json()["errors"]


def test_other_content_type_returns_415(acme_key: Caller) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        response = acme_key.call("POST", "/v1/agents", data=b'{"name": "a"}', content_type=content_type)
        assert (response.status_code, response.get_json()["code"]) == (415, "unsupported_media_type")


def test_body_over_1_mib_returns_413(acme_key: Caller) -> None:
    body = json.dumps({"name": "a", "system_prompt": "x" * MAX_BODY_BYTES})
    response = acme_key.call("POST", "/v1/agents", data=body, content_type="application/json")
    assert (response.status_code, response.get_json()["code"]) == (413, "payload_too_large")


def test_patch_with_one_invalid_field_changes_nothing(acme_key: Caller) -> None:
    agent = acme_key.post("/v1/agents", {"name": "Steady"}).get_json()
    path = f"/v1/agents/{agent['id']}"
    assert acme_key.patch(path, {"name": "Changed", "status": "gone"}).status_code == 400
    assert acme_key.patch(path, {"name": None}).status_code == 400
    assert acme_key.get(path).get_json() == agent
    assert acme_key.patch(path, {}).get_json() == agent


@pytest.mark.parametrize(
    "agent_id", ["1", "x", "None", "%00", "'; DROP TABLE agents; --", "00000000-0000-4000-8000-00000000000g"]
)
def test_id_that_is_not_a_uuid_returns_404(acme_key: Caller, agent_id: str) -> None:
    for method in ("GET", "DELETE"):
        assert acme_key.call(method, f"/v1/agents/{agent_id}").status_code == 404


@pytest.mark.parametrize(
    "name", ["O'Brien; DROP TABLE agents; --", '"quoted"', "Zoë 🤖", "<script>", "a\u2028b", "\\u0000 in words"]
)
def test_names_are_returned_unchanged(acme_key: Caller, name: str) -> None:
    created = acme_key.post("/v1/agents", {"name": name}).get_json()
    assert acme_key.get(f"/v1/agents/{created['id']}").get_json()["name"] == name


def test_member_can_read_and_not_write(alice: Caller, bob: Caller) -> None:
    agent = alice.post("/v1/agents", {"name": "Seen by Bob"}).get_json()
    path = f"/v1/agents/{agent['id']}"
    assert bob.get(path).get_json() == agent
    for response in (bob.post("/v1/agents", {"name": "x"}), bob.patch(path, {"name": "x"}), bob.delete(path)):
        assert (response.status_code, response.get_json()["code"]) == (403, "forbidden")
    assert alice.get(path).get_json() == agent


def test_pages_have_no_gaps_or_repeats_while_rows_are_added(acme_key: Caller) -> None:
    made = [acme_key.post("/v1/agents", {"name": f"Page {n}"}).get_json()["id"] for n in range(7)]
    seen: list[str] = []
    url: str | None = "/hub-api/api/v1/agents?limit=3"
    while url and len(seen) < 9:
        page = acme_key.get(url)
        assert len(page.get_json()) == 3
        seen += [agent["id"] for agent in page.get_json()]
        acme_key.post("/v1/agents", {"name": "Added meanwhile"})
        link = page.headers.get("Link")
        assert link is not None
        assert link.endswith('>; rel="next"')
        parts = urlsplit(link[1:].partition(">")[0])
        assert parts.path == "/hub-api/api/v1/agents"
        url = f"{parts.path}?{parts.query}"
    assert seen[:7] == made[::-1]
    assert len(set(seen)) == len(seen)


def test_last_page_has_no_link(acme_key: Caller) -> None:
    assert "Link" not in acme_key.get("/v1/agents?limit=200").headers


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=ten", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "limit"),
        ("cursor=junk", "cursor"),
        ("cursor=%00", "cursor"),
        ("cursor=1-xyz", "cursor"),
        ("cursor=-1-00000000000040008000000000000000", "cursor"),
        ("limt=3", "limt"),
    ],
)
def test_invalid_query_returns_400_and_names_the_parameter(acme_key: Caller, query: str, field: str) -> None:
    response = acme_key.get(f"/v1/agents?{query}")
    assert response.status_code == 400
    assert [error["field"] for error in response.get_json()["errors"]] == [field]


def test_widget_settings_of_an_agent(acme_key: Caller) -> None:
    agent = acme_key.post("/v1/agents", {"name": "On the page"}).get_json()
    path = f"/v1/agents/{agent['id']}/widget-settings"
    assert acme_key.get(path).get_json() == {"widget_enabled": False, "auth_mode": "guest"}
    assert acme_key.patch(path, {"auth_mode": "both"}).get_json() == {"widget_enabled": False, "auth_mode": "both"}
    assert acme_key.patch(path, {"widget_enabled": True}).get_json() == {"widget_enabled": True, "auth_mode": "both"}
    assert acme_key.patch(path, {"auth_mode": "public"}).status_code == 400
    assert acme_key.get(f"/v1/agents/{agent['id']}").get_json()["auth_mode"] == "authenticated"
