"""What the development issuer says of somebody, in the words that Zitadel uses.

As at Zitadel, access and ID tokens have the same `typ` and the same audiences, including the project's id, and both
contain roles. Only access tokens have a `jti`; only ID tokens have `nonce`, `at_hash`, `auth_time`, `amr` and `azp`.
Code that confuses the two therefore fails here as it would in production. One difference: these access tokens contain a
name, which Zitadel's do only with an action.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from pathlib import Path
from typing import Any

import jwt

from kataven.dev.issuer.keys import IssuerSigningKey, Keyring
from kataven.dev.personas import CAST, Persona, org_id
from kataven.identity.grants import role_claims_for
from kataven.identity.principal import Role

CLIENT_ID = "kataven-hub"
"""The one client: public, so it has no secret and must use PKCE."""
OTHER_CLIENT_ID = "kataven-cli"
"""Another client of the same project. Every token lists it in `aud`, as at Zitadel."""
AUDIENCE = "kataven"
"""What the API expects in `aud`; Zitadel would put the project's id there."""
AUDIENCES = [CLIENT_ID, OTHER_CLIENT_ID, AUDIENCE]
LIFETIME_SECONDS = 3600
TYPE = "JWT"
"""What every token says in `typ`."""


def sign(
    data_dir: Path,
    issuer_url: str,
    account: str,
    role: Role,
    *,
    subject: str | None = None,
    ttl_seconds: float = LIFETIME_SECONDS,
) -> str:
    """An access token for whoever of the cast holds `role` in `account`, or somebody made up; or for `subject`."""
    known = next((person for person in CAST if (person.account, person.role) == (account, role)), None)
    stand_in = Persona(f"{account}-{role}", f"Some {role}", account, role)
    person = known or stand_in
    if subject is not None:
        person = Persona(subject, subject, account, role)
    claims = access_claims(issuer_url, person, ttl_seconds=ttl_seconds)
    return encode(Keyring(data_dir).signing_key(), claims)


def access_claims(issuer_url: str, person: Persona, *, ttl_seconds: float = LIFETIME_SECONDS) -> dict[str, Any]:
    """For the API."""
    return _claims(issuer_url, person, ttl_seconds) | {"client_id": CLIENT_ID, "jti": secrets.token_urlsafe(12)}


def id_claims(issuer_url: str, person: Persona, *, nonce: str | None, access_token: str) -> dict[str, Any]:
    """OpenID Connect Core, section 2, for the Hub."""
    claims = _claims(issuer_url, person, LIFETIME_SECONDS)
    claims |= {
        "azp": CLIENT_ID,
        "client_id": CLIENT_ID,
        "auth_time": claims["iat"],
        "amr": ["pwd"],
        "at_hash": at_hash(access_token),
    }
    return claims | ({} if nonce is None else {"nonce": nonce})


def at_hash(access_token: str) -> str:
    """Core, section 3.1.3.6: the left half of the hash that ES256 and RS256 sign."""
    half = hashlib.sha256(access_token.encode("ascii")).digest()[:16]
    return base64.urlsafe_b64encode(half).rstrip(b"=").decode()


def roles(granted: dict[str, Any]) -> dict[str, Any]:
    """`{role: {org_id: domain}}` under both of Zitadel's claims: without and with the project's id."""
    return dict.fromkeys(role_claims_for(AUDIENCE), granted)


def encode(key: IssuerSigningKey, claims: dict[str, Any]) -> str:
    """The signed token."""
    return jwt.encode(claims, key.private, key.algorithm, {"kid": key.kid, "typ": TYPE})


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
