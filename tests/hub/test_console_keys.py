"""The console's pages for the API keys of an account: search, create once, revoke with a receipt."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kataven.dev.personas import ALICE
from kataven.operations import keys
from kataven.operations.operator import Operator
from kataven.system import operators
from kataven.system.errors import SystemDatabaseUnavailable
from tests.hub.conftest import Hub
from tests.hub.forms import forms_of
from tests.hub.hub_browser import HubBrowser
from tests.support.app_harness import AppHarness, new_account

ACCOUNT = "console-keys"
PAGE = f"/console/accounts/{ACCOUNT}/keys"


@pytest.fixture(scope="module")
def operator(harness: AppHarness) -> Operator:
    new_account(harness.services, ACCOUNT)
    return Operator("test", harness.services)


def created_by(olivia: HubBrowser, **fields: str) -> Any:
    form = forms_of(olivia.get(PAGE).text)[PAGE]
    return olivia.post(PAGE, {**form.fields, "name": "From the console", "expiry": "never", **fields})


def events(harness: AppHarness, action: str) -> list[dict[str, Any]]:
    with harness.services.directory.database.reading() as session:
        found = operators.listing(session, 10, account=ACCOUNT, action=action)
        return [{"actor": event.actor, **event.detail} for event in found]


def test_account_page_links_to_its_keys(operator: Operator, olivia: HubBrowser) -> None:
    assert f'href="{PAGE}"' in olivia.get(f"/console/accounts/{ACCOUNT}").text


def test_key_is_shown_once_and_works(harness: AppHarness, operator: Operator, olivia: HubBrowser) -> None:
    page = created_by(olivia, name="Made by Olivia")
    assert page.status_code == 201
    secret = re.search(r"sk_live_[\w-]+", page.text)
    assert secret is not None
    assert harness.bearer(secret[0]).get("/v1/me").get_json()["account"] == ACCOUNT
    assert page.headers["Cache-Control"] == "no-store"
    assert f'href="{PAGE}">Done' in page.text
    listed = olivia.get(PAGE).text
    assert "Made by Olivia" in listed
    assert secret[0] not in listed
    event = events(harness, keys.CREATED)[0]
    assert (event["actor"], event["name"]) == ("jwt:olivia", "Made by Olivia")


def test_form_that_is_submitted_twice_creates_one_key(
    harness: AppHarness, operator: Operator, olivia: HubBrowser
) -> None:
    form = forms_of(olivia.get(PAGE).text)[PAGE]
    fields = {**form.fields, "name": "Once", "expiry": "never"}
    assert olivia.post(PAGE, fields).status_code == 201
    again = olivia.post(PAGE, fields)
    assert (again.status_code, "This key was already shown" in again.text) == (409, True)
    assert f'href="{PAGE}"' in again.text
    assert len(keys.listing(operator, ACCOUNT, 50, text="Once").rows) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"name": ""}, "Enter a name"), ({"expiry": "forever"}, "Choose an expiry from the list"), ({"name": "x\ny"}, "")],
)
def test_invalid_form_shows_an_error(
    operator: Operator, olivia: HubBrowser, fields: dict[str, str], message: str
) -> None:
    page = created_by(olivia, **fields)
    assert page.status_code == 400
    assert message in page.text


def test_expiry_above_the_policy_and_a_suspended_account_are_refused(
    harness: AppHarness, operator: Operator, olivia: HubBrowser
) -> None:
    new_account(harness.services, "console-limited")
    path = "/console/accounts/console-limited"
    olivia.get(path)
    olivia.post(f"{path}/policy", {"max_days": "30"})
    page = olivia.get(f"{path}/keys")
    assert "This account limits expiry to 30 days." in page.text
    fields = forms_of(page.text)[f"{path}/keys"].fields | {"name": "x"}
    refused = olivia.post(f"{path}/keys", {**fields, "expiry": "1y"})
    assert (refused.status_code, "Expiry must be 30 days or less" in refused.text) == (400, True)
    olivia.post(f"{path}/suspend", {"confirm": "console-limited"})
    refused = olivia.post(f"{path}/keys", {**fields, "expiry": "30d"})
    assert (refused.status_code, "is suspended" in refused.text) == (400, True)


def test_revoking_shows_the_receipt_and_rejects_the_key(
    harness: AppHarness, operator: Operator, olivia: HubBrowser
) -> None:
    created = keys.create(operator, ACCOUNT, "Leaked")
    caller = harness.bearer(created.text)
    assert caller.get("/v1/me").status_code == 200
    path = f"{PAGE}/{created.key.id}"
    page = olivia.get(path).text
    assert "Revoke “Leaked”" in page
    [action] = [action for action in forms_of(page) if action.startswith(PAGE) and action.endswith("/revoke")]
    assert olivia.post(action, {}).status_code == 303
    assert caller.get("/v1/me").get_json()["code"] == "revoked_credential"
    shown = olivia.get(path).text
    assert re.search(r"Revoked “Leaked” \(…\w{8}\): .* workers", shown)
    assert "by operator:olivia" in shown
    assert action not in forms_of(shown), "a revoked key has no button"
    event = events(harness, keys.REVOKED)[0]
    assert (event["actor"], event["key_id"]) == ("jwt:olivia", str(created.key.id))
    assert event["receipt"]["acknowledged"] == event["receipt"]["workers"]
    owner = harness.user(ALICE)
    assert owner.get(f"/v1/api-keys/{created.key.id}").status_code in {404, 405}


def test_receipt_is_shown_even_if_the_operator_audit_log_is_unavailable(
    operator: Operator, olivia: HubBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = keys.create(operator, ACCOUNT, "Unlogged")
    path = f"{PAGE}/{created.key.id}"
    olivia.get(path)

    def fail(*_: object, **__: object) -> None:
        raise SystemDatabaseUnavailable

    with monkeypatch.context() as outage:
        outage.setattr(operators, "record", fail)
        assert olivia.post(f"{path}/revoke", {}).status_code == 303
    assert "The operator audit log was unavailable" in olivia.get(path).text


def test_search_by_name_id_and_status(operator: Operator, olivia: HubBrowser) -> None:
    found = keys.create(operator, ACCOUNT, "Needle").key
    keys.create(operator, ACCOUNT, "Hay")
    for query in ("q=needle", f"q={found.id}", f"q={found.hint}", "q=needle&status=active"):
        page = olivia.get(f"{PAGE}?{query}").text
        assert "Needle" in page
        assert "<bdi>Hay</bdi>" not in page
    for query in ("q=needle&status=revoked", "q=%00", "q=nothing"):
        assert "No API keys found" in olivia.get(f"{PAGE}?{query}").text
    assert "Needle" in olivia.get(f"{PAGE}?status=nonsense").text


def test_unknown_account_or_key_returns_404(operator: Operator, olivia: HubBrowser) -> None:
    missing = "00000000-0000-4000-8000-000000000000"
    olivia.get(PAGE)
    for path in (
        "/console/accounts/nothing-here/keys",
        "/console/accounts/..%00/keys",
        f"{PAGE}/{missing}",
        f"{PAGE}/x",
    ):
        assert olivia.get(path).status_code == 404, path
    assert olivia.post(f"{PAGE}/{missing}/revoke", {}).status_code == 404
    assert olivia.post("/console/accounts/nothing-here/keys", {"name": "x", "expiry": "never"}).status_code == 404


def test_owner_of_the_account_has_no_access(hub: Hub, operator: Operator, alice: HubBrowser) -> None:
    assert alice.get("/console/accounts/acme/keys").status_code == 403
    assert alice.post("/console/accounts/acme/keys", {"name": "x", "expiry": "never"}).status_code == 403
