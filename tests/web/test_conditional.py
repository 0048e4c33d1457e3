"""ETags: no update is lost, and unchanged resources are not sent again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.test import TestResponse

from kataven.web.operation import operation_of
from tests.support.app_harness import AppHarness, Caller, new_account

Maker = Callable[[Caller], str]


def an_agent(caller: Caller) -> str:
    return f"/v1/agents/{caller.post('/v1/agents', {'name': 'Tagged'}).get_json()['id']}"


def a_widget_key(caller: Caller) -> str:
    return f"/v1/widget-keys/{caller.post('/v1/widget-keys', {'name': 'Tagged'}).get_json()['id']}"


RESOURCES: list[tuple[Maker, dict[str, Any], dict[str, Any]]] = [
    (an_agent, {"name": "One"}, {"name": "Two"}),
    (a_widget_key, {"name": "One"}, {"name": "Two"}),
    (lambda caller: an_agent(caller) + "/widget-settings", {"auth_mode": "user"}, {"auth_mode": "both"}),
    (lambda caller: "/v1/widget-settings", {"title": "One"}, {"title": "Two"}),
]
IDS = ["agent", "widget-key", "agent-widget-settings", "widget-settings"]
each_resource = pytest.mark.parametrize(("make", "one", "two"), RESOURCES, ids=IDS)


@pytest.fixture(scope="module")
def account(harness: AppHarness) -> str:
    """An account for these tests: other tests read acme's branding."""
    new_account(harness.services, "tagged")
    return "tagged"


@pytest.fixture
def caller(harness: AppHarness, account: str) -> Caller:
    return harness.bearer(harness.new_key(account))


def code(response: TestResponse) -> tuple[int, str]:
    return response.status_code, response.get_json()["code"]


@each_resource
def test_update_with_a_stale_etag_returns_412_and_changes_nothing(
    caller: Caller, make: Maker, one: dict[str, Any], two: dict[str, Any]
) -> None:
    path = make(caller)
    read = caller.get(path).headers["ETag"]
    changed = caller.patch(path, one, headers={"If-Match": read})
    assert changed.status_code == 200
    assert changed.headers["ETag"] == caller.get(path).headers["ETag"] != read
    assert code(caller.patch(path, two, headers={"If-Match": read})) == (412, "precondition_failed")
    assert caller.get(path).get_json().items() >= one.items()
    assert caller.patch(path, two, headers={"If-Match": changed.headers["ETag"]}).status_code == 200


@pytest.mark.parametrize("make", [an_agent, a_widget_key], ids=["agent", "widget-key"])
def test_deletion_with_a_stale_etag_returns_412(caller: Caller, make: Maker) -> None:
    path = make(caller)
    read = caller.get(path).headers["ETag"]
    fresh = caller.patch(path, {"name": "Newer"}).headers["ETag"]
    assert code(caller.delete(path, headers={"If-Match": read})) == (412, "precondition_failed")
    assert caller.get(path).status_code == 200
    assert caller.delete(path, headers={"If-Match": f'"other", {fresh}'}).status_code in {200, 204}
    assert code(caller.delete(path, headers={"If-Match": fresh})) == (404, "not_found")


def test_one_of_two_concurrent_updates_with_the_same_etag_succeeds(caller: Caller) -> None:
    path = an_agent(caller)
    read = caller.get(path).headers["ETag"]
    barrier, statuses = threading.Barrier(6), []

    def write(n: int) -> None:
        barrier.wait()
        statuses.append(caller.patch(path, {"name": f"Writer {n}"}, headers={"If-Match": read}).status_code)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, 412, 412, 412, 412, 412]


def test_if_match_star_matches_an_existing_resource(caller: Caller) -> None:
    path = an_agent(caller)
    assert caller.patch(path, {"name": "Whatever it was"}, headers={"If-Match": "*"}).status_code == 200
    assert caller.delete(path, headers={"If-Match": "*"}).status_code == 204
    assert caller.delete(path, headers={"If-Match": "*"}).status_code == 404


def test_weak_etag_never_matches_if_match(caller: Caller) -> None:
    path = an_agent(caller)
    weak = f"W/{caller.get(path).headers['ETag']}"
    assert code(caller.patch(path, {"name": "x"}, headers={"If-Match": weak})) == (412, "precondition_failed")
    assert caller.get(path, headers={"If-None-Match": weak}).status_code == 304


@pytest.mark.parametrize("malformed", ["", "abc", '"abc', "'abc'", '"a" "b"', '"a",', "*, *", 'w/"abc"'])
def test_malformed_if_match_returns_400(caller: Caller, malformed: str) -> None:
    path = an_agent(caller)
    response = caller.patch(path, {"name": "x"}, headers={"If-Match": malformed})
    assert code(response) == (400, "invalid_request")
    assert [error["field"] for error in response.get_json()["errors"]] == ["If-Match"]
    assert caller.get(path).get_json()["name"] == "Tagged"


def test_if_match_on_a_resource_without_etag_returns_412(caller: Caller) -> None:
    refused = caller.post("/v1/agents", {"name": "Never made"}, headers={"If-Match": '"abc"'})
    assert code(refused) == (412, "precondition_failed")
    assert "Never made" not in [agent["name"] for agent in caller.get("/v1/agents").get_json()]
    assert caller.post("/v1/agents", {"name": "Made"}, headers={"If-Match": "*"}).status_code == 201


@each_resource
def test_if_none_match_returns_304(caller: Caller, make: Maker, one: dict[str, Any], two: dict[str, Any]) -> None:
    path = make(caller)
    caller.patch(path, one)
    tag = caller.get(path).headers["ETag"]
    for condition in (tag, f'"x", {tag}', "*"):
        response = caller.get(path, headers={"If-None-Match": condition})
        assert (response.status_code, response.data, response.headers["ETag"]) == (304, b"", tag)
        assert "Content-Type" not in response.headers
        assert "X-Request-ID" in response.headers
    caller.patch(path, two)
    assert caller.get(path, headers={"If-None-Match": tag}).status_code == 200


def test_created_resource_has_the_same_etag_as_a_later_get(caller: Caller) -> None:
    for path, body in (("/v1/agents", {"name": "New"}), ("/v1/widget-keys", {"name": "New"})):
        made = caller.post(path, body)
        assert caller.get(made.headers["Location"]).headers["ETag"] == made.headers["ETag"]


def test_update_with_a_receipt_has_the_same_etag_as_a_later_get(caller: Caller) -> None:
    path = a_widget_key(caller)
    disabled = caller.patch(path, {"disabled": True})
    assert "receipt" in disabled.get_json()
    assert caller.get(path).headers["ETag"] == disabled.headers["ETag"]


def test_every_updatable_resource_is_declared_conditional(harness: AppHarness) -> None:
    undeclared = {
        operation.path
        for rule in harness.app.url_map.iter_rules()
        if (operation := operation_of(harness.app.view_functions[rule.endpoint])) is not None
        and operation.method in {"PATCH", "DELETE"}
        and not operation.conditional
    }
    assert undeclared == {
        "/v1/api-keys/<key_id>",
        "/v1/api-keys/<key_id>/former-secret",
        "/v1/people/<person_id>/block",
    }, "revoking must not depend on when a key or a user was last used"
