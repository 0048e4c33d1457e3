"""The page of a receipt: the times of the workers, what did not respond, the refused calls since, and links to it."""

from __future__ import annotations

import html
import json
import re
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.personas import ALICE
from kataven.hub import charts
from tests.hub.hub_browser import HubBrowser
from tests.hub.test_requests import KEYS, flush, link, new_key, rows, text_of
from tests.support.app_harness import AppHarness

NAME = "Ends with a receipt"
EVENT = """
INSERT INTO audit_events (id, actor, actor_name, action, target, detail, address)
VALUES (CAST(:id AS uuid), :actor, 'Alice', :action, :target, CAST(:detail AS jsonb), '198.51.100.7')
"""
CONFIRMED = {"workers": 3, "acknowledged": 3, "ms": 4.2}
TIMES = [
    {"worker": "aaaa", "heard_ms": 0.4, "forgotten_ms": 1.1},
    {"worker": "bbbb", "heard_ms": 0.5, "forgotten_ms": 12.6},
    {"worker": "cccc", "heard_ms": 0.6, "forgotten_ms": 2.0},
]


def stored(postgres: EmbeddedPostgres, detail: dict[str, Any], **event: str) -> str:
    """The path of a receipt in the audit log of acme."""
    values = {"id": str(uuid4()), "actor": "jwt:alice", "action": "api_key.revoked", "target": str(uuid4()), **event}
    engine = create_engine(postgres.url("acme"), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(EVENT), {**values, "detail": json.dumps({"name": "Old <server>", **detail})})
    return f"/receipts/{values['id']}"


def revoked(alice: HubBrowser, path: str, name: str) -> str:
    """Revoke the key in the Hub. Returns the link of the notice."""
    alice.get(f"{path}/revoke")
    assert alice.post(f"{path}/revoke", {"confirm": name}).status_code == 303
    return link(alice.get(KEYS).text, "View receipt")


def workers(page: str) -> list[str]:
    """The rows of the workers' table."""
    body = page.partition('class="workers"')[2].partition("<tbody>")[2].partition("</tbody>")[0]
    return [text_of(row) for row in body.split("</tr>")[:-1]]


def test_notice_after_a_revocation_leads_to_its_receipt(harness: AppHarness, alice: HubBrowser) -> None:
    key_id, _ = new_key(harness, name=NAME)
    harness.new_key("acme")
    path = revoked(alice, f"{KEYS}/{key_id}", NAME)
    page = alice.get(path).text
    words = text_of(page)
    assert f"Revoked {NAME}" in words
    assert "No worker accepts it any more" in words
    assert re.search(r"Workers confirmed (\d) of \1 Slowest worker [\d.]+ ms, target 10 ms Confirmed after", words)
    assert f'href="{KEYS}/{key_id}"' in page
    body = alice.get(f"{path}/json")
    assert body.headers["Content-Disposition"] == f'attachment; filename="receipt-{path.rpartition("/")[2]}.json"'
    of_api = harness.user(ALICE).get(f"/v1{path}")
    assert body.data == of_api.data
    assert len(workers(page)) == len(of_api.get_json()["times"])


def test_notice_after_a_pause_leads_to_its_receipt(harness: AppHarness, alice: HubBrowser) -> None:
    key_id, _ = new_key(harness, name="Paused server")
    path = f"{KEYS}/{key_id}"
    alice.get(path)
    alice.post(f"{path}/pause", {})
    words = text_of(alice.get(link(alice.get(path).text, "View receipt")).text)
    assert "Paused Paused server" in words
    assert "No worker accepts it any more" in words
    alice.post(f"{path}/resume", {})
    notice = alice.get(path).text
    assert "Resumed “Paused server”" in notice
    assert "View receipt" not in notice, "a resumption ends no access, so its receipt is not stored"


def test_timeline_of_a_key_leads_to_each_receipt(harness: AppHarness, alice: HubBrowser) -> None:
    key_id, _ = new_key(harness, name=NAME)
    path = revoked(alice, f"{KEYS}/{key_id}", NAME)
    timeline = alice.get(f"{KEYS}/{key_id}").text.partition("Timeline")[2]
    assert f'<a href="{path}">Receipt' in timeline


def test_receipt_of_several_keys_lists_all_of_them(harness: AppHarness, alice: HubBrowser) -> None:
    ids = [str(new_key(harness, name=f"Together {number}")[0]) for number in range(3)]
    alice.get(f"{KEYS}/bulk?action=revoke&" + "&".join(f"ids={one}" for one in ids))
    alice.post(f"{KEYS}/bulk", {"action": "revoke", "keys": " ".join(ids), "confirm": "revoke"})
    page = alice.get(link(alice.get(KEYS).text, "View receipt")).text
    assert "This receipt also covers 2 other keys" in page
    assert all(f"Together {number}" in page for number in range(3))


