"""`/v1/security-events`: a pushed SET ends the sessions of a user (RFC 8935)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask

import app as factory
from kataven import settings
from kataven.dev.personas import ALICE
from kataven.people.signed_events import SIGNED_OUT
from kataven.revocation.receipt import RevocationUnconfirmed
from kataven.web.services import EXTENSION, Services
from tests.support.app_harness import AppHarness
from tests.support.jose import without_none

AUDIENCE = "https://api.kataven.example/events"
REVOKED = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"
CLAIMS_CHANGED = "https://schemas.openid.net/secevent/caep/event-type/token-claims-change"


@pytest.fixture(scope="module")
def receiver(harness: AppHarness) -> Iterator[Flask]:
    app = factory.create_api(settings.load({**harness.environ, "KATAVEN_EVENTS_AUDIENCE": AUDIENCE}))
    services: Services = app.extensions[EXTENSION]
    services.start()
    yield app
    services.stop()


def event(harness: AppHarness, sub: str, kind: str = REVOKED, **claims: Any) -> str:
    said = {
        "iss": harness.issuer.url,
        "aud": AUDIENCE,
        "iat": int(time.time()),
        "jti": str(uuid4()),
        "sub_id": {"format": "iss_sub", "iss": harness.issuer.url, "sub": sub},
        "events": {kind: {"event_timestamp": int(time.time())}},
    }
    return harness.issuer.signer().token(without_none({**said, **claims}), typ="secevent+jwt")


def push(receiver: Flask, token: str, content_type: str = "application/secevent+jwt") -> Any:
    return receiver.test_client().post("/v1/security-events", data=token, content_type=content_type)


def signed_in(harness: AppHarness, **claims: object) -> tuple[str, Any]:
    dana = replace(ALICE, subject=f"dana-{uuid4()}")
    token = harness.issuer.token(dana, claims={"iat": int(time.time()) - 5, **claims})
    caller = harness.bearer(token, "acme")
    assert caller.get("/v1/me").status_code == 200
    return dana.subject, caller


def code(caller: Any) -> str:
    response = caller.get("/v1/me")
    return "accepted" if response.status_code == 200 else str(response.get_json()["code"])


@pytest.mark.parametrize("kind", SIGNED_OUT)
def test_each_event_that_ends_access_is_applied_before_the_response(
    harness: AppHarness, receiver: Flask, kind: str
) -> None:
    sub, caller = signed_in(harness)
    response = push(receiver, event(harness, sub, kind))
    assert (response.status_code, response.data) == (202, b"")
    assert code(caller) == "session_ended"


@pytest.mark.parametrize(("kind", "outcome"), [(REVOKED, "session_ended"), (CLAIMS_CHANGED, "accepted")])
def test_a_later_token_of_the_same_sign_in_is_accepted_only_after_a_change_of_claims(
    harness: AppHarness, receiver: Flask, kind: str, outcome: str
) -> None:
    sub, _ = signed_in(harness)
    push(receiver, event(harness, sub, kind))
    claims = {"iat": int(time.time()) + 20, "auth_time": int(time.time()) - 600}
    later = harness.issuer.token(replace(ALICE, subject=sub), claims=claims)
    assert code(harness.bearer(later, "acme")) == outcome


def test_a_repeated_event_has_no_second_effect(harness: AppHarness, receiver: Flask) -> None:
    sub, _ = signed_in(harness)
    token = event(harness, sub)
    assert push(receiver, token).status_code == 202
    services: Services = receiver.extensions[EXTENSION]
    before = services.revocation.stats.revocations
    assert push(receiver, token).status_code == 202
    assert services.revocation.stats.revocations == before


def test_an_event_that_ends_nothing_is_acknowledged(harness: AppHarness, receiver: Flask) -> None:
    kind = "https://schemas.openid.net/secevent/ssf/event-type/verification"
    assert push(receiver, event(harness, "-", kind, sub_id=None)).status_code == 202


@pytest.mark.parametrize(
    ("claims", "err"),
    [
        ({"iss": "https://another.example"}, "invalid_issuer"),
        ({"aud": "another"}, "invalid_audience"),
        ({"sub_id": {"format": "iss_sub", "iss": "https://another.example", "sub": "dana"}}, "invalid_request"),
        ({"sub_id": None}, "invalid_request"),
        ({"nonce": "n"}, "invalid_request"),
        ({"jti": None}, "invalid_request"),
        ({"iat": None}, "invalid_request"),
        ({"exp": 1}, "invalid_request"),
        ({"events": {}}, "invalid_request"),
    ],
    ids=str,
)
def test_an_invalid_event_is_refused_with_the_code_of_the_standard(
    harness: AppHarness, receiver: Flask, claims: dict[str, Any], err: str
) -> None:
    response = push(receiver, event(harness, "dana", **claims))
    assert (response.status_code, response.get_json()["err"]) == (400, err)
    assert response.headers["Cache-Control"] == "no-store"
    assert (response.mimetype, response.headers["Content-Language"]) == ("application/json", "en")
    assert response.get_json()["description"]


def test_only_post_is_accepted(receiver: Flask) -> None:
    assert receiver.test_client().get("/v1/security-events").status_code == 405


def test_an_event_with_a_forged_key_is_refused(harness: AppHarness, receiver: Flask) -> None:
    head, payload, signature = event(harness, "dana").split(".")
    forged = f"{head}.{payload}.{signature[:-8]}AAAAAAAA"
    assert push(receiver, forged).get_json()["err"] == "invalid_key"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [("{}", "application/json"), ("", "application/secevent+jwt"), ("x" * 9000, "application/secevent+jwt")],
)
def test_what_is_no_event_is_refused(receiver: Flask, body: str, content_type: str) -> None:
    response = push(receiver, body, content_type)
    assert (response.status_code, response.get_json()["err"]) == (400, "invalid_request")


def test_without_a_receipt_the_transmitter_is_asked_to_send_the_event_again(
    harness: AppHarness, receiver: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    sub, caller = signed_in(harness)
    token = event(harness, sub)

    def unconfirmed(*_: Any, **__: Any) -> None:
        raise RevocationUnconfirmed

    services: Services = receiver.extensions[EXTENSION]
    with monkeypatch.context() as patch:
        patch.setattr(services.revocation, "revoke", unconfirmed)
        response = push(receiver, token)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert push(receiver, token).status_code == 202
    assert code(caller) == "session_ended"


def test_the_endpoint_does_not_exist_without_an_audience(harness: AppHarness) -> None:
    assert harness.caller().post("/v1/security-events").status_code == 404
