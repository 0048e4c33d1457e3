"""Invalid input of unauthenticated callers is rejected before it is read, parsed or validated, and it is counted."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

import pytest
from pydantic import BaseModel
from werkzeug.test import TestResponse

from kataven.api.widget_schemas import ExchangeInput, GuestInput, RefreshInput
from kataven.ratelimit.budget import PER_MINUTE, AddressBudgetKind
from kataven.web import schema
from kataven.web.openapi import operations_of
from kataven.web.schema import MAX_BODY_BYTES, MAX_FIELD_ERRORS, MAX_PUBLIC_BODY_BYTES
from tests.support.app_harness import AppHarness, Caller

GUEST = "/v1/widget/auth/guest"
JSON = "application/json"
KIBIBYTE = 1024
LIMITS = {
    "/v1/widget/auth/guest": 8 * KIBIBYTE,
    "/v1/widget/auth/exchange": 8 * KIBIBYTE,
    "/v1/widget/auth/refresh": 8 * KIBIBYTE,
    "/v1/widget/auth/user-token": 16 * KIBIBYTE,
    "/v1/api-keys": 8 * KIBIBYTE,
    "/v1/widget-keys": 64 * KIBIBYTE,
    "/v1/agents": 1024 * KIBIBYTE,
}
ADDRESSES = ipaddress.ip_network("203.0.113.0/24").hosts()


class Unreadable:
    """A body that must not be read."""

    def read(self, *_: Any) -> bytes:
        pytest.fail("the body was read")

    readline = readinto = read


class Chunks:
    """A body without a length, which records how much was read."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        size = self.left if size < 0 else min(size, self.left)
        self.left -= size
        self.given += size
        return b" " * size

    def readinto(self, buffer: Any) -> int:
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)


@pytest.fixture
def address() -> str:
    """An address against which nothing was counted."""
    return str(next(ADDRESSES))


@pytest.fixture
def never_validated(monkeypatch: pytest.MonkeyPatch) -> None:
    def must_not_be_called(*_: object, **__: object) -> None:
        pytest.fail("it was validated")

    for model in (GuestInput, ExchangeInput, RefreshInput):
        monkeypatch.setattr(model, "model_validate_json", must_not_be_called)


def send(harness: AppHarness, body: Any, address: str, path: str = GUEST) -> TestResponse:
    data = body if isinstance(body, bytes) else json.dumps(body)
    return harness.caller().call("POST", path, data=data, content_type=JSON, environ_base={"REMOTE_ADDR": address})


def unread(caller: Caller, path: str, length: int, address: str) -> TestResponse:
    environ = {"wsgi.input": Unreadable(), "CONTENT_LENGTH": str(length), "REMOTE_ADDR": address}
    return caller.call("POST", path, content_type=JSON, environ_overrides=environ)


def code(response: TestResponse) -> tuple[int, str]:
    return response.status_code, response.get_json()["code"]


@pytest.mark.parametrize("path", [path for path in LIMITS if path.startswith("/v1/widget/auth")])
def test_body_over_the_operation_limit_is_rejected_unread(
    harness: AppHarness, acme_key: Caller, path: str, address: str
) -> None:
    response = unread(acme_key, path, LIMITS[path] + 1, address)
    assert code(response) == (413, "payload_too_large")
    assert f"{LIMITS[path] // KIBIBYTE} KiB" in response.get_json()["detail"]


def test_body_without_content_length_is_read_up_to_the_limit(harness: AppHarness, address: str) -> None:
    chunks = Chunks(MAX_BODY_BYTES)
    environ = {"wsgi.input": chunks, "wsgi.input_terminated": True, "REMOTE_ADDR": address}
    response = harness.caller().call(
        "POST", GUEST, content_type=JSON, headers={"Transfer-Encoding": "chunked"}, environ_overrides=environ
    )
    assert code(response) == (413, "payload_too_large")
    assert chunks.given <= LIMITS[GUEST] + 1


def test_body_is_not_read_without_a_credential(harness: AppHarness, address: str) -> None:
    for path, length in LIMITS.items():
        if not path.startswith("/v1/widget/auth") or path.endswith("user-token"):
            assert unread(harness.caller(), path, length, address).status_code == 401


def test_openapi_publishes_the_body_limit_of_every_operation(harness: AppHarness) -> None:
    document = harness.caller().get("/v1/openapi.json").get_json()
    with_body = [operation for operation in operations_of(harness.app) if operation.body is not None]
    assert with_body
    for operation in with_body:
        assert operation.max_body_bytes <= (MAX_PUBLIC_BODY_BYTES if operation.access.public else MAX_BODY_BYTES)
        if operation.path in LIMITS:
            assert operation.max_body_bytes == LIMITS[operation.path]
            described = document["paths"][operation.path][operation.method.lower()]["requestBody"]["description"]
            assert schema.in_words(operation.max_body_bytes) in described


