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
    seed: bytes | None = field(default=None, repr=False)
    """What it is derived from, if that is stored to show it again: a widget key."""


@dataclass(frozen=True, slots=True)
class Seed:
    """What a key is derived from, with a pepper: the same seed and pepper give the same key.

    `data` must contain a random nonce. Without the pepper, it reveals nothing about the key.
    """

    data: bytes = field(repr=False)
    pepper_id: str = ""
    """Empty: the current pepper."""


class UnknownPepper(ValueError):
    """The pepper of a seed is not in the ring."""


class Issuer(Protocol):
    """Issues and hashes keys with the peppers."""

    def issue(self, kind: TokenKind, account: str, seed: Seed | None = None) -> IssuedKey:
        """Issue a key for an account: a random one, or the one that is derived from `seed`.

        Raises VerifierUnavailable, or UnknownPepper.
        """

    def candidates(self, token: str) -> tuple[KeyHash, ...]:
        """The hashes under which an existing key may be stored, the current one first. Raises VerifierUnavailable."""

    def pepper_ids(self) -> tuple[str, ...]:
        """The ids of the pepper ring, the current one first. Raises VerifierUnavailable."""


class LocalIssuer:
    """Issues in this process."""

    def __init__(self, peppers: PepperRing) -> None:
        self._peppers = peppers

    def issue(self, kind: TokenKind, account: str, seed: Seed | None = None) -> IssuedKey:
        if seed is None:
            token, pepper = tokens.generate(kind, account), self._peppers.current
        else:
            found = self._peppers.find(seed.pepper_id) if seed.pepper_id else self._peppers.current
            if found is None:
                raise UnknownPepper("the ring does not have this pepper")
            pepper = found
            data = framed(kind.encode(), account.encode(), seed.data)
            token = tokens.derive(kind, account, pepper.derive(data))
        return IssuedKey(token.text, pepper.hash(token.text), token.hint)

    def candidates(self, token: str) -> tuple[KeyHash, ...]:
        return self._peppers.candidates(token)

    def pepper_ids(self) -> tuple[str, ...]:
        return self._peppers.ids


def framed(*parts: bytes) -> bytes:
    """The parts with their lengths, so that different parts never give the same bytes."""
    return b"".join(len(part).to_bytes(4) + part for part in parts)
