"""Rules that separate access tokens from ID tokens of the same issuer.

Zitadel signs both with one key, and gives both `typ: JWT` and the same `aud`, so type and audience can't separate them.
ID tokens pass through browsers and logs, so the API must reject them (RFC 8725, section 3.12: mutually exclusive
validation rules for different kinds of JWTs).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

ACCESS_TOKEN_TYPES = frozenset({"at+jwt", "application/at+jwt"})
"""RFC 9068, section 2.1."""

# `nonce`, `at_hash` and `c_hash`: OpenID Connect Core, sections 2 and 3.3.2.11. `s_hash`: Financial-grade API 1.0.
_OF_ID_TOKENS = ("nonce", "at_hash", "c_hash", "s_hash")
# Every security event token (RFC 8417) has this claim. Logout tokens are such tokens; their own `typ` is optional.
_OF_EVENTS = "events"
# Issuers' own claims for the kind of a token: Keycloak's `typ` (`Bearer` for access tokens) and Amazon Cognito's
# `token_use`. Both kinds of issuers add a `jti` to ID tokens.
_OTHER_KINDS = {"typ": frozenset({"id", "refresh", "offline", "logout"}), "token_use": frozenset({"id"})}


class JwtUse(Protocol):
    """The validation rules for one kind of token, in addition to those for every JWT."""

    def broken_rule(self, header: Mapping[str, Any], payload: Mapping[str, Any]) -> str | None:
        """The name of the first rule that a correctly signed token violates, or None."""


class AccessTokens:
    """Accepts access tokens only; with `client_ids`, only those issued to one of these clients.

    `requires_type`: only tokens with the type of RFC 9068, `at+jwt`. Otherwise other tokens are accepted by their
    claims. `sign_in_client` is the client whose ID tokens are never accepted, even if they contain none of the claims
    of ID tokens and the API's audience is that client's id.
    """

    def __init__(
        self, client_ids: Collection[str] = (), *, requires_type: bool = False, sign_in_client: str | None = None
    ) -> None:
        self._client_ids = frozenset(client_ids)
        self._requires_type = requires_type
        self._sign_in_client = sign_in_client

    def broken_rule(self, header: Mapping[str, Any], payload: Mapping[str, Any]) -> str | None:
        if any(claim in payload for claim in _OF_ID_TOKENS):
            return "id_token"
        if _OF_EVENTS in payload:
            return "event"
        if not _says_access_token(header):
            if self._requires_type:
                return "not_at_jwt"
            if _is_of_other_kind(payload) or self._is_for_sign_in_only(payload):
                return "id_token"
            if not _is_text(payload.get("jti")):
                return "no_jti"
        if self._client_ids and not self._is_of_known_client(payload):
            return "client_not_allowed"
        return None

    def _is_for_sign_in_only(self, payload: Mapping[str, Any]) -> bool:
        """The audience of an ID token is its client (OpenID Connect Core, section 2). Zitadel adds the project's id."""
        return self._sign_in_client is not None and payload.get("aud") in (self._sign_in_client, [self._sign_in_client])

    def _is_of_known_client(self, payload: Mapping[str, Any]) -> bool:
        """RFC 9068 uses `client_id`, other profiles `azp`, Okta `cid`. If a token has several, all must match."""
        named = [payload[claim] for claim in ("client_id", "azp", "cid") if claim in payload]
        return bool(named) and all(isinstance(client, str) and client in self._client_ids for client in named)


class IdTokens:
    """Accepts ID tokens of one client only. The caller compares `nonce` and `at_hash`, which depend on the sign-in."""

    def __init__(self, client_id: str) -> None:
        self._client_id = client_id

    def broken_rule(self, header: Mapping[str, Any], payload: Mapping[str, Any]) -> str | None:
        if _says_access_token(header):
            return "access_token"
        if _OF_EVENTS in payload:
            return "event"
        # OpenID Connect Core with errata 2, section 2: several audiences don't require an `azp`. If there is one, it
        # names the client that the token was issued to.
        if payload.get("azp", self._client_id) != self._client_id:
            return "azp"
        return None


def _says_access_token(header: Mapping[str, Any]) -> bool:
    kind = header.get("typ")
    return isinstance(kind, str) and kind.lower() in ACCESS_TOKEN_TYPES


def _is_of_other_kind(payload: Mapping[str, Any]) -> bool:
    named = {claim: payload.get(claim) for claim in _OTHER_KINDS}
    return any(isinstance(kind, str) and kind.lower() in _OTHER_KINDS[claim] for claim, kind in named.items())


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)
