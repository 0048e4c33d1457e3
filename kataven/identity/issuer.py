"""Issues keys. The plaintext is returned once, to the caller of `issue`; only the hash is stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from kataven.identity import token as tokens
from kataven.identity.peppers import KeyHash, PepperRing
from kataven.identity.token import TokenKind


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key: `text` is shown once; `hash` and `hint` are stored."""

    text: str = field(repr=False)
    hash: KeyHash
    hint: str


class Issuer(Protocol):
    """Issues and hashes keys with the peppers."""

    def issue(self, kind: TokenKind, account: str) -> IssuedKey:
        """Issue a new key for an account. Raises VerifierUnavailable."""

    def candidates(self, token: str) -> tuple[KeyHash, ...]:
        """The hashes under which an existing key may be stored, the current one first. Raises VerifierUnavailable."""

    def pepper_ids(self) -> tuple[str, ...]:
        """The ids of the pepper ring, the current one first. Raises VerifierUnavailable."""


class LocalIssuer:
    """Issues in this process."""

    def __init__(self, peppers: PepperRing) -> None:
        self._peppers = peppers

    def issue(self, kind: TokenKind, account: str) -> IssuedKey:
        token = tokens.generate(kind, account)
        return IssuedKey(token.text, self._peppers.current.hash(token.text), token.hint)

    def candidates(self, token: str) -> tuple[KeyHash, ...]:
        return self._peppers.candidates(token)

    def pepper_ids(self) -> tuple[str, ...]:
        return self._peppers.ids
