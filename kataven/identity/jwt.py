"""Verifies JWTs of one issuer for one audience (RFC 7519, RFC 8725, RFC 9068).

Checks that need no key run first, so a token that cannot be valid causes no request to the issuer. Times are checked
after the signature, so "expired" is only returned for tokens that the issuer signed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from kataven.identity import jws
from kataven.identity.errors import ExpiredCredential, InvalidCredential
from kataven.identity.jwk import VerificationKey
from kataven.identity.jwt_use import ACCESS_TOKEN_TYPES, AccessTokens, JwtUse
from kataven.identity.people import Person, Presented

LEEWAY_SECONDS = 30
MAX_KID_LENGTH = 255
MAX_NAME_LENGTH = 200
MAX_SUBJECT_LENGTH = 255
"""OpenID Connect Core, section 2."""

_LAST_SECOND = 253_402_300_799
"""The end of the year 9999, the last that `datetime` supports. Times given in milliseconds by mistake are later."""

# `crit` requires extensions that are not supported (RFC 7515, section 4.1.11), and `b64` is one (RFC 7797). The others
# contain a key to verify the token with; only the issuer's key set defines the issuer's keys.
_REFUSED_HEADERS = frozenset({"crit", "b64", "jku", "jwk", "x5u", "x5c"})

# RFC 8725, section 3.11: a logout token or a proof of possession from the same issuer is not an access token. `jwt_use`
# separates the tokens that have `typ: JWT`.
_TYPES = ACCESS_TOKEN_TYPES | {"jwt", "application/jwt"}

_log = logging.getLogger(__name__)


class KeySource(Protocol):
    """Provides the keys of an issuer."""

    def key(self, kid: str) -> VerificationKey | None:
        """The issuer's key with this id, or None. Raises VerifierUnavailable if that cannot be determined now."""


@dataclass(frozen=True, slots=True)
class VerifiedClaims:
    """The verified claims of a caller."""

    subject: str
    name: str
    """For display: the first of `name`, `preferred_username` and `email` that is present, else the subject."""
    expires_at: float
    """Seconds since the Unix epoch, without leeway."""
    all: Mapping[str, Any] = field(repr=False)
    person: Person
    issued_at: float | None = None
    signed_in_at: float | None = None
    """`auth_time`: when the user signed in at the issuer."""

    @property
    def presented(self) -> Presented:
        """What a cutoff of the user is compared with."""
        return Presented(self.person.id, self.issued_at, self.signed_in_at)


class JwtVerifier:
    """Verifies the tokens of one issuer for one audience and one use. The default `use` accepts access tokens only.

    `clock` returns seconds since the Unix epoch.
    """

    def __init__(
        self,
        keys: KeySource,
        issuer: str,
        audience: str,
        clock: Callable[[], float],
        use: JwtUse | None = None,
        leeway_seconds: float = LEEWAY_SECONDS,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._use = use or AccessTokens()
        self._leeway_seconds = leeway_seconds

    def claims(self, token: str) -> VerifiedClaims:
        """The claims of a valid token.

        Raises MalformedToken if it does not have three parts of canonical base64url or is not JSON, ExpiredCredential
        if it is valid except for its age, InvalidCredential for any other fault, and VerifierUnavailable if the keys
        of the issuer are unavailable.
        """
        parsed = jws.parse(token)
        kid = _kid(parsed.header)
        claims = self._read(parsed.payload)
        key = self._keys.key(kid)
        if key is None or not jws.is_signed_by(key, parsed):
            raise InvalidCredential("The JWT's signature is invalid: no key of the issuer made it.", rule="signature")
        self._check_use(parsed.header, claims)
        self._check_times(claims)
        return claims

    def _check_use(self, header: Mapping[str, Any], claims: VerifiedClaims) -> None:
        """Runs after the signature check, so that every log line concerns a token that the issuer signed."""
        rule = self._use.broken_rule(header, claims.all)
        if rule is not None:
            _log.info("JWT rejected: issued for another use", extra={"rule": rule, "sub": claims.subject})
            raise InvalidCredential(rule=rule)

    def _read(self, payload: Mapping[str, Any]) -> VerifiedClaims:
        if payload.get("iss") != self._issuer:
            raise InvalidCredential("The JWT's `iss` is another issuer.", rule="issuer")
        audience = payload.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if self._audience not in audiences or not all(isinstance(entry, str) for entry in audiences):
            raise InvalidCredential("The JWT's `aud` does not contain this API's audience.", rule="audience")
        subject = _text(payload.get("sub"), MAX_SUBJECT_LENGTH)
        if subject is None or not subject.isascii():
            raise InvalidCredential(
                f"The JWT's `sub` must be 1 to {MAX_SUBJECT_LENGTH} printable ASCII characters.", rule="subject"
            )
        expires_at = _time(payload, "exp")
        if expires_at is None:
            raise InvalidCredential("The JWT has no `exp` claim.", rule="times")
        return VerifiedClaims(
            subject,
            _name(payload, subject),
            expires_at,
            payload,
            Person(self._issuer, subject),
            _time(payload, "iat"),
            _time(payload, "auth_time"),
        )

    def _check_times(self, claims: VerifiedClaims) -> None:
        now = self._clock()
        for claim in ("nbf", "iat"):
            time = _time(claims.all, claim)
            if time is not None and time > now + self._leeway_seconds:
                raise InvalidCredential(f"The JWT's `{claim}` is in the future.", rule="times")
        if claims.expires_at <= now - self._leeway_seconds:
            raise ExpiredCredential


def _kid(header: Mapping[str, Any]) -> str:
    """The id of the signing key. Raises InvalidCredential for an unacceptable header."""
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in jws.ALGORITHMS:
        raise InvalidCredential(f"The JWT's `alg` must be one of {', '.join(jws.ALGORITHMS)}.", rule="algorithm")
    if not _REFUSED_HEADERS.isdisjoint(header):
        raise InvalidCredential(
            "The JWT's header contains a parameter that is not accepted: `crit`, `b64` or an embedded key.",
            rule="header",
        )
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise InvalidCredential("The JWT's `typ` is not that of an access token or ID token.", rule="type")
    kid = _text(header.get("kid"), MAX_KID_LENGTH)
    if kid is None:
        raise InvalidCredential(f"The JWT's `kid` must be 1 to {MAX_KID_LENGTH} printable characters.", rule="key_id")
    return kid


def _time(payload: Mapping[str, Any], claim: str) -> float | None:
    """Parse a NumericDate (RFC 7519, section 2); None if the claim is absent. Raises InvalidCredential if invalid."""
    if claim not in payload:
        return None
    value = payload[claim]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LAST_SECOND:
        raise InvalidCredential(f"The JWT's `{claim}` must be a number of seconds since the Unix epoch.", rule="times")
    return value


def _name(payload: Mapping[str, Any], subject: str) -> str:
    names = (_text(payload.get(claim), MAX_NAME_LENGTH) for claim in ("name", "preferred_username", "email"))
    return next((name for name in names if name), subject)


def _text(value: object, max_length: int) -> str | None:
    """`value` if it is a string of 1 to `max_length` printable characters, else None."""
    return value if isinstance(value, str) and 0 < len(value) <= max_length and value.isprintable() else None
