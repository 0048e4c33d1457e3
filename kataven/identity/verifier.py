"""Verifies a credential. The result is a Principal, a refusal, or "cannot be determined now".

The interface has several implementations: in the process, behind a cache (`revocation/cache.py`), and in the
auth-service (`authservice/client.py`). One contract test suite covers all of them.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from kataven.identity import grants, scopes
from kataven.identity.conditions import AddressRules
from kataven.identity.credential import ApiKeyCredential, Credential
from kataven.identity.errors import (
    AccountMismatch,
    AccountSuspended,
    ExpiredCredential,
    InvalidCredential,
    NotYetValid,
    PausedCredential,
    RevokedCredential,
    RotatedCredential,
)
from kataven.identity.jwt import JwtVerifier
from kataven.identity.people import UNRESTRICTED, Presented, Restrictions
from kataven.identity.peppers import KeyHash, PepperRing
from kataven.identity.principal import CredentialKind, Principal


class Verifier(Protocol):
    """Determines whose credential this is."""

    def verify(self, credential: Credential) -> Principal:
        """Raises Refused if the credential is rejected, or VerifierUnavailable if it cannot be checked now."""


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """What verification needs from an account."""

    name: str
    open: bool
    """False while the account is suspended or archived: its credentials are known and rejected."""
    zitadel_org_id: str | None
    location: object = None
    """Where its keys are stored. Only the key store uses this, to avoid another lookup of the account."""
    revoked_keys: Mapping[str, int | None] | None = None
    """Its journalled keys, as far as they were read with the account. Only the key store uses this."""
    restrictions: Restrictions = UNRESTRICTED
    """The cutoff and the block that concern the user of the token that the account was looked up for."""
    version: bytes = b""
    """Identifies the facts that the verification of a key uses: the same bytes in two processes, the same facts. Empty:
    not identified."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """An API key as the account's database stores it. Times are seconds since the Unix epoch."""

    id: str
    name: str
    hash: KeyHash
    expires_at: float | None
    revoked: bool
    limits: Mapping[str, int] | None = None
    scopes: Sequence[str] | None = None
    """None: full access."""
    addresses: AddressRules | None = None
    from_browsers: bool = False
    not_before: float | None = None
    paused: bool = False
    former_id: str | None = None
    """The id of the secret, if it is a former one."""
    ends_at: float | None = None
    """For a former secret: when it ends. None: when the new one is used for the first time, plus the grace period."""
    ended: bool = False
    """Whether the secret is journalled as ended, whatever its row states."""
    completes_rotation: str | None = None


class AccountLookup(Protocol):
    """Finds accounts."""

    def account(self, name: str, presented: Presented | None = None) -> AccountFacts | None:
        """The account, with the restrictions of the user who presents a token. None if the account does not exist or
        is not ready. Raises VerifierUnavailable."""


class KeyStore(Protocol):
    """The API keys of every account, each in its own database."""

    def find(self, account: AccountFacts, candidates: Sequence[KeyHash]) -> StoredKey | None:
        """The key stored under one of these hashes. Raises VerifierUnavailable."""

    def rehash(self, account: AccountFacts, key_id: str, old: KeyHash, new: KeyHash) -> None:
        """Replace `old` by `new`. Does nothing if `old` is no longer stored. Raises VerifierUnavailable."""


class LocalVerifier:
    """Verifies in this process, against the accounts' databases and the issuer's keys."""

    def __init__(
        self,
        accounts: AccountLookup,
        keys: KeyStore,
        peppers: PepperRing,
        jwts: JwtVerifier,
        role_claims: Sequence[str] = grants.DEFAULT_ROLE_CLAIMS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.accounts = accounts
        self._keys = keys
        self._peppers = peppers
        self._jwts = jwts
        self._role_claims = role_claims
        self._clock = clock

    def verify(self, credential: Credential) -> Principal:
        if isinstance(credential, ApiKeyCredential):
            return self.verify_key(credential, self.accounts.account(credential.account))
        return self._verify_jwt(credential.token, credential.account)

    def verify_key(self, credential: ApiKeyCredential, account: AccountFacts | None) -> Principal:
        """`verify` for a key of an account that was looked up. None: the account does not exist or is not ready."""
        if account is None:
            raise InvalidCredential
        key = self._find_key(credential.token, account)
        if key.expires_at is not None and key.expires_at <= self._clock():
            raise ExpiredCredential(caller=key.id)
        if key.revoked:
            raise RevokedCredential(caller=key.id)
        if key.ended or (key.ends_at is not None and key.ends_at <= self._clock()):
            raise RotatedCredential(caller=key.id, secret_id=key.former_id)
        if key.paused:
            raise PausedCredential(caller=key.id)
        if key.not_before is not None and self._clock() < key.not_before:
            moment = datetime.fromtimestamp(key.not_before, UTC).isoformat(timespec="seconds")
            raise NotYetValid(f"The API key is not valid before {moment}.", caller=key.id)
        if not account.open:
            raise AccountSuspended
        return Principal(
            CredentialKind.API_KEY,
            credential.account,
            key.id,
            key.name,
            expires_at=min((one for one in (key.expires_at, key.ends_at) if one is not None), default=None),
            limits=key.limits,
            scopes=None if key.scopes is None else scopes.granted(key.scopes),
            addresses=key.addresses,
            from_browsers=key.from_browsers,
            completes_rotation=key.completes_rotation,
        )

    def _find_key(self, token: str, account: AccountFacts) -> StoredKey:
        candidates = self._peppers.candidates(token)
        key = self._keys.find(account, candidates)
        if key is None:
            raise InvalidCredential
        # The store looked the hash up. It is compared again, in constant time, so that a store that matches loosely
        # cannot grant access.
        if not any(hmac.compare_digest(key.hash.digest, candidate.digest) for candidate in candidates):
            raise InvalidCredential
        current = candidates[0]
        if key.hash.pepper_id != current.pepper_id and not key.revoked:
            self._keys.rehash(account, key.id, key.hash, current)
        return key

    def _verify_jwt(self, token: str, account_name: str) -> Principal:
        claims = self._jwts.claims(token)
        account = self.accounts.account(account_name, claims.presented)
        role = None
        if account is not None and account.zitadel_org_id is not None:
            role = grants.strongest_role(claims.all, account.zitadel_org_id, self._role_claims)
        if account is None or role is None:
            raise AccountMismatch
        if not account.open:
            raise AccountSuspended
        refusal = account.restrictions.refusal(claims.presented)
        if refusal is not None:
            refusal.caller = claims.person.id
            raise refusal
        return Principal(
            CredentialKind.JWT,
            account_name,
            claims.subject,
            claims.name,
            role,
            claims.expires_at,
            person=claims.person.id,
        )
