"""The calls of keys in the Hub: on the page of a key, in the list, and before a revocation."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.hub.formatting import ago_seconds
from kataven.identity.principal import CredentialKind, Principal
from tests.hub.hub_browser import HubBrowser
from tests.hub.test_requests import KEYS, link, log, rows, text_of
from tests.support.app_harness import AppHarness
from tests.usage.test_recorder import observed

NOW = datetime.now(UTC)
HOUR_AGO = NOW - timedelta(hours=1, minutes=5)


def unused_key(harness: AppHarness, postgres: EmbeddedPostgres, name: str) -> UUID:
    """A key that no request has used, so that only the rows of usage count."""
    secret = harness.new_key("acme", name=name)
    engine = create_engine(postgres.url("acme"), poolclass=NullPool)
    with engine.connect() as connection:
        found: UUID = connection.execute(
            text("SELECT id FROM api_keys WHERE hint = :hint"), {"hint": secret[-8:]}
        ).scalar_one()
    return found


def caller(key_id: UUID) -> Principal:
    return Principal(CredentialKind.API_KEY, "acme", str(key_id), "")


def used(postgres: EmbeddedPostgres, key_id: UUID) -> None:
    """Five calls in the last minutes from two addresses, and three before."""
    who, now = caller(key_id), datetime.now(UTC).timestamp()
    log(
        postgres,
        *(observed(now - 10 - at, who, path="/v1/used", address="192.0.2.1") for at in range(4)),
        observed(now - 4, who, path="/v1/other", status=404, code="not_found", address="192.0.2.2", agent="node"),
        *(observed(now - 7200 - at, who, path="/v1/used", address="192.0.2.3") for at in range(3)),
        observed(now - 60, who, path="/v1/refused", status=403, code="forbidden", address="192.0.2.9"),
    )


def cells(page: str, caption: str) -> list[list[str]]:
    """The text of each row of the table with this caption."""
    body = page.partition(f"<caption>{caption}")[2].partition("<tbody>")[2].partition("</tbody>")[0]
    return [
        [text_of(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)]
        for row in body.split("</tr>")[:-1]
    ]


def hours_of(page: str) -> list[str]:
    """The rows of the table of the chart."""
    body = page.partition('class="figures"')[2].partition("<tbody>")[2].partition("</tbody>")[0]
    return [text_of(row) for row in body.split("</tr>")[:-1]]


@pytest.mark.parametrize("period", ["", "?period=day", "?period=week", "?period=nonsense"])
def test_page_of_a_key_shows_its_calls(
    harness: AppHarness, alice: HubBrowser, postgres: EmbeddedPostgres, period: str
) -> None:
    key_id = unused_key(harness, postgres, "Called")
    used(postgres, key_id)
    page = alice.get(f"{KEYS}/{key_id}{period}").text
    assert ("Calls in 24 hours, by hour" if "day" in period else "Calls in 7 days, by hour") in page
    words = text_of(page)
    assert "Refused 1 Invalid 1 Succeeded 7" in words
    assert "9 calls: succeeded 7, invalid 1, refused 1." in words
    addresses = cells(page, "Addresses, 48 hours")
    assert addresses[0] == ["192.0.2.2 node", "1", "just now"]
    assert sorted(row[0] for row in addresses) == [
        "192.0.2.1 curl", "192.0.2.2 node", "192.0.2.3 curl", "192.0.2.9 curl"
    ]  # fmt: skip
    assert cells(page, "Routes")[0] == ["GET /v1/used", "7"]
    assert len(cells(page, "Latest requests")) == 8
    assert "style=" not in page


def test_each_hour_leads_to_its_requests(harness: AppHarness, alice: HubBrowser, postgres: EmbeddedPostgres) -> None:
    key_id = unused_key(harness, postgres, "By hour")
    now = datetime.now(UTC)
    hour = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    log(
        postgres,
        observed(hour.timestamp() + 180, caller(key_id), path="/v1/at-03", address="192.0.2.33"),
        observed(hour.timestamp() + 3600, caller(key_id), path="/v1/later"),
        observed(now.timestamp() - 72 * 3600, caller(key_id), path="/v1/before"),
    )
    page = alice.get(f"{KEYS}/{key_id}").text
    chosen = html.unescape(page.partition('class="over"')[2].partition("</div>")[0])
    paths = re.findall(r'<a tabindex="-1" href="([^"]+)" title="([^"]+)"', chosen)
    assert [title for _, title in paths] == [f"{at:%Y-%m-%d %H:%M} UTC: 1" for at in (hour, hour + timedelta(hours=1))]
    assert len(hours_of(page)) == 3, "the table has the hours without a log as well"
    found = rows(alice.get(paths[0][0]).text)
    assert len(found) == 1
    assert "GET /v1/at-03" in found[0]
    assert "192.0.2.33" in found[0]


def test_members_see_counts_but_no_addresses(harness: AppHarness, bob: HubBrowser, postgres: EmbeddedPostgres) -> None:
    key_id = unused_key(harness, postgres, "Seen by members")
    used(postgres, key_id)
    for path in (f"{KEYS}/{key_id}", KEYS, f"{KEYS}?q=Seen+by+members"):
        page = bob.get(path).text
        assert "192.0.2." not in page
        assert "Seen by members" in page
    page = bob.get(f"{KEYS}/{key_id}").text
    assert "Succeeded <b>7</b>" in page
    assert cells(page, "Latest requests") != []


def test_key_without_calls_has_no_chart(harness: AppHarness, alice: HubBrowser, postgres: EmbeddedPostgres) -> None:
    key_id = unused_key(harness, postgres, "Silent")
    page = alice.get(f"{KEYS}/{key_id}").text
    assert "No calls in 7 days." in page
    assert 'class="drawing"' not in page


def test_list_shows_the_last_day_of_each_key_and_its_last_call(
    harness: AppHarness, alice: HubBrowser, postgres: EmbeddedPostgres
) -> None:
    name = f"Spark {uuid4().hex[:8]}"
    key_id = unused_key(harness, postgres, name)
    used(postgres, key_id)
    page = alice.get(f"{KEYS}?q={name.replace(' ', '+')}").text
    assert re.search(r'<svg class="spark"[^>]*><title>9 calls in 24 hours, most at \d\d:00 UTC: [3-6]</title>', page)
    assert "from 192.0.2.2" in page
    assert "GET /v1/other" in page
    table = page.partition('<table class="hours"')[2].partition("</table>")[0]
    assert len(re.findall(r"<th scope=\"col\">\d\d</th>", table)) == 24
    assert sum(int(calls) for calls in re.findall(r"<td>(\d+)</td>", table)) == 9


# Before a revocation


def test_revocation_shows_what_it_would_stop(
    harness: AppHarness, alice: HubBrowser, postgres: EmbeddedPostgres
) -> None:
    key_id = unused_key(harness, postgres, "In use")
    used(postgres, key_id)
    page = alice.get(f"{KEYS}/{key_id}/revoke").text
    words = text_of(page)
    assert re.search(
        r"In use: 3 addresses in the last hour, 5 calls , mostly GET /v1/used; the last one \d+ seconds? ago\.", words
    )
    assert cells(page, "Addresses of the last hour")[0][0] == "192.0.2.2 node"
    assert cells(page, "Routes, last 24 hours") == [["GET /v1/used", "7"], ["GET /v1/other", "1"]]
    assert rows(alice.get(link(page, "5 calls")).text) != []
    refused = alice.post(f"{KEYS}/{key_id}/revoke", {})
    assert refused.status_code == 400
    assert "Enter the name of the key to revoke it" in refused.text
    assert "In use: " in refused.text
    assert alice.post(f"{KEYS}/{key_id}/revoke", {"confirm": "In use"}).status_code == 303


def test_unused_key_is_revoked_with_one_press(
    harness: AppHarness, alice: HubBrowser, postgres: EmbeddedPostgres
) -> None:
    key_id = unused_key(harness, postgres, "Not in use")
    page = alice.get(f"{KEYS}/{key_id}/revoke").text
    assert "Not in use: the key was never used." in page
    assert 'name="confirm"' not in page
    assert alice.post(f"{KEYS}/{key_id}/revoke", {}).status_code == 303


def test_refused_calls_are_no_use(harness: AppHarness, alice: HubBrowser, postgres: EmbeddedPostgres) -> None:
    key_id = unused_key(harness, postgres, "Only refused")
    log(
        postgres,
        observed(datetime.now(UTC).timestamp() - 30, caller(key_id), status=403, code="address_not_allowed"),
    )
    words = text_of(alice.get(f"{KEYS}/{key_id}/revoke").text)
    assert re.search(
        r"Not in use: no call was accepted in the last 24 hours\. The last call was GET /v1/agents from 192\.0\.2\.1, "
        r"\d+ seconds? ago, and was refused\.",
        words,
    )
    assert alice.post(f"{KEYS}/{key_id}/revoke", {}).status_code == 303


def test_use_within_the_day_but_not_the_hour_needs_the_name(
    harness: AppHarness, alice: HubBrowser, postgres: EmbeddedPostgres
) -> None:
    """A nightly job is a use."""
    key_id = unused_key(harness, postgres, "Nightly")
    log(postgres, observed(HOUR_AGO.timestamp() - 3600, caller(key_id), path="/v1/nightly"))
    words = text_of(alice.get(f"{KEYS}/{key_id}/revoke").text)
    assert "In use: no call in the last hour, 1 call in the last 24 hours, mostly GET /v1/nightly" in words
    assert alice.post(f"{KEYS}/{key_id}/revoke", {}).status_code == 400


def test_revocation_of_several_keys_lists_the_use_of_each(
    harness: AppHarness, alice: HubBrowser, postgres: EmbeddedPostgres
) -> None:
    ids = [unused_key(harness, postgres, f"Bulk {number}") for number in range(3)]
    used(postgres, ids[1])
    page = alice.get(f"{KEYS}/bulk?action=revoke&" + "&".join(f"ids={one}" for one in ids)).text
    assert "1 key was used in the last 24 hours: 8 calls." in text_of(page)
    assert "GET /v1/other from 192.0.2.2" in page
    form = {"action": "revoke", "keys": " ".join(str(one) for one in ids)}
    assert alice.post(f"{KEYS}/bulk", form).status_code == 400
    unused = {"action": "revoke", "keys": f"{ids[0]} {ids[2]}"}
    assert alice.post(f"{KEYS}/bulk", unused).status_code == 303


def test_recent_times_have_seconds() -> None:
    for seconds, words in ((0, "just now"), (1, "1 second ago"), (59, "59 seconds ago"), (61, "1 minute ago")):
        assert ago_seconds(NOW - timedelta(seconds=seconds), NOW) == words
    assert ago_seconds(NOW + timedelta(seconds=5), NOW) == "in a moment"
