"""Encryption with a secret that only the browser has: AES-256-GCM, with a key derived by HKDF (RFC 5869)."""

from __future__ import annotations

import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE_BYTES: Final = 12


def seal(content: bytes, secret: str, name: str, purpose: bytes) -> bytes:
    """Encrypt `content` with `secret`, bound to this name."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(_key(secret, purpose)).encrypt(nonce, content, name.encode())


def unseal(sealed: bytes, secret: str, name: str, purpose: bytes) -> bytes | None:
    """The decrypted content, or None if the secret, the name or the purpose differs."""
    try:
        return AESGCM(_key(secret, purpose)).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name.encode())
    except (InvalidTag, ValueError):
        return None


def _key(secret: str, purpose: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=purpose).derive(secret.encode())