def test_refused_calls_since_lead_to_the_requests(harness: AppHarness, alice: HubBrowser) -> None:
    key_id, secret = new_key(harness, name=NAME)
    caller = harness.bearer(secret)
    path = revoked(alice, f"{KEYS}/{key_id}", NAME)
    assert "No call was refused because of this change" in alice.get(path).text
    for _ in range(2):
        assert caller.get("/v1/agents").get_json()["code"] == "revoked_credential"
    flush(harness)
    page = alice.get(path).text
    words = text_of(page)
    assert "2 calls were refused because of this change: a program still sends the credential." in words
    assert "The last one was GET /v1/agents from 127.0.0.1 (Werkzeug)" in words
    found = alice.get(link(page, "View the refused requests")).text
    assert len(rows(found)) == 2
    assert "revoked_credential" in found


def test_workers_are_listed_slowest_first_with_the_target(alice: HubBrowser, postgres: EmbeddedPostgres) -> None:
    page = alice.get(stored(postgres, {"receipt": CONFIRMED, "times": TIMES})).text
    assert workers(page) == ["bbbb 0.5 12.6 over 10 ms", "cccc 0.6 2.0", "aaaa 0.4 1.1"]
    assert "Old &lt;server&gt;" in page
    assert "Slowest worker 12.6 ms, target 10 ms" in text_of(page)
    assert "style=" not in page


@pytest.mark.parametrize(
    ("detail", "words"),
    [
        (
            {"receipt": {"workers": 3, "acknowledged": 2, "ms": 10104.7, "lapsed": 1}, "times": TIMES[:2]},
            "1 worker did not respond. The change was confirmed after its lease had expired",
        ),
        (
            {"receipt": {"workers": 4, "acknowledged": 0, "ms": 5012.4, "lapsed": 4, "redis": "unreachable"}},
            "Redis was unreachable. The workers were notified through the system database",
        ),
        (
            {"receipt": {"workers": 2, "acknowledged": 2, "ms": 900.0, "redis": "split"}},
            "Two Redis servers were in use for a time",
        ),
        ({"receipt": {"workers": 0, "acknowledged": 0, "ms": 1.0}}, "No worker was running"),
        ({"receipt": CONFIRMED}, "The times of the workers are unknown"),
        ({"receipt": CONFIRMED, "times": TIMES[:2]}, "1 worker confirmed without a time"),
        (
            {"receipt": CONFIRMED, "times": [{"worker": 1}, {"heard_ms": "x", "forgotten_ms": 1}]},
            "times of the workers",
        ),
        ({"receipt": CONFIRMED, "times": "none"}, "The times of the workers are unknown"),
    ],
)
def test_what_did_not_respond_is_explained(
    alice: HubBrowser, postgres: EmbeddedPostgres, detail: dict[str, Any], words: str
) -> None:
    page = alice.get(stored(postgres, detail))
    assert page.status_code == 200
    assert words in text_of(page.text)


def test_receipts_of_other_changes_are_shown(alice: HubBrowser, postgres: EmbeddedPostgres) -> None:
    for action, expected in (
        ("person.blocked", 'Ended the access of <a href="/people">'),
        ("widget_key.removed", "Deleted <bdi>"),
        ("of.another.release", "of.another.release <bdi>"),
        ("api_key.rotated", "Rotated <a href"),
    ):
        page = alice.get(stored(postgres, {"receipt": CONFIRMED}, action=action, actor="operator:cli"))
        assert page.status_code == 200
        assert expected in page.text
        assert "operator:cli" in page.text


def test_only_owners_and_admins_see_receipts_that_exist(
    alice: HubBrowser, bob: HubBrowser, postgres: EmbeddedPostgres
) -> None:
    path, without = stored(postgres, {"receipt": CONFIRMED}), stored(postgres, {})
    assert bob.get(path).status_code == bob.get(f"{path}/json").status_code == 403
    for unknown in (without, f"/receipts/{uuid4()}", "/receipts/unknown", f"/receipts/{uuid4()}/json"):
        assert alice.get(unknown).status_code == 404


def test_key_whose_name_looks_like_a_receipt_adds_no_link(harness: AppHarness, alice: HubBrowser) -> None:
    key_id, _ = new_key(harness, name=f"x /receipts/{uuid4()} <b>")
    path = f"{KEYS}/{key_id}"
    alice.get(path)
    alice.post(f"{path}/pause", {})
    page = alice.get(path).text
    assert page.count("View receipt") == 1
    assert "&lt;b&gt;" in page
    assert html.unescape(link(page, "View receipt")) != path


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), max_size=20))
def test_bars_of_workers_fit_the_scale(times: list[tuple[float, float]]) -> None:
    chart = charts.workers([{"worker": "w", "heard_ms": one, "forgotten_ms": other} for one, other in times])
    assert [bar.forgotten_ms for bar in chart.bars] == sorted((other for _, other in times), reverse=True)
    assert 0 < chart.target_x <= 80
    for bar in chart.bars:
        assert min(bar.heard_width, bar.forgotten_width) >= 0
        assert bar.heard_width + bar.forgotten_width == pytest.approx(100 * bar.forgotten_ms / chart.scale_ms)
        assert bar.heard_width + bar.forgotten_width <= 100.001
        assert bar.is_late == (bar.forgotten_ms > charts.TARGET_MS)
