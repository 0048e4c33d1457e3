"""The claims and signatures of the development issuer's tokens, in Zitadel's format.

As at Zitadel, access tokens and ID tokens have the same `typ` and the same audiences, including the project's id, and
both contain roles. Only access tokens have a `jti`. Only ID tokens have `nonce`, `at_hash`, `auth_time`, `amr` and
`azp`. Code that confuses the two therefore fails here as in production. One difference: these access tokens contain a
name, which Zitadel's contain only with an action.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from pathlib import Path
from typing import Any

import jwt

from kataven.dev.issuer.keys import Keyring
from kataven.dev.personas import PERSONAS, Persona, org_id
from kataven.identity.grants import role_claims_for
from kataven.identity.principal import Role

CLIENT_ID = "kataven-hub"
"""The only client. It is public: it has no secret and must use PKCE."""
AUDIENCE = "kataven"
"""The audience that the API expects. At Zitadel it is the project's id."""
AUDIENCES = [CLIENT_ID, "kataven-cli", AUDIENCE]
"""The `aud` of every token. As at Zitadel, it contains every client of the project."""
LIFETIME_SECONDS = 3600
TYPE = "JWT"
"""The `typ` of every token."""


def sign(
    data_dir: Path,
    issuer_url: str,
    account: str,
    role: Role,
    *,
    subject: str | None = None,
    ttl_seconds: float = LIFETIME_SECONDS,
) -> str:
    """An access token for `subject`; by default for the persona with `role` in `account`, or for an invented one."""
    known = next((one for one in PERSONAS if (one.account, one.role) == (account, role)), None)
    person = known or Persona(f"{account}-{role}", f"Some {role}", account, role)
    if subject is not None:
        person = Persona(subject, subject, account, role)
    return encode(Keyring(data_dir).signing_key(), access_claims(issuer_url, person, ttl_seconds=ttl_seconds))


def access_claims(issuer_url: str, person: Persona, *, ttl_seconds: float = LIFETIME_SECONDS) -> dict[str, Any]:
    """The claims of an access token for the API."""
    return _claims(issuer_url, person, ttl_seconds) | {"client_id": CLIENT_ID, "jti": secrets.token_urlsafe(12)}


def id_claims(issuer_url: str, person: Persona, *, nonce: str | None, access_token: str) -> dict[str, Any]:
    """The claims of an ID token for the Hub (OpenID Connect Core, section 2)."""
    claims = _claims(issuer_url, person, LIFETIME_SECONDS)
    claims |= {"azp": CLIENT_ID, "client_id": CLIENT_ID, "auth_time": claims["iat"], "amr": ["pwd"]}
    claims["at_hash"] = at_hash(access_token)
    return claims | ({} if nonce is None else {"nonce": nonce})


def at_hash(access_token: str) -> str:
    """The left half of the hash that ES256 and RS256 sign (OpenID Connect Core, section 3.1.3.6)."""
    half = hashlib.sha256(access_token.encode("ascii")).digest()[:16]
    return base64.urlsafe_b64encode(half).rstrip(b"=").decode()


def roles(granted: dict[str, Any]) -> dict[str, Any]:
    """`{role: {org_id: domain}}` in both of Zitadel's claims: without and with the project's id."""
    return dict.fromkeys(role_claims_for(AUDIENCE), granted)


def encode(key: jwt.PyJWK, claims: dict[str, Any]) -> str:
    """The signed token."""
    return jwt.encode(claims, key, key.algorithm_name, {"kid": key.key_id, "typ": TYPE})


def _claims(issuer_url: str, person: Persona, ttl_seconds: float) -> dict[str, Any]:
    now = int(time.time())
    return {
        "iss": issuer_url,
        "sub": person.subject,
        "aud": list(AUDIENCES),
        "iat": now,
        "nbf": now,
        "exp": now + ttl_seconds,
        "name": person.name,
        "preferred_username": person.subject,
        "email": person.email,
        **roles({person.role.value: {org_id(person.account): f"{person.account}.example"}}),
    }
