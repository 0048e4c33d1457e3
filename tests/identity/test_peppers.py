"""Peppers: the stored hash of a key, and the format of the ring."""

import hashlib
import hmac

import pytest

from kataven.identity.peppers import Pepper, PepperRing

OLD = Pepper("2025a", b"o" * 32)
NEW = Pepper("2026a", b"n" * 32)


def test_a_key_is_stored_as_its_hmac_sha256_under_the_pepper() -> None:
    stored = NEW.hash("sk_live_acme_x")
    assert (stored.pepper_id, stored.digest) == (
        "2026a",
        hmac.new(b"n" * 32, b"sk_live_acme_x", hashlib.sha256).digest(),
    )


def test_the_first_pepper_is_current_and_all_are_candidates() -> None:
    ring = PepperRing([NEW, OLD])
    assert ring.current is NEW
    assert [candidate.pepper_id for candidate in ring.candidates("k")] == ["2026a", "2025a"]


def test_a_ring_is_parsed_from_ids_and_base64url() -> None:
    ring = PepperRing.parse(
        "2026a:bm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm4, 2025a:b29vb29vb29vb29vb29vb29vb29vb29vb29vb29vb28="
    )
    assert [candidate.pepper_id for candidate in ring.candidates("k")] == ["2026a", "2025a"]
    assert ring.current == NEW


@pytest.mark.parametrize(
    "text", ["", "a", ":", "2026a:", "2026a:c2hvcnQ", "2026a:???", "UPPER:" + "n" * 43, f"a:{'n' * 43},a:{'o' * 43}"]
)
def test_an_unusable_ring_is_rejected_without_repeating_a_secret(text: str) -> None:
    with pytest.raises(ValueError, match="pepper") as refused:
        PepperRing.parse(text)
    for part in text.split(","):
        secret = part.partition(":")[2]
        assert not secret or secret not in str(refused.value)


def test_repr_contains_no_secret() -> None:
    assert "nnn" not in repr(NEW)
    assert repr(NEW.hash("k").digest) not in repr(NEW.hash("k"))
