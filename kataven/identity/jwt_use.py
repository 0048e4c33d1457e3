"""What a JWT was issued for. An issuer signs several kinds with one key, and only some of them say so in `typ`.

Zitadel's access tokens and ID tokens both have `typ: JWT` and the same list in `aud`, so type and audience tell them
apart nowhere. An ID token tells a client who signed in. It is shown to browsers and copied into logs, and it must open
nothing (RFC 8725, section 3.12: mutually exclusive rules for different kinds of JWTs).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

ACCESS_TOKEN_TYPES = frozenset({"at+jwt", "application/at+jwt"})
"""RFC 9068, section 2.1."""

# `nonce`, `at_hash` and `c_hash`: OpenID Connect Core, sections 2 and 3.3.2.11. `s_hash`: Financial-grade API 1.0.
_OF_ID_TOKENS = ("nonce", "at_hash", "c_hash", "s_hash")
# Security events (RFC 8417) have it, logout tokens among them, whose own `typ` is only recommended.
_OF_EVENTS = "events"


class JwtUse(Protocol):
    """The rules of one kind of token, beyond those that every token has."""

    def broken_rule(self, header: Mapping[str, Any], payload: Mapping[str, Any]) -> str | None:
        """A word for the first rule that a genuine token breaks; None for a token of this kind."""


class AccessTokens:
    """Tokens for the API. With `client_ids`, those alone that were issued to one of these clients."""

    def __init__(self, client_ids: Collection[str] = ()) -> None:
        self._client_ids = frozenset(client_ids)

    def broken_rule(self, header: Mapping[str, Any], payload: Mapping[str, Any]) -> str | None:
        if any(claim in payload for claim in _OF_ID_TOKENS):
            return "id_token"
        if _OF_EVENTS in payload:
            return "event"
        if not _says_access_token(header) and not _is_text(payload.get("jti")):
            return "no_jti"
        if self._client_ids and not self._is_of_known_client(payload):
            return "client_not_allowed"
        return None

    def _is_of_known_client(self, payload: Mapping[str, Any]) -> bool:
        """RFC 9068 says `client_id`, others say `azp`; a token that says both must fit twice."""
        named = [payload[claim] for claim in ("client_id", "azp") if claim in payload]
        return bool(named) and all(isinstance(client, str) and client in self._client_ids for client in named)


class IdTokens:
    """ID tokens for one client. Nonce and hash belong to one sign-in, so whoever began it compares them."""

    def __init__(self, client_id: str) -> None:
        self._client_id = client_id

    def broken_rule(self, header: Mapping[str, Any], payload: Mapping[str, Any]) -> str | None:
        if _says_access_token(header):
            return "access_token"
        if _OF_EVENTS in payload:
            return "event"
        # OpenID Connect Core with errata 2, section 2: several audiences don't call for an `azp`; if there is one, it
        # is the client that the token was issued to.
        if payload.get("azp", self._client_id) != self._client_id:
            return "azp"
        return None


def _says_access_token(header: Mapping[str, Any]) -> bool:
    kind = header.get("typ")
    return isinstance(kind, str) and kind.lower() in ACCESS_TOKEN_TYPES


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)
