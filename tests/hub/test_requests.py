"""The pages of the request log: filters, pages, what members see, and the explanation of one request."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.hub.pages.requests.request_list import PAGE_SIZE
from kataven.identity.people import Person
from kataven.identity.principal import CredentialKind, Principal
from kataven.usage import pending, store
from kataven.usage.observed import Observed
from kataven.usage.pending import PendingUsage
from kataven.usage.policy import UsagePolicy
from tests.hub.hub_browser import HubBrowser
from tests.support.app_harness import AppHarness
from tests.support.waiting import wait_until
from tests.usage.test_recorder import observed

LIVE = {"HX-Request": "true"}
KEYS = "/settings/api-keys"
ALL = UsagePolicy(successes=1000)


def flush(harness: AppHarness) -> None:
    assert harness.services.usage is not None
    harness.services.usage.flush()


def new_key(harness: AppHarness, **columns: Any) -> tuple[UUID, str]:
    secret = harness.new_key("acme", **columns)
    return UUID(harness.bearer(secret).get("/v1/me").get_json()["credential"]["id"]), secret


def log(postgres: EmbeddedPostgres, *requests: Observed) -> None:
    """Write requests as a worker does."""
    pending = PendingUsage(ALL)
    for request in sorted(requests, key=lambda request: request[0]):
        pending.add(request)
    engine = create_engine(postgres.url("acme"), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with Session(engine) as session:
        assert store.write(session, pending.take(str(uuid4()), 1))


def rows(page: str) -> list[str]:
    """The text of each row of the table."""
    body = page.partition('<tbody role="rowgroup">')[2].partition("</tbody>")[0]
    return [text_of(row) for row in body.split("</tr>")[:-1]]


def text_of(markup: str) -> str:
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", markup).split()))


def link(page: str, words: str) -> str:
    found = re.search(rf'<a href="([^"]+)"[^>]*>{words}</a>', page)
    assert found, page
    return html.unescape(found[1])


def test_requests_are_listed_newest_first_with_caller_and_address(
    harness: AppHarness, alice: HubBrowser, postgres: EmbeddedPostgres
) -> None:
    key_id, _ = new_key(harness, name="Billing & <co>")
    caller = Principal(CredentialKind.API_KEY, "acme", str(key_id), "an earlier name")
    at = datetime.now(UTC) - timedelta(minutes=5)
    log(
        postgres,
        observed(at.timestamp(), caller, path="/v1/listed", address="192.0.2.77"),
        observed(at.timestamp() + 61, caller, path="/v1/listed", status=404, code="not_found"),
    )
    page = alice.get("/requests?route=GET+/v1/listed").text
    later, earlier = rows(page)
    assert later.startswith(f"{at + timedelta(seconds=61):%b %d %H:%M:%S} GET /v1/listed 404 not_found Billing & <co>")
    assert earlier.startswith(f"{at:%b %d %H:%M:%S} GET /v1/listed 200 Billing & <co> 192.0.2.77 curl")
    assert f'href="{KEYS}/{key_id}"' in page


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        ("", 3),
        ("outcome=ok", 1),
        ("outcome=limited", 1),
        ("outcome=nonsense", 3),
        ("code=insufficient_scope", 1),
        ("address=192.0.2.9", 1),
        ("address=2001:DB8::0001", 1),
        ("since={minute:%Y-%m-%dT%H:%M}", 2),
        ("until={minute:%Y-%m-%dT%H:%M}", 1),
        ("since={minute:%Y-%m-%dT%H:%M}&until={next:%Y-%m-%dT%H:%M}", 1),
        ("caller={key}", 3),
        ("caller=Filtered+{mark}", 3),
        ("caller=filtered+{mark}", 3),
        ("caller={mark}", 3),
        ("caller=nobody+has+this", 0),
        ("caller=%25", 0),
        ("caller=9c5b94b1-35ad-49bb-b118-8e8fc24abf80", 0),
    ],
)
def test_filters(harness: AppHarness, alice: HubBrowser, postgres: EmbeddedPostgres, query: str, matches: int) -> None:
    mark = uuid4().hex[:12]
    key_id, _ = new_key(harness, name=f"Filtered {mark}")
    caller = Principal(CredentialKind.API_KEY, "acme", str(key_id), "")
    minute = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=10)
    path = f"/v1/{mark}"
    log(
        postgres,
        observed(minute.timestamp() - 1, caller, path=path, address="192.0.2.9"),
        observed(minute.timestamp(), caller, path=path, status=429, code="rate_limited", address="2001:db8::1"),
        observed(minute.timestamp() + 60, caller, path=path, status=403, code="insufficient_scope"),
    )
    asked = query.format(key=key_id, mark=mark, minute=minute, next=minute + timedelta(minutes=1))
    page = alice.get(f"/requests?route=GET+{path}&{asked}")
    assert page.status_code == 200
    assert len(rows(page.text)) == matches
    assert ("No requests found" in page.text) is (matches == 0)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("since=yesterday", "From (UTC) must be a date and a time"),
        ("until=2026-02-31T00:00", "Until (UTC) must be a date and a time"),
        ("since=2026-01-02T00:00&until=2026-01-01T00:00", "Until (UTC) must be after the start"),
        ("address=next+door", "Address must be an IP address, such as 203.0.113.7"),
    ],
)
def test_wrong_filter_is_reported_with_its_field(alice: HubBrowser, query: str, message: str) -> None:
    page = alice.get(f"/requests?{query}")
    assert page.status_code == 400
    assert "<title>Error: Requests" in page.text
    assert html.escape(message, quote=False) in page.text
    assert rows(page.text) == []
    assert "hx-get" not in page.text, "an update would ignore the filter"
    assert alice.get(f"/requests?{query}&part=rows", headers=LIVE).status_code == 204


def test_list_has_pages_and_each_request_leads_back_to_its_row(
    harness: AppHarness, alice: HubBrowser, postgres: EmbeddedPostgres
) -> None:
    key_id, _ = new_key(harness)
    caller = Principal(CredentialKind.API_KEY, "acme", str(key_id), "")
    start = (datetime.now(UTC) - timedelta(minutes=30)).timestamp()
    every = [
        observed(start + at, caller, path="/v1/paged", status=404, code="not_found") for at in range(PAGE_SIZE + 7)
    ]
    log(postgres, *every)
    first = alice.get("/requests?route=GET+/v1/paged").text
    assert len(rows(first)) == PAGE_SIZE
    second = alice.get(link(first, "Older requests")).text
    assert len(rows(second)) == 7
    assert "Older requests" not in second
    assert rows(alice.get(link(second, "Newer requests")).text) == rows(first)

    row = re.search(r'<a id="(r-[^"]+)" href="([^"]+)"', first)
    assert row
    page = alice.get(html.unescape(row[2])).text
    log(postgres, observed(start + 900, caller, path="/v1/paged", status=404, code="not_found"))
    back = link(page.partition("Breadcrumb")[2], "Requests")
    assert back.endswith(f"#{row[1]}")
    assert rows(alice.get(back).text) == rows(first), "requests since then have not moved the row"


def test_newest_page_refreshes_its_rows_and_only_if_there_are_others(
    harness: AppHarness, alice: HubBrowser, postgres: EmbeddedPostgres
) -> None:
    key_id, _ = new_key(harness)
    caller = Principal(CredentialKind.API_KEY, "acme", str(key_id), "")
    now = datetime.now(UTC).timestamp()
    log(postgres, observed(now - 10, caller, path="/v1/live"))
    page = alice.get("/requests?route=GET+/v1/live").text
    refresh = re.search(r'hx-get="([^"]+)" hx-trigger="every 5s"', page)
    assert refresh
    part = html.unescape(refresh[1])
    assert alice.get(part, headers=LIVE).status_code == 204
    log(postgres, observed(now - 5, caller, path="/v1/live", status=500, code="internal_error"))
    fresh = alice.get(part, headers=LIVE)
    assert [row.split()[4:6] for row in rows(fresh.text)] == [["/v1/live", "500"], ["/v1/live", "200"]]
    assert "<html" not in fresh.text
    paused = alice.get(link(page, "Pause")).text
    assert "hx-get" not in paused
    assert "htmx" not in paused.partition("<script")[2], "the script is loaded only by pages that use it"
    assert len(rows(paused)) == 1
    assert len(rows(alice.get(link(paused, "Newest requests")).text)) == 2


def test_page_states_what_the_log_does_not_contain(alice: HubBrowser) -> None:
    words = text_of(alice.get("/requests").text)
    for part in (
        "Requests to the API of the last 24 hours, up to 10,000",
        "Refused and failed requests, up to 600 per minute and worker, and 120 per caller",
        "the first of each key, route and address in a minute, and 30 more per minute and worker",
        "requests without a valid credential, because their account is unknown, and pages of the Hub",
    ):
        assert part in words
    # Other tests of this account can have sent more requests than the log keeps.
    assert ("No request of the last 24 hours was dropped" in words) != ("Missing from the last 24 hours" in words)


def test_members_see_neither_addresses_nor_users(
    harness: AppHarness, alice: HubBrowser, bob: HubBrowser, postgres: EmbeddedPostgres
) -> None:
    key_id, _ = new_key(harness, name="Visible to members")
    person = Person("https://issuer.example", "someone-in-particular")
    user = Principal(CredentialKind.JWT, "acme", person.sub, "Someone In Particular", person=str(person.id))
    key = Principal(CredentialKind.API_KEY, "acme", str(key_id), "")
    now = datetime.now(UTC).timestamp()
    request_id, of_user = uuid4().hex, uuid4().hex
    log(
        postgres,
        observed(now - 9, user, path="/v1/private", address="198.51.100.99", status=403, request_id=of_user),
        observed(now - 8, key, path="/v1/private", address="198.51.100.98", request_id=request_id, agent="acme-bot/1"),
    )
    for path in ("/requests?route=GET+/v1/private", f"/requests/{request_id}"):
        assert "198.51.100.98" in alice.get(path).text
        page = bob.get(path)
        assert page.status_code == 200
        assert "198.51.100" not in page.text
        assert "Someone In Particular" not in page.text
        assert "acme-bot" in alice.get(path).text or "?" in path, "the list has no user agents"
        assert "acme-bot" not in page.text
    assert "Visible to members" in bob.get("/requests?route=GET+/v1/private").text
    assert "A user" in bob.get("/requests?route=GET+/v1/private").text
    assert "Someone In Particular" in alice.get("/requests?route=GET+/v1/private").text
    assert str(person.id) in alice.get(f"/requests/{of_user}").text
    assert str(person.id) not in bob.get(f"/requests/{of_user}").text, "the id would link the requests of a user"
    # Filters reveal nothing, either.
    assert len(rows(bob.get("/requests?route=GET+/v1/private&address=10.0.0.1").text)) == 2
    assert rows(bob.get(f"/requests?route=GET+/v1/private&caller={person.id}").text) == []
    assert rows(bob.get("/requests?route=GET+/v1/private&caller=Someone+In+Particular").text) == []
    assert len(rows(alice.get(f"/requests?route=GET+/v1/private&caller={person.id}").text)) == 1


def test_form_keeps_its_filters(harness: AppHarness, alice: HubBrowser) -> None:
    key_id, _ = new_key(harness, name="Kept in the form")
    flush(harness)
    page = alice.get(
        f"/requests?caller={key_id}&outcome=refused&route=GET+/v1/me&code=never_seen&since=2026-01-01T00:00"
    )
    form = page.text.partition('aria-label="Filter requests"')[2].partition("</form>")[0]
    assert f'name="caller" value="{key_id}"' in form
    assert 'name="outcome" value="refused"' in form
    assert 'value="2026-01-01T00:00"' in form
    assert "Kept in the form" in form
    assert '<option value="GET /v1/me" selected>' in page.text
    assert '<option value="never_seen" selected>' in page.text


# One request


def test_request_id_leads_to_the_limit_of_the_key_and_to_its_form(harness: AppHarness, alice: HubBrowser) -> None:
    key_id, secret = new_key(harness, name="Busy server", limits={"per_minute": 2})
    caller = harness.bearer(secret)
    answers = [caller.get("/v1/agents") for _ in range(2)]
    refused = answers[-1]
    assert refused.status_code == 429
    flush(harness)
    found = alice.get(f"/requests?find=+{refused.headers['X-Request-ID']}+")
    assert found.status_code == 303
    page = alice.get(found.location)
    words = text_of(page.text)
    assert "The limit of the API key was reached 2 requests per minute of Busy server : none was left." in words
    assert re.search(r"would have been accepted from \w{3} \d\d \d\d:\d\d:\d\d UTC, \d+ seconds? later", words)
    assert f'href="{KEYS}/{key_id}/edit#per_minute"' in page.text
    assert 'id="per_minute"' in alice.get(f"{KEYS}/{key_id}/edit").text
    assert 'href="/docs/errors#rate_limited"' in page.text
    steps = re.findall(r'<li class="(\w+)"><b>(\w+)</b>', page.text.partition('class="pipeline"')[2])
    assert steps == [
        ("passed", "Edge"),
        ("passed", "Credential"),
        ("passed", "Principal"),
        ("passed", "Account"),
        ("passed", "Access"),
        ("decided", "Limits"),
        ("not_reached", "Handler"),
        ("not_reached", "Response"),
    ]


def test_revoked_key_is_explained_with_a_link_to_its_page(harness: AppHarness, alice: HubBrowser) -> None:
    key_id, secret = new_key(harness, name="Revoked server")
    alice.get(f"{KEYS}/{key_id}")
    alice.post(f"{KEYS}/{key_id}/pause", {})
    refused = harness.bearer(secret).get("/v1/agents")
    assert refused.get_json()["code"] == "paused_credential"
    flush(harness)
    page = alice.get(f"/requests/{refused.headers['X-Request-ID']}").text
    words = text_of(page)
    assert "403 paused_credential" in words
    assert "can resume it, in the Hub" in words
    assert "Principal decided" in words
    assert "UTC by Alice : View the receipt" in words
    assert "Paused Revoked server" in text_of(alice.get(link(page, "View the receipt")).text)
    assert f'href="{KEYS}/{key_id}"' in page


def test_successful_request_is_explained(
    harness: AppHarness, alice: HubBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Other tests can have used up the account's sample of this minute.
    monkeypatch.setattr(pending, "MAX_FIRST_A_MINUTE", 10_000)
    _, secret = new_key(harness)
    done = harness.bearer(secret).get("/v1/agents")
    path = f"/requests/{done.headers['X-Request-ID']}"

    def is_explained() -> bool:
        flush(harness)  # on a busy machine, a write can fail, and the next one repeats it
        return alice.get(path).status_code == 200

    wait_until(is_explained, 60)
    words = text_of(alice.get(path).text)
    assert "The request succeeded All eight steps passed" in words
    assert "Response decided 200: the response was sent after" in words
    assert "Requests per minute the account" in words


def test_unknown_request_id_lists_the_reasons(alice: HubBrowser) -> None:
    for given in ("unknown", str(uuid4()), "%3Cb%3E", "%00", "x" * 400):
        page = alice.get(f"/requests/{given}")
        assert page.status_code == 404, given
        assert "older than 24 hours" in page.text
        assert "<b>" not in page.text
    assert alice.get("/requests?find=a/b%3Fc").location.endswith("/requests/a%2Fb%3Fc")


def test_requests_of_the_caller_at_that_time_are_one_press_away(
    harness: AppHarness, alice: HubBrowser, postgres: EmbeddedPostgres
) -> None:
    key_id, _ = new_key(harness)
    caller = Principal(CredentialKind.API_KEY, "acme", str(key_id), "")
    at = datetime.now(UTC).replace(second=30, microsecond=0) - timedelta(minutes=20)
    request_id = uuid4().hex
    log(
        postgres,
        observed(at.timestamp() - 300, caller, path="/v1/around"),
        observed(at.timestamp(), caller, path="/v1/around", request_id=request_id),
        observed(at.timestamp() + 30, caller, path="/v1/other"),
    )
    page = alice.get(f"/requests/{request_id}").text
    assert len(rows(alice.get(link(page, "Requests of this caller at that time")).text)) == 2


def test_expired_requests_are_not_found(harness: AppHarness, alice: HubBrowser, postgres: EmbeddedPostgres) -> None:
    key_id, _ = new_key(harness)
    caller = Principal(CredentialKind.API_KEY, "acme", str(key_id), "")
    old, request_id = datetime.now(UTC) - timedelta(hours=24, seconds=5), uuid4().hex
    log(postgres, observed(old.timestamp(), caller, path="/v1/old", request_id=request_id))
    assert rows(alice.get("/requests?route=GET+/v1/old").text) == []
    assert alice.get(f"/requests/{request_id}").status_code == 404
