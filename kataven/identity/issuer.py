"""Making keys. The plaintext leaves this room once, in the answer to whoever asked; the hash is what is stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from kataven.identity import token as tokens
from kataven.identity.peppers import KeyHash, PepperRing
from kataven.identity.token import TokenKind


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key: `text` to show once, `hash` and `hint` to store."""

    text: str = field(repr=False)
    hash: KeyHash
    hint: str


class Issuer(Protocol):
    """Whoever holds the peppers."""

    def issue(self, kind: TokenKind, account: str) -> IssuedKey:
        """A new key for an account. Raises VerifierUnavailable."""

    def candidates(self, token: str) -> tuple[KeyHash, ...]:
        """The hashes under which an existing key can be stored, the current one first. Raises VerifierUnavailable."""

    def pepper_ids(self) -> tuple[str, ...]:
        """The ids of the ring, the current one first. Raises VerifierUnavailable."""


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
