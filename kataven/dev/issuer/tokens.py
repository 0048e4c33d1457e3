"""What the development issuer says of somebody, in the words that Zitadel uses."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

import jwt

from kataven.dev.cast import CAST, Person, org_id
from kataven.dev.issuer.keys import Keyring, SigningKey
from kataven.identity.grants import DEFAULT_ROLE_CLAIMS
from kataven.identity.principal import Role

CLIENT_ID = "kataven-hub"
"""The one client: public, so it has no secret and must use PKCE."""
AUDIENCE = "kataven"
"""What the API expects in `aud`; Zitadel would put the project's id there."""
LIFETIME_SECONDS = 3600


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
    stand_in = Person(f"{account}-{role}", f"Some {role}", account, role)
    person = known or stand_in
    if subject is not None:
        person = Person(subject, subject, account, role)
    claims = access_claims(issuer_url, person, ttl_seconds=ttl_seconds)
    return encode(Keyring(data_dir).signing_key(), claims, kind="at+jwt")


def access_claims(issuer_url: str, person: Person, *, ttl_seconds: float = LIFETIME_SECONDS) -> dict[str, Any]:
    """RFC 9068, for the API."""
    return _claims(issuer_url, person, ttl_seconds) | {
        "aud": [CLIENT_ID, AUDIENCE],
        "client_id": CLIENT_ID,
        "jti": secrets.token_urlsafe(12),
    }


def id_claims(issuer_url: str, person: Person, *, nonce: str | None) -> dict[str, Any]:
    """OpenID Connect Core, section 2, for the Hub alone: the API does not take an ID token for an access token."""
    claims = _claims(issuer_url, person, LIFETIME_SECONDS)
    claims |= {"aud": [CLIENT_ID], "azp": CLIENT_ID, "auth_time": claims["iat"]}
    return claims | ({} if nonce is None else {"nonce": nonce})


def encode(key: SigningKey, claims: dict[str, Any], *, kind: str) -> str:
    """The signed token; `kind` goes into the header's `typ`."""
    return jwt.encode(claims, key.private, key.algorithm, {"kid": key.kid, "typ": kind})


def _claims(issuer_url: str, person: Person, ttl_seconds: float) -> dict[str, Any]:
    now = int(time.time())
    return {
        "iss": issuer_url,
        "sub": person.subject,
        "iat": now,
        "nbf": now,
        "exp": now + ttl_seconds,
        "name": person.name,
        "preferred_username": person.subject,
        "email": person.email,
        DEFAULT_ROLE_CLAIMS[0]: {person.role.value: {org_id(person.account): f"{person.account}.example"}},
    }