@pytest.mark.usefixtures("never_validated")
@pytest.mark.parametrize(
    "body",
    [
        dict.fromkeys(map(str, range(65)), 0),
        {"client_key": dict.fromkeys(map(str, range(65)), 0)},
        {"client_key": [[]] * 40},
        {"client_key": [0] * 600},
        b'{"client_key": "a", "client_key": "b"}',
        b'{"client_key": ' + b"1" * 5_000 + b"}",
        b'{"client_key": ' + b"[" * 4_000 + b"]" * 4_000 + b"}",
    ],
    ids=["names", "nested names", "arrays", "values", "repeated", "number", "deep"],
)
def test_body_with_too_many_values_is_rejected_before_validation(harness: AppHarness, body: Any, address: str) -> None:
    response = send(harness, body, address)
    assert code(response) == (400, "invalid_request")
    assert len(response.get_json()["errors"]) == 1


def test_field_errors_are_bounded_in_number_and_length(harness: AppHarness, acme_key: Caller, address: str) -> None:
    names = {f"{number}{'x' * 100}": 0 for number in range(64)}
    for response in (send(harness, names, address), acme_key.post("/v1/agents", names)):
        assert code(response) == (400, "invalid_request")
        errors = response.get_json()["errors"]
        assert len(errors) == MAX_FIELD_ERRORS
        assert all(len(error["field"]) <= 400 and len(error["message"]) <= 400 for error in errors)
        assert len(response.get_json()["detail"]) < 2_000
        assert "and 40 more" in response.get_json()["detail"]


def test_authenticated_body_with_too_many_names_is_rejected_before_validation(
    acme_key: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BaseModel, "model_validate_json", lambda *_, **__: pytest.fail("it was validated"))
    body = json.dumps({f"a{number:05}": 0 for number in range(80_000)}).encode()[:MAX_BODY_BYTES]
    for method, path in (("POST", "/v1/agents"), ("PATCH", "/v1/agents/00000000-0000-4000-8000-00000000dead")):
        response = acme_key.call(method, path, data=body, content_type=JSON)
        assert code(response) == (400, "invalid_request")


def test_query_with_too_many_parameters_is_rejected_before_validation(harness: AppHarness, address: str) -> None:
    query = "&".join(f"a{number}" for number in range(1_000))
    for path in ("/v1/widget/config", "/api/accounts"):
        response = harness.caller().get(f"{path}?{query}", environ_base={"REMOTE_ADDR": address})
        assert code(response) == (400, "invalid_request")
        assert [error["field"] for error in response.get_json()["errors"]] == ["query"]


def test_body_is_not_read_after_the_invalid_request_budget_is_exhausted(
    harness: AppHarness, acme_key: Caller, address: str
) -> None:
    for _ in range(PER_MINUTE[AddressBudgetKind.REFUSED]):
        harness.services.limiter.addresses.spend(address, AddressBudgetKind.REFUSED)
    response = unread(harness.caller(), GUEST, 100, address)
    assert code(response) == (429, "rate_limited")
    assert response.get_json()["detail"] == "refused-requests (600) exceeded"
    assert int(response.headers["Retry-After"]) > 0
    other = send(harness, {}, str(next(ADDRESSES)))
    assert code(other) == (400, "invalid_request"), "its neighbours are answered"
    from_there = {"environ_base": {"REMOTE_ADDR": address}}
    assert acme_key.post("/v1/agents", {"name": "Good"}, **from_there).status_code == 201, "a good key is served"


@pytest.mark.parametrize("body", [b"{", b"{}", b" " * 9_000, b'{"client_key": "junk"}'])
def test_each_invalid_public_body_counts_against_its_address(harness: AppHarness, body: bytes, address: str) -> None:
    addresses = harness.services.limiter.addresses
    assert send(harness, body, address).status_code in {400, 413}
    assert addresses.spend(address, AddressBudgetKind.REFUSED).quota_statuses[0].used == 2
    assert addresses.spend(address, AddressBudgetKind.PUBLIC).quota_statuses[0].used == 1, "it cost no look-up"


def test_overlong_accept_header_is_ignored(
    harness: AppHarness, acme_key: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "text/plain," + "a/b;q=0.5," * 6_000
    assert harness.caller(Accept=long).get("/v1/me").content_type == "application/problem+json"
    response = harness.caller().get("/v1/openapi.json", headers={"Accept-Encoding": "gzip," + "a," * 6_000})
    assert "Content-Encoding" not in response.headers


def test_overlong_etag_list_is_not_parsed(acme_key: Caller) -> None:
    created = acme_key.post("/v1/agents", {"name": "Tagged"})
    path, tag = created.headers["Location"], created.headers["ETag"]
    tags = ", ".join([tag] * 200)
    assert code(acme_key.patch(path, {"name": "x"}, headers={"If-Match": tags})) == (400, "invalid_request")
    assert acme_key.get(path, headers={"If-None-Match": tags}).status_code == 200
    assert acme_key.get(path, headers={"If-None-Match": tag}).status_code == 304
