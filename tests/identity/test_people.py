"""Users of an issuer: their ids, and which tokens a cutoff refuses."""

from __future__ import annotations

import math
from uuid import UUID

import pytest

from kataven.identity.errors import AccessBlocked, SessionEnded
from kataven.identity.people import UNRESTRICTED, Person, Presented, Restrictions


def test_the_id_is_a_uuid_of_the_issuer_and_the_sub() -> None:
    person = Person("https://issuer.example", "alice")
    assert person.id == Person("https://issuer.example", "alice").id
    assert UUID(person.id).version == 8
    others = [Person("https://issuer.example", "bob"), Person("https://issuer.example/2", "alice")]
    assert len({person.id, *(other.id for other in others)}) == 3
    assert "alice" not in person.id


@pytest.mark.parametrize(
    ("cutoff", "issued_at", "refused"),
    [
        (100.0, 99.0, True),
        (100.0, 100.0, True),
        (100.9, 100.0, True),
        (100.1, 100.9, True),
        (100.9, 101.0, False),
        (100.0, 101.0, False),
        (100.0, None, True),
        (math.inf, 1e12, True),
        (-math.inf, 0.0, False),
        (-math.inf, None, False),
    ],
)
def test_what_was_issued_in_the_second_of_the_cutoff_or_earlier_is_refused(
    cutoff: float, issued_at: float | None, refused: bool
) -> None:
    refusal = Restrictions(ended_at=cutoff).refusal(Presented("alice", issued_at))
    assert isinstance(refusal, SessionEnded) is refused


@pytest.mark.parametrize(("signed_in_at", "refused"), [(99.0, True), (100.0, True), (101.0, False), (None, False)])
def test_a_later_token_of_an_earlier_sign_in_is_refused_after_a_sign_out(
    signed_in_at: float | None, refused: bool
) -> None:
    restrictions = Restrictions(ended_at=100, signed_out_at=100)
    assert isinstance(restrictions.refusal(Presented("alice", 200, signed_in_at)), SessionEnded) is refused


def test_a_block_refuses_every_token() -> None:
    assert isinstance(Restrictions(blocked=True).refusal(Presented("alice", 1e12)), AccessBlocked)
    assert UNRESTRICTED.refusal(Presented("alice", None)) is None


def test_the_oldest_time_of_a_token_decides_whether_a_cutoff_may_concern_it() -> None:
    assert Presented("alice", 200, 100).oldest == 100
    assert Presented("alice", 200).oldest == 200
    assert Presented("alice", None, 100).oldest == -math.inf
