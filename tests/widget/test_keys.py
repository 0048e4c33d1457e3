"""`/v1/widget-keys` and `/v1/widget-settings`: creation, change and removal of keys, and branding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kataven.account.models import WidgetKey
from kataven.dev.personas import CHARLIE
from kataven.identity import token as tokens
from kataven.identity.token import TokenKind
from tests.support.app_harness import AppHarness, Caller, new_account
from tests.widget.conftest import Site, new_agent

UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"


def create(caller: Caller, **body: Any) -> dict[str, Any]:
    response = caller.post("/v1/widget-keys", {"name": "Shop", "domain_allowlist": ["acme.com"], **body})
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.get_json()
    return created


def test_key_is_returned_once_with_its_snippet(harness: AppHarness, alice: Caller) -> None:
    response = alice.post(
        "/v1/widget-keys", {"name": "Shop", "domain_allowlist": ["ACME.com", "*.acme.com", "acme.com"]}
    )
    assert (response.status_code, response.headers["Cache-Control"]) == (201, "no-store")
    created = response.get_json()
    key, snippet = created.pop("key"), created.pop("snippet")
    assert (tokens.parse(key).kind, tokens.parse(key).account) == (TokenKind.WIDGET_KEY, "acme")
    public_url = harness.services.widget.public_url
    assert snippet == f'<script src="{public_url}/widget.js" data-client-key="{key}" async></script>'
    assert created["domain_allowlist"] == ["acme.com", "*.acme.com"], "normalized and without duplicates"
    assert (created["hint"], created["agent_id"], created["disabled"], created["disabled_at"]) == (
        key[-8:],
        None,
        False,
        None,
    )
    listed = alice.get("/v1/widget-keys?limit=200")
    assert next(row for row in listed.get_json() if row["id"] == created["id"]) == created
    assert alice.get(f"/v1/widget-keys/{created['id']}").get_json() == created
    assert key not in listed.text


def test_api_key_can_manage_widget_keys(acme_key: Caller) -> None:
    created = create(acme_key)
    path = f"/v1/widget-keys/{created['id']}"
    assert created["created_by"].startswith("api_key:")
    assert acme_key.patch(path, {"name": "Other"}).get_json()["name"] == "Other"
    assert acme_key.delete(path).get_json()["outcome"] == "removed"
    assert acme_key.get(path).status_code == 404


@pytest.mark.parametrize("kind", ["jwt", "key"])
def test_widget_keys_of_another_account_are_not_found(
    harness: AppHarness, alice: Caller, charlie: Caller, kind: str
) -> None:
    created = create(alice, name="For acme's eyes")
    caller = charlie if kind == "jwt" else harness.bearer(harness.new_key("globex"))
    path = f"/v1/widget-keys/{created['id']}"
    for response in (caller.get(path), caller.patch(path, {"disabled": True}), caller.delete(path)):
        assert response.status_code == 404
    assert created["id"] not in caller.get("/v1/widget-keys?limit=200").text
    assert alice.get(path).get_json()["disabled"] is False


def test_invalid_allowlist_entry_is_reported_with_its_fix(alice: Caller) -> None:
    entries = ["acme.com", "http://acme.com", "acme.com:8443", "*.com"]
    for response in (
        alice.post("/v1/widget-keys", {"name": "Shop", "domain_allowlist": entries}),
        alice.patch(f"/v1/widget-keys/{create(alice)['id']}", {"domain_allowlist": entries}),
    ):
        assert response.status_code == 400
        assert {error["field"]: error["message"] for error in response.get_json()["errors"]} == {
            "domain_allowlist[1]": "http is allowed for loopback names only; write https://acme.com",
            "domain_allowlist[2]": "a port needs its scheme; write https://acme.com:8443",
            "domain_allowlist[3]": "`*.com` would match every site under com; write your own domain, like *.acme.com",
        }


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x", "domain_allowlist": "acme.com"}, "domain_allowlist"),
        ({"name": "x", "domain_allowlist": [1]}, "domain_allowlist[0]"),
        ({"name": "x", "domain_allowlist": ["a.com"] * 101}, "domain_allowlist"),
        ({"name": "x", "domain_allowlist": None}, "domain_allowlist"),
        ({"name": "x", "agent_id": "front-desk"}, "agent_id"),
        ({"name": "x", "agent_id": UNKNOWN_ID}, "agent_id"),
        ({"name": "x", "disabled": True}, "disabled"),
        ({"name": "x", "domains": []}, "domains"),
    ],
    ids=range(10),
)
def test_invalid_body_is_rejected(alice: Caller, body: dict[str, Any], field: str) -> None:
    response = alice.post("/v1/widget-keys", body)
    assert response.status_code == 400
    assert field in [error["field"] for error in response.get_json()["errors"]]


def test_wildcard_over_a_public_suffix_is_rejected_with_its_index(alice: Caller) -> None:
    entries = ["acme.com", "*.github.io", "acme.github.io", "*.co.uk"]
    created = create(alice)
    for response in (
        alice.post("/v1/widget-keys", {"name": "x", "domain_allowlist": entries}),
        alice.patch(f"/v1/widget-keys/{created['id']}", {"domain_allowlist": entries}),
    ):
        assert response.status_code == 400
        errors = {error["field"]: error["message"] for error in response.get_json()["errors"]}
        assert set(errors) == {"domain_allowlist[1]", "domain_allowlist[3]"}
        assert "acme.github.io" in errors["domain_allowlist[1]"]


def test_key_cannot_be_pinned_to_another_accounts_agent(alice: Caller, charlie: Caller) -> None:
    agent_id = new_agent(charlie)
    response = alice.patch(f"/v1/widget-keys/{create(alice)['id']}", {"agent_id": agent_id})
    assert [error["field"] for error in response.get_json()["errors"]] == ["agent_id"]


def test_changes_and_receipts_are_in_the_audit_log(alice: Caller) -> None:
    created = create(alice)
    path = f"/v1/widget-keys/{created['id']}"
    changed = alice.patch(path, {"name": "Blog", "domain_allowlist": ["blog.acme.com"]}).get_json()
    disabled = alice.patch(path, {"disabled": True}).get_json()
    assert (disabled["disabled"], disabled["disabled_at"] is not None) == (True, True)
    again = alice.patch(path, {"disabled": True}).get_json()
    assert again["disabled_at"] == disabled["disabled_at"]
    assert again["receipt"]["acknowledged"] == 1, "the first request may have stopped before its receipt"
    enabled = alice.patch(path, {"disabled": False}).get_json()
    assert (enabled["disabled"], enabled["disabled_at"], "receipt" in enabled) == (False, None, False)
    removed = alice.delete(path).get_json()
    events = [event for event in alice.get("/v1/audit-events?limit=200").get_json() if event["target"] == created["id"]]
    assert [event["action"] for event in reversed(events)] == [
        *("widget_key.created", "widget_key.changed", "widget_key.disabled", "widget_key.enabled", "widget_key.removed")
    ]
    by_action = {event["action"]: event["detail"] for event in events}
    assert by_action["widget_key.changed"]["name"] == {"from": "Shop", "to": "Blog"}
    assert by_action["widget_key.changed"]["domain_allowlist"] == {"from": ["acme.com"], "to": ["blog.acme.com"]}
    ids = {event["action"]: event["id"] for event in events}
    for action, answer in (("changed", changed), ("disabled", disabled), ("removed", removed)):
        name = f"widget_key.{action}"
        assert answer["receipt"] == {"id": ids[name], **by_action[name]["receipt"]}


def test_empty_patch_changes_nothing(alice: Caller) -> None:
    created = create(alice)
    response = alice.patch(f"/v1/widget-keys/{created['id']}", {})
    assert response.status_code == 200
    assert {**response.get_json(), "key": created["key"], "snippet": created["snippet"]} == created


def test_read_only_fields_can_be_sent_back(alice: Caller) -> None:
    created = create(alice)
    response = alice.patch(f"/v1/widget-keys/{created['id']}", {**created, "name": "Renamed"})
    assert response.status_code == 200, response.text
    assert response.get_json()["name"] == "Renamed"


def test_key_is_rehashed_with_the_current_pepper_when_used(harness: AppHarness, site: Site) -> None:
    record = harness.services.directory.read("acme")
    assert record is not None
    with harness.services.registry.writing(record.tenant) as session:
        session.get_one(WidgetKey, site.key_id).pepper_id = "retired"
    assert site.config().status_code == 200
    with harness.services.registry.reading(record.tenant) as session:
        assert session.get_one(WidgetKey, site.key_id).pepper_id == "dev1"


def test_branding_has_defaults_and_changes_by_field(harness: AppHarness, alice: Caller) -> None:
    new_account(harness.services, "branded")  # another test changes the branding of globex
    owner = harness.user(replace(CHARLIE, account="branded"))
    assert owner.get("/v1/widget-settings").get_json() == {
        "title": None,
        "launcher_label": None,
        "accent_color": "#1746a2",
        "logo_url": None,
        "position": "bottom-right",
        "theme": "auto",
    }
    given = {"title": "Globex", "accent_color": "#AA0011", "logo_url": "https://globex.example/l.svg", "theme": "dark"}
    changed = owner.patch("/v1/widget-settings", given)
    assert changed.status_code == 200
    assert changed.get_json() == {
        **given,
        "accent_color": "#aa0011",
        "launcher_label": None,
        "position": "bottom-right",
    }
    assert owner.patch("/v1/widget-settings", {"title": None}).get_json()["title"] is None
    assert owner.get("/v1/widget-settings").get_json()["theme"] == "dark"
    assert alice.get("/v1/widget-settings").get_json()["theme"] == "auto", "acme's own"
    event = owner.get("/v1/audit-events?action=widget_settings.changed").get_json()[-1]
    assert event["detail"]["fields"] == ["accent_color", "logo_url", "theme", "title"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"accent_color": "red"}, "accent_color"),
        ({"accent_color": "#12345"}, "accent_color"),
        ({"accent_color": "#123456;}"}, "accent_color"),
        ({"accent_color": None}, "accent_color"),
        ({"logo_url": "http://acme.com/l.svg"}, "logo_url"),
        ({"logo_url": "javascript:alert(1)"}, "logo_url"),
        ({"logo_url": "https://"}, "logo_url"),
        ({"logo_url": "https:///logo.svg"}, "logo_url"),
        ({"logo_url": "https://[::1"}, "logo_url"),
        ({"title": ""}, "title"),
        ({"title": "x" * 61}, "title"),
        ({"position": "top"}, "position"),
        ({"theme": "pink"}, "theme"),
        ({"colour": "#123456"}, "colour"),
    ],
    ids=range(14),
)
def test_invalid_branding_is_rejected(alice: Caller, body: dict[str, Any], field: str) -> None:
    response = alice.patch("/v1/widget-settings", body)
    assert response.status_code == 400
    assert [error["field"] for error in response.get_json()["errors"]] == [field]
