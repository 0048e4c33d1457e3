"""Logout tokens and security event tokens: each rule of the specifications refuses by its own name."""

from __future__ import annotations

import inspect
import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import pytest

from kataven.identity.jwks import JwksClient
from kataven.identity.people import Person
from kataven.people import signed_events
from kataven.people.signed_events import LOGOUT_EVENT, SIGNED_OUT, EventRefused, SignedEvents
from tests.support.clock import Clock
from tests.support.jose import Signer, ec_signer, without_none
from tests.support.key_server import ISSUER, KeyServer

NOW = 1_800_000_000
CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
LOGOUT: dict[str, Any] = {
    "iss": ISSUER,
    "aud": "kataven-hub",
    "sub": "alice",
    "sid": "a session",
    "iat": NOW,
    "exp": NOW + 120,
    "jti": "1",
    "events": {LOGOUT_EVENT: {}},
}
SUBJECT = {"format": "iss_sub", "iss": ISSUER, "sub": "alice"}
SET: dict[str, Any] = {
    "iss": ISSUER,
    "aud": "kataven-hub",
    "iat": NOW,
    "jti": "1",
    "sub_id": SUBJECT,
    "events": {f"{CAEP}session-revoked": {}},
}


@pytest.fixture
def events() -> SignedEvents:
    keys = JwksClient(ISSUER, KeyServer(ec_signer().jwk()), clock=Clock())
    return SignedEvents(keys, ISSUER, "kataven-hub", Clock(NOW))


def signed(claims: dict[str, Any], signer: Signer | None = None, **header: Any) -> str:
    return (signer or ec_signer()).token(without_none(claims), **header)


def rule_of(verify: Callable[[str], object], token: str) -> str | None:
    try:
        verify(token)
    except EventRefused as refused:
        return refused.rule
    return None


ALIKE: list[tuple[dict[str, Any], dict[str, Any], str | None]] = [
    ({}, {}, None),
    ({"aud": ["another", "kataven-hub"]}, {}, None),
    ({}, {"alg": "none"}, "algorithm"),
    ({}, {"alg": "HS256"}, "algorithm"),
    ({}, {"alg": None}, "algorithm"),
    ({}, {"kid": None}, "key_id"),
    ({}, {"kid": "unknown"}, "signature"),
    ({}, {"crit": ["exp"]}, "header"),
    ({}, {"jwk": {}}, "header"),
    ({}, {"typ": "at+jwt"}, "type"),
    ({}, {"typ": ["JWT"]}, "type"),
    ({"iss": "https://another.example"}, {}, "issuer"),
    ({"iss": None}, {}, "issuer"),
    ({"aud": "another"}, {}, "audience"),
    ({"aud": ["another"]}, {}, "audience"),
    ({"aud": None}, {}, "audience"),
    ({"exp": NOW - 31}, {}, "expired"),
    ({"exp": NOW - 29}, {}, None),
    ({"exp": "soon"}, {}, "exp"),
    ({"iat": None}, {}, "iat"),
    ({"iat": NOW + 31}, {}, "iat"),
    ({"iat": True}, {}, "iat"),
    ({"jti": None}, {}, "jti"),
    ({"jti": ""}, {}, "jti"),
    ({"jti": "x" * 256}, {}, "jti"),
    ({"nonce": "n"}, {}, "nonce"),
    ({"nonce": ""}, {}, "nonce"),
    ({"events": None}, {}, "events"),
    ({"events": {}}, {}, "events"),
    ({"events": [LOGOUT_EVENT]}, {}, "events"),
    ({"events": "an event"}, {}, "events"),
]


@pytest.mark.parametrize(
    ("claims", "header", "rule"),
    [
        *ALIKE,
        ({}, {"typ": "logout+jwt"}, None),
        ({}, {"typ": "JWT"}, None),
        ({}, {"typ": None}, None),
        ({}, {"typ": "secevent+jwt"}, "type"),
        ({"exp": None}, {}, "exp"),
        ({"sub": None}, {}, None),
        ({"sid": None}, {}, None),
        ({"sub": None, "sid": None}, {}, "subject"),
        ({"sub": ""}, {}, "subject"),
        ({"sub": 1}, {}, "subject"),
        ({"sub": "x" * 256}, {}, "subject"),
        ({"sub": "alice\0"}, {}, "subject"),
        ({"sid": ["a session"]}, {}, "subject"),
        ({"events": {LOGOUT_EVENT: True}}, {}, "events"),
        ({"events": {LOGOUT_EVENT: None}}, {}, "events"),
        ({"events": {"another": {}}}, {}, "events"),
        ({"events": {LOGOUT_EVENT: {}, "another": {}}}, {}, None),
    ],
    ids=str,
)
def test_logout_tokens(events: SignedEvents, claims: dict[str, Any], header: dict[str, Any], rule: str | None) -> None:
    token = signed({**LOGOUT, **claims}, **{"typ": "logout+jwt", **header})
    assert rule_of(events.logout, token) == rule


