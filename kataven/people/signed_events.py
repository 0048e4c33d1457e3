"""Verifies the signed events of an issuer: logout tokens and security event tokens (SETs).

    logout token   OpenID Connect Back-Channel Logout 1.0, section 2.4 (content) and 2.6 (validation)
    SET            RFC 8417, with the subjects of RFC 9493 and the events of CAEP 1.0 and RISC 1.0

They are signed with the issuer's keys, as access tokens are. Each rule has a name, which is in the log and in the
response; the sender can change nothing but its own configuration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kataven.identity import jws
from kataven.identity.errors import MalformedToken
from kataven.identity.jwt import LEEWAY_SECONDS, MAX_KID_LENGTH, MAX_SUBJECT_LENGTH, KeySource
from kataven.identity.people import Person

LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
_LOGOUT_TYPES = frozenset({"logout+jwt", "application/logout+jwt", "jwt", "application/jwt"})
_SET_TYPES = frozenset({"secevent+jwt", "application/secevent+jwt"})
_REFUSED_HEADERS = frozenset({"crit", "b64", "jku", "jwk", "x5u", "x5c"})
MAX_JTI_LENGTH = 255
MAX_EVENTS = 20

_CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
_RISC = "https://schemas.openid.net/secevent/risc/event-type/"
SIGNED_OUT: Mapping[str, bool] = {
    f"{_CAEP}session-revoked": True,
    f"{_CAEP}credential-change": True,
    f"{_CAEP}token-claims-change": False,
    f"{_RISC}account-disabled": True,
    f"{_RISC}account-purged": True,
    f"{_RISC}sessions-revoked": True,
}
"""The events that end a user's sessions, and whether the user must sign in again at the issuer as well. After a change
of claims, such as a role, a new token is sufficient."""


_SET_ERRORS = {"issuer": "invalid_issuer", "audience": "invalid_audience"}
_SET_ERRORS |= dict.fromkeys(("signature", "key_id", "algorithm"), "invalid_key")


class EventRefused(Exception):
    """The token is invalid. `rule` names the reason; the message contains nothing of the token."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(detail)
        self.rule = rule

    @property
    def set_error(self) -> str:
        """The code for the transmitter of a SET (RFC 8935, section 2.4; RFC 8936 uses the same registry)."""
        return _SET_ERRORS.get(self.rule, "invalid_request")

    @property
    def description(self) -> str:
        """The rule and the reason, for the sender."""
        return f"{self.rule}: {self}"


@dataclass(frozen=True, slots=True)
class Logout:
    """A verified logout token: it names a user, a session at the issuer, or both."""

    jti: str
    issued_at: float
    expires_at: float
    sub: str | None
    sid: str | None


@dataclass(frozen=True, slots=True)
class AccessEnded:
    """One event of a SET that ends what was issued to a user."""

    kind: str
    person: Person
    signed_out: bool
    at: float


@dataclass(frozen=True, slots=True)
class SecurityEvents:
    """A verified SET. `ended` contains the events that end access; `ignored` names the others."""

    jti: str
    ended: tuple[AccessEnded, ...]
    ignored: tuple[str, ...]


