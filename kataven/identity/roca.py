"""RSA keys of Infineon's RSALib, whose private half can be computed from the public one (CVE-2017-15361, "ROCA").

Its primes are `k * M + (65537 ** a mod M)`, where M is the product of the first primes. So modulo each of these small
primes the modulus is a power of 65537, which a random modulus is by chance alone. Source: Nemec, Sys, Svenda, Klinec,
Matyas, "The Return of Coppersmith's Attack", ACM CCS 2017, section 3; the primes up to 167 are those that divide M for
every length of key.
"""

from __future__ import annotations

_GENERATOR = 65537
_PRIMES = tuple(p for p in range(3, 168, 2) if all(p % divisor for divisor in range(3, p, 2)))


def _powers(prime: int) -> frozenset[int]:
    return frozenset(pow(_GENERATOR, exponent, prime) for exponent in range(prime - 1))


_POWERS = tuple((prime, _powers(prime)) for prime in _PRIMES)


def has_fingerprint(modulus: int) -> bool:
    """Whether an RSA modulus is one of these. One in 240 million others looks like them."""
    return all(modulus % prime in powers for prime, powers in _POWERS)
