"""Verifies keys with accounts that the service has read before, if the caller confirms that they are current."""

from __future__ import annotations

import threading

from kataven.identity.credential import ApiKeyCredential, Credential
from kataven.identity.principal import Principal
from kataven.identity.verifier import AccountFacts, LocalVerifier

CAPACITY = 10_000


class RememberingVerifier:
    """Verifies through `verifier`. The accounts of keys are remembered.

    This process receives no revocation events, so a remembered account can be outdated. It is used only if its version
    is the one that the caller sends. The caller has read that version after its fill token, or its guard would have
    evicted it: the caller's account is current, so this one is, too. docs/revocation-protocol.md has the argument.
    """

    def __init__(self, verifier: LocalVerifier, capacity: int = CAPACITY) -> None:
        self._verifier = verifier
        self._capacity = capacity
        self._remembered: dict[str, AccountFacts] = {}
        self._lock = threading.Lock()

    def verify(self, credential: Credential, account_version: bytes = b"") -> Principal:
        """Raises Refused or VerifierUnavailable. `account_version` is empty if the caller confirms none."""
        if not isinstance(credential, ApiKeyCredential):
            return self._verifier.verify(credential)
        return self._verifier.verify_key(credential, self._account(credential.account, account_version))

    def _account(self, name: str, version: bytes) -> AccountFacts | None:
        remembered = self._remembered.get(name)
        if remembered is not None and remembered.version and remembered.version == version:
            return remembered
        read = self._verifier.accounts.account(name)
        if read is not None:
            self._remember(name, read)
        return read

    def _remember(self, name: str, account: AccountFacts) -> None:
        with self._lock:
            self._remembered.pop(name, None)
            while len(self._remembered) >= self._capacity:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[name] = account
