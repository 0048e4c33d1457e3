"""A signed token in its compact form (RFC 7515, section 7.1): read strictly, verified with one key and one algorithm.

PyJWT does the signature's arithmetic. It reads no token and chooses no algorithm: it accepts padded base64url, which
gives one token several spellings.
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
    """A token taken apart. Nothing in it is to be believed before `is_signed_by` said yes."""

    header: Mapping[str, Any]
    payload: Mapping[str, Any] = field(repr=False)
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def parse(token: str) -> Jws:
    """Take a token apart, without any I/O.

    Raises MalformedToken unless it is at most 8 KiB of three canonical base64url parts, of which the first two are JSON
    objects, as `strict` reads them. The signature may be any bytes, none included.
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise MalformedToken(f"The bearer token is over {MAX_TOKEN_BYTES} bytes.")
    parts = token.split(".")
    if len(parts) != 3:
        raise MalformedToken
    try:
        header, payload, signature = (strict.base64url(part) for part in parts)
        return Jws(
            strict.json_object(header), strict.json_object(payload), f"{parts[0]}.{parts[1]}".encode(), signature
        )
    except ValueError:
        raise MalformedToken("The JWT is not three parts of base64url, the first two JSON objects.") from None


def is_signed_by(key: VerificationKey, jws: Jws) -> bool:
    """Whether `key` made the signature, with the algorithm that the header names and that the key is for."""
    algorithm = jws.header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in key.algorithms:
        return False
    return ALGORITHMS[algorithm].verify(jws.signing_input, key.public, jws.signature)
