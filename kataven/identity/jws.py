"""Parses and verifies signed tokens in compact form (RFC 7515, section 7.1), strictly, with one key and one algorithm.

PyJWT only computes the signature. It neither parses tokens nor selects the algorithm, because it accepts padded
base64url, which gives one token several encodings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from jwt.algorithms import Algorithm, ECAlgorithm, OKPAlgorithm, RSAAlgorithm, RSAPSSAlgorithm

from kataven.identity import strict
from kataven.identity.errors import MalformedToken
from kataven.identity.jwk import VerificationKey

MAX_TOKEN_BYTES = 8 * 1024

ALGORITHMS: Final[Mapping[str, Algorithm]] = {
    "RS256": RSAAlgorithm(RSAAlgorithm.SHA256),
    "PS256": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA256),
    "ES256": ECAlgorithm(ECAlgorithm.SHA256),
    "EdDSA": OKPAlgorithm(),
}


@dataclass(frozen=True, slots=True)
class Jws:
    """A parsed token. Its content must not be trusted before `is_signed_by` has returned True."""

    header: Mapping[str, Any]
    payload: Mapping[str, Any] = field(repr=False)
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def parse(token: str) -> Jws:
    """Parse a token, without I/O.

    Raises MalformedToken unless it is at most 8 KiB long and has three parts in canonical base64url, the first two of
    them JSON objects as `strict` parses them. The signature may be any bytes, including none.
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise MalformedToken(f"The bearer token is longer than {MAX_TOKEN_BYTES} bytes.")
    parts = token.split(".")
    if len(parts) != 3:
        raise MalformedToken
    try:
        header, payload, signature = (strict.base64url(part) for part in parts)
        return Jws(
            strict.json_object(header), strict.json_object(payload), f"{parts[0]}.{parts[1]}".encode(), signature
        )
    except ValueError:
        raise MalformedToken("The JWT must have three base64url parts, the first two of them JSON objects.") from None


def is_signed_by(key: VerificationKey, jws: Jws) -> bool:
    """Whether the signature was made with `key` and the header's algorithm, which the key must allow."""
    algorithm = jws.header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in key.algorithms:
        return False
    return ALGORITHMS[algorithm].verify(jws.signing_input, key.public, jws.signature)