@pytest.mark.parametrize(
    ("claims", "header", "rule"),
    [
        *ALIKE,
        ({}, {"typ": "application/secevent+jwt"}, None),
        ({"exp": None}, {}, None),  # RFC 8417, section 2.2: SETs describe the past, and need no expiry
        ({"txn": "a transaction", "toe": NOW - 10}, {}, None),
        ({"events": {f"{CAEP}session-revoked": {}, f"{CAEP}device-compliance-change": {}}}, {}, None),
        ({"events": {LOGOUT_EVENT: {}}}, {}, None),  # no event that ends access, as a SET: ignored
        ({}, {"typ": None}, "type"),
        ({}, {"typ": "JWT"}, "type"),
        ({}, {"typ": "logout+jwt"}, "type"),
        ({"sub": "alice"}, {}, "subject"),
        ({"sub_id": None}, {}, "subject"),
        ({"sub_id": {"format": "email", "email": "alice@acme.example"}}, {}, "subject"),
        ({"sub_id": {"format": ["iss_sub"], "iss": ISSUER, "sub": "alice"}}, {}, "subject"),
        ({"sub_id": {"format": "iss_sub", "sub": "alice"}}, {}, "subject"),
        ({"sub_id": {"format": "iss_sub", "iss": ISSUER}}, {}, "subject"),
        ({"sub_id": {**SUBJECT, "sub": "alice\0"}}, {}, "subject"),
        ({"sub_id": {"user": SUBJECT, "session": {"format": "opaque", "id": "1"}}}, {}, None),
        ({"sub_id": None, "events": {f"{CAEP}session-revoked": {"subject": SUBJECT}}}, {}, None),
        ({"events": {f"{CAEP}session-revoked": {"event_timestamp": "now"}}}, {}, "event_timestamp"),
        ({"events": {f"{CAEP}session-revoked": []}}, {}, "events"),
        ({"events": {str(number): {} for number in range(21)}}, {}, "events"),
        ({"events": {"an event\0": {}}}, {}, "events"),
    ],
    ids=str,
)
def test_security_event_tokens(
    events: SignedEvents, claims: dict[str, Any], header: dict[str, Any], rule: str | None
) -> None:
    token = signed({**SET, **claims}, **{"typ": "secevent+jwt", **header})
    assert rule_of(events.security_events, token) == rule


JWE = "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.AAAA.AAAA.AAAA.AAAA"
"""Encrypted (RFC 7516): the issuer is not asked to encrypt, so such a token is not for this receiver."""


@pytest.mark.parametrize("verify", ["logout", "security_events"])
@pytest.mark.parametrize(
    ("claims", "kind"), [(LOGOUT, "logout+jwt"), (SET, "secevent+jwt"), ({}, "JWT")], ids=["logout", "SET", "empty"]
)
def test_an_unsigned_token_is_refused_by_its_algorithm(
    events: SignedEvents, verify: str, claims: dict[str, Any], kind: str
) -> None:
    """`alg: none` with an empty signature (Back-Channel Logout 1.0, section 2.6; RFC 8725, section 3.2)."""
    parts = (json.dumps(part, separators=(",", ":")).encode() for part in ({"alg": "none", "typ": kind}, claims))
    head, payload = (urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
    assert rule_of(getattr(events, verify), f"{head}.{payload}.") == "algorithm"


@pytest.mark.parametrize("text", ["", "a.b.c", "e30.e30.", "x" * 9000, JWE])
def test_what_is_no_jwt_is_refused(events: SignedEvents, text: str) -> None:
    assert {rule_of(events.logout, text), rule_of(events.security_events, text)} <= {"format", "algorithm"}


def test_a_forged_signature_is_refused(events: SignedEvents) -> None:
    forger = ec_signer("forger").named("ec-1")
    assert rule_of(events.logout, signed(LOGOUT, forger, typ="logout+jwt")) == "signature"
    assert rule_of(events.security_events, signed(SET, forger, typ="secevent+jwt")) == "signature"


def test_each_kind_of_token_is_refused_as_the_other(events: SignedEvents) -> None:
    assert rule_of(events.logout, signed(SET, typ="secevent+jwt")) == "type"
    assert rule_of(events.security_events, signed(LOGOUT, typ="logout+jwt")) == "type"


RULES = {
    # OpenID Connect Back-Channel Logout 1.0, section 2.6, steps 1 to 7, and RFC 8417, sections 2.1 and 2.2. The replays
    # of step 7, and the sessions of steps 8 to 10, are in test_hub.py.
    *("format", "algorithm", "signature", "key_id", "header", "type", "issuer", "audience", "iat", "exp", "expired"),
    *("subject", "events", "nonce", "jti"),
    # CAEP 1.0, section 2
    "event_timestamp",
}


def test_each_rule_of_the_source_is_in_the_tables() -> None:
    """A new rule in `signed_events.py` needs a row above."""
    source = inspect.getsource(signed_events)
    named = set(re.findall(r'EventRefused\(\s*"(\w+)"', source)) | {"exp", "iat", "event_timestamp"}
    assert named == RULES
    tested = {rule for _, _, rule in ALIKE if rule} | {"format", "subject", "event_timestamp"}
    assert named <= tested


@pytest.mark.parametrize(("kind", "signed_out"), SIGNED_OUT.items())
def test_events_that_end_access(events: SignedEvents, kind: str, signed_out: bool) -> None:
    found = events.security_events(signed({**SET, "events": {kind: {}}}, typ="secevent+jwt"))
    (ended,) = found.ended
    assert (ended.kind, ended.person, ended.signed_out, ended.at) == (kind, Person(ISSUER, "alice"), signed_out, NOW)


def test_other_events_are_ignored(events: SignedEvents) -> None:
    kinds = {"https://schemas.openid.net/secevent/ssf/event-type/verification": {}}
    found = events.security_events(signed({**SET, "sub_id": None, "events": kinds}, typ="secevent+jwt"))
    assert (found.ended, found.ignored) == ((), tuple(kinds))


@pytest.mark.parametrize(("at", "counts"), [(NOW - 60, NOW), (NOW + 10, NOW + 10), (NOW + 10_000, NOW + 30)])
def test_the_time_of_an_event_is_bounded(events: SignedEvents, at: int, counts: float) -> None:
    """A transmitter's clock must not refuse tokens that are issued long after the event."""
    token = signed({**SET, "events": {f"{CAEP}session-revoked": {"event_timestamp": at}}}, typ="secevent+jwt")
    assert events.security_events(token).ended[0].at == counts
