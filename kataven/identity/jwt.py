"""JWTs of one issuer for one audience (RFC 7519, after the advice of RFC 8725 and RFC 9068).

What needs no key is checked first: a token that can't be good never makes us ask the issuer for anything. No time is
looked at before the signature, so that "expired" is said only to somebody who once held a good token.
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

LEEWAY_SECONDS = 30
MAX_KID_LENGTH = 255
MAX_NAME_LENGTH = 200
MAX_SUBJECT_LENGTH = 255
"""OpenID Connect Core, section 2."""

_LAST_SECOND = 253_402_300_799
"""The end of the year 9999, which is as far as anybody's calendar goes; milliseconds by mistake lie beyond it."""

# `crit` asks for extensions that we don't have (RFC 7515, section 4.1.11), and `b64` is one (RFC 7797); the others
# offer a key to verify the token with. Only the issuer's key set says which keys are its own.
_REFUSED_HEADERS = frozenset({"crit", "b64", "jku", "jwk", "x5u", "x5c"})

# RFC 8725, section 3.11: a logout token or a proof of possession from the same issuer is no access token. `jwt_use`
# separates the tokens that have `typ: JWT`.
_TYPES = ACCESS_TOKEN_TYPES | {"jwt", "application/jwt"}

_log = logging.getLogger(__name__)


class KeySource(Protocol):
    """Where an issuer's keys come from."""

    def key(self, kid: str) -> VerificationKey | None:
        """The issuer's key of this name, None if it has none. Raises VerifierUnavailable if that can't be told now."""


@dataclass(frozen=True, slots=True)
class VerifiedClaims:
    """What the issuer says of a caller."""

    subject: str
    name: str
    """For people to read: the first of `name`, `preferred_username`, `email` that is there, else the subject."""
    expires_at: float
    """Seconds since the epoch; the leeway is not in it."""
    all: Mapping[str, Any] = field(repr=False)


class JwtVerifier:
    """Verifies the tokens of one issuer for one audience and one use. The default `use` accepts access tokens only.

    `clock` tells seconds since the epoch.
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
        """Everything that a good token says.

        Raises MalformedToken for what is not three parts of canonical base64url or not JSON; ExpiredCredential for a
        token that has nothing wrong with it but its age; InvalidCredential for all else; VerifierUnavailable if the
        issuer's keys can't be had.
        """
        parsed = jws.parse(token)
        kid = _kid(parsed.header)
        claims = self._read(parsed.payload)
        key = self._keys.key(kid)
        if key is None or not jws.is_signed_by(key, parsed):
            raise InvalidCredential("The JWT's signature is not one of its issuer's.", rule="signature")
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
            raise InvalidCredential("The JWT comes from another issuer.", rule="issuer")
        audience = payload.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if self._audience not in audiences or not all(isinstance(entry, str) for entry in audiences):
            raise InvalidCredential("The JWT is meant for another audience.", rule="audience")
        subject = _text(payload.get("sub"), MAX_SUBJECT_LENGTH)
        if subject is None or not subject.isascii():
            raise InvalidCredential("The JWT's `sub` is missing or unusable.", rule="subject")
        expires_at = _time(payload, "exp")
        if expires_at is None:
            raise InvalidCredential("The JWT has no `exp`.", rule="times")
        return VerifiedClaims(subject, _name(payload, subject), expires_at, payload)

    def _check_times(self, claims: VerifiedClaims) -> None:
        now = self._clock()
        for claim in ("nbf", "iat"):
            time = _time(claims.all, claim)
            if time is not None and time > now + self._leeway_seconds:
                raise InvalidCredential(f"The JWT's `{claim}` is in the future.", rule="times")
        if claims.expires_at <= now - self._leeway_seconds:
            raise ExpiredCredential


def _kid(header: Mapping[str, Any]) -> str:
    """The name of the key that is said to have signed. Raises InvalidCredential for a header that we don't act on."""
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in jws.ALGORITHMS:
        raise InvalidCredential("The JWT's `alg` is not accepted.", rule="algorithm")
    if not _REFUSED_HEADERS.isdisjoint(header):
        raise InvalidCredential("The JWT's header holds a parameter that is not accepted.", rule="header")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise InvalidCredential("The JWT's `typ` is not that of an access or ID token.", rule="type")
    kid = _text(header.get("kid"), MAX_KID_LENGTH)
    if kid is None:
        raise InvalidCredential("The JWT's `kid` is missing or unusable.", rule="key_id")
    return kid


def _time(payload: Mapping[str, Any], claim: str) -> float | None:
    """A NumericDate (RFC 7519, section 2), None if the claim is absent. Raises InvalidCredential for anything else."""
    if claim not in payload:
        return None
    value = payload[claim]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LAST_SECOND:
        raise InvalidCredential(f"The JWT's `{claim}` is not a time in seconds.", rule="times")
    return value


def _name(payload: Mapping[str, Any], subject: str) -> str:
    names = (_text(payload.get(claim), MAX_NAME_LENGTH) for claim in ("name", "preferred_username", "email"))
    return next((name for name in names if name), subject)


def _text(value: object, max_length: int) -> str | None:
    """`value` if it is a string of 1 to `max_length` printable characters."""
    return value if isinstance(value, str) and 0 < len(value) <= max_length and value.isprintable() else None
