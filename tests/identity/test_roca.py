"""Keys from the generator of CVE-2017-15361 are recognized by their modulus, and other keys are not."""

from __future__ import annotations

import math
import random

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from kataven.identity.jwk import read_key_set
from kataven.identity.roca import has_fingerprint
from tests.support.jose import b64, ed_signer, rsa_signer

PRIMORIAL = math.prod(p for p in range(2, 702) if all(p % divisor for divisor in range(2, math.isqrt(p) + 1)))
"""The product of the first 126 primes, which RSALib uses for primes of 1,024 bits."""


def prime_of_the_generator(chance: random.Random) -> int:
    """The first `k * M + (65537 ** a mod M)` that is prime by Fermat's test, which is sufficient for random numbers."""
    while True:
        start = pow(65537, chance.randrange(1 << 256), PRIMORIAL)
        low, high = (3 << 1022) // PRIMORIAL, (1 << 1024) // PRIMORIAL
        candidate = chance.randrange(low, high) * PRIMORIAL + start
        if pow(2, candidate - 1, candidate) == 1:
            return candidate


@pytest.fixture(scope="module")
def weak_modulus() -> int:
    chance = random.Random(15361)  # noqa: S311  a key that must be weak
    return prime_of_the_generator(chance) * prime_of_the_generator(chance)


def test_a_key_of_the_weak_generator_is_ignored_and_others_are_used(weak_modulus: int) -> None:
    assert weak_modulus.bit_length() == 2048
    weak = rsa_signer().jwk(n=b64(weak_modulus.to_bytes(256, "big")))
    assert set(read_key_set({"keys": [weak, ed_signer("good").jwk()]})) == {"good"}


def test_the_same_modulus_plus_two_has_no_fingerprint(weak_modulus: int) -> None:
    assert not has_fingerprint(weak_modulus + 2)


def test_random_moduli_have_no_fingerprint() -> None:
    """The false positive rate is 1 in 240 million. Random numbers have the same residues as products of two primes."""
    chance = random.Random(1)  # noqa: S311  the same numbers each time
    assert not any(has_fingerprint(chance.getrandbits(2048) | 1) for _ in range(20_000))


@pytest.mark.parametrize("bits", [2048, 3072])
def test_ordinary_keys_are_used(bits: int) -> None:
    private = rsa_signer(bits, "ordinary").private
    assert isinstance(private, rsa.RSAPrivateKey)
    assert not has_fingerprint(private.public_key().public_numbers().n)
    assert set(read_key_set({"keys": [rsa_signer(bits, "ordinary").jwk()]})) == {"ordinary"}