class SignedEvents:
    """Verifies the events of one issuer for one audience. `clock` returns seconds since the Unix epoch."""

    def __init__(self, keys: KeySource, issuer: str, audience: str, clock: Callable[[], float]) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._clock = clock

    def logout(self, token: str) -> Logout:
        """Verify a logout token. Raises EventRefused, or VerifierUnavailable if the issuer's keys are unavailable."""
        claims = self._claims(token, _LOGOUT_TYPES, type_required=False)
        expires_at = _time(claims, "exp")
        if expires_at is None:
            raise EventRefused("exp", "The logout token has no `exp`.")
        events = _events(claims)
        if not isinstance(events.get(LOGOUT_EVENT), dict):
            raise EventRefused("events", f"`events` must contain an object for {LOGOUT_EVENT}.")
        sub, sid = _optional_text(claims, "sub"), _optional_text(claims, "sid")
        if sub is None and sid is None:
            raise EventRefused("subject", "The logout token has neither `sub` nor `sid`.")
        return Logout(_jti(claims), self._issued_at(claims), expires_at, sub, sid)

    def security_events(self, token: str) -> SecurityEvents:
        """Verify a SET. Raises EventRefused, or VerifierUnavailable if the issuer's keys are unavailable."""
        claims = self._claims(token, _SET_TYPES, type_required=True)
        if "sub" in claims:
            raise EventRefused("subject", "A SET names its subject in `sub_id`, not in `sub`.")
        issued_at, jti = self._issued_at(claims), _jti(claims)
        ended, ignored = [], []
        for kind, event in _events(claims).items():
            if not isinstance(event, dict):
                raise EventRefused("events", "Each member of `events` must be an object.")
            if kind not in SIGNED_OUT:
                ignored.append(kind)
                continue
            person = _person(event.get("subject", claims.get("sub_id")))
            at = _time(event, "event_timestamp")
            ended.append(AccessEnded(kind, person, SIGNED_OUT[kind], max(issued_at, self._bounded(at))))
        return SecurityEvents(jti, tuple(ended), tuple(ignored))

    def _claims(self, token: str, types: frozenset[str], *, type_required: bool) -> Mapping[str, Any]:
        """The claims of a token that the issuer signed for this audience. The rules that need no key come first."""
        try:
            parsed = jws.parse(token)
        except MalformedToken as error:
            raise EventRefused("format", "The token is not a signed JWT.") from error
        header, claims = parsed.header, parsed.payload
        algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ")
        if not isinstance(algorithm, str) or algorithm not in jws.ALGORITHMS:
            raise EventRefused("algorithm", f"`alg` must be one of {', '.join(jws.ALGORITHMS)}.")
        if not _REFUSED_HEADERS.isdisjoint(header):
            raise EventRefused("header", "The header contains a parameter that is not accepted.")
        if (kind is None and type_required) or (
            kind is not None and (not isinstance(kind, str) or kind.lower() not in types)
        ):
            raise EventRefused("type", "`typ` is not that of this kind of token.")
        if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID_LENGTH:
            raise EventRefused("key_id", "The header has no `kid`.")
        if claims.get("iss") != self._issuer:
            raise EventRefused("issuer", "`iss` is another issuer.")
        audience = claims.get("aud")
        if self._audience not in (audience if isinstance(audience, list) else [audience]):
            raise EventRefused("audience", "`aud` does not contain this receiver.")
        if "nonce" in claims:
            raise EventRefused("nonce", "The token has a `nonce`, so it is an ID token.")
        key = self._keys.key(kid)
        if key is None or not jws.is_signed_by(key, parsed):
            raise EventRefused("signature", "No key of the issuer made the signature.")
        expires_at = _time(claims, "exp")
        if expires_at is not None and expires_at <= self._clock() - LEEWAY_SECONDS:
            raise EventRefused("expired", "The token has expired.")
        return claims

    def _issued_at(self, claims: Mapping[str, Any]) -> float:
        issued_at = _time(claims, "iat")
        if issued_at is None:
            raise EventRefused("iat", "The token has no `iat`.")
        if issued_at > self._clock() + LEEWAY_SECONDS:
            raise EventRefused("iat", "`iat` is in the future.")
        return issued_at

    def _bounded(self, at: float | None) -> float:
        """The time of an event. It must not refuse tokens that are issued long after it."""
        return -math.inf if at is None else min(at, self._clock() + LEEWAY_SECONDS)


def _events(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    events = claims.get("events")
    if not isinstance(events, dict) or not 0 < len(events) <= MAX_EVENTS:
        raise EventRefused("events", f"`events` must be an object with 1 to {MAX_EVENTS} members.")
    if not all(kind.isprintable() for kind in events):
        raise EventRefused("events", "The names of `events` must be URIs.")
    return events


def _jti(claims: Mapping[str, Any]) -> str:
    jti = claims.get("jti")
    if not isinstance(jti, str) or not 0 < len(jti) <= MAX_JTI_LENGTH:
        raise EventRefused("jti", "The token has no `jti`.")
    return jti


def _optional_text(claims: Mapping[str, Any], claim: str) -> str | None:
    if claim not in claims:
        return None
    value = claims[claim]
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= MAX_SUBJECT_LENGTH
        or not value.isascii()
        or not value.isprintable()
    ):
        raise EventRefused("subject", f"`{claim}` must be 1 to {MAX_SUBJECT_LENGTH} printable ASCII characters.")
    return value


def _person(subject: object) -> Person:
    """RFC 9493, section 3.2.2. Complex subjects of SSF name the user in `user`."""
    if isinstance(subject, dict) and isinstance(subject.get("user"), dict):
        subject = subject["user"]
    # `subject_type` is from drafts of RISC that are deployed.
    kind = subject.get("format", subject.get("subject_type")) if isinstance(subject, dict) else None
    if not isinstance(subject, dict) or kind not in ("iss_sub", "iss-sub"):
        raise EventRefused("subject", "The subject must have the format `iss_sub`.")
    issuer, sub = subject.get("iss"), _optional_text(subject, "sub")
    if not isinstance(issuer, str) or not 0 < len(issuer) <= 1024 or sub is None:
        raise EventRefused("subject", "The subject needs `iss` and `sub`.")
    return Person(issuer, sub)


def _time(claims: Mapping[str, Any], claim: str) -> float | None:
    if claim not in claims:
        return None
    value = claims[claim]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 253_402_300_799:
        raise EventRefused(claim, f"`{claim}` must be a number of seconds since the Unix epoch.")
    return float(value)
