"""An application without a fallback channel gets no receipt that is not true."""

from __future__ import annotations

import pytest

from kataven.revocation.fallback.channel import FallbackChannel
from kataven.revocation.fallback.none import NoFallback
from kataven.revocation.receipt import Channel, RevocationUnconfirmed
from kataven.revocation.revocation import Revocation
from kataven.revocation.target import RevocationTarget

TARGET = RevocationTarget("team-7", "session-1")


def test_receipt_is_returned_through_redis(redis_url: str) -> None:
    channel: FallbackChannel = NoFallback()
    revocation = Revocation(redis_url, namespace="shop", fallback=channel)
    assert revocation.revoke(TARGET).channel is Channel.REDIS
    assert revocation.write_intent(TARGET).id is None
    revocation.stop()


def test_revocation_without_redis_is_unconfirmed() -> None:
    revocation = Revocation("redis://127.0.0.1:1/0", fallback=NoFallback(), lease_seconds=0.2)
    with pytest.raises(RevocationUnconfirmed):
        revocation.revoke(TARGET)
    revocation.stop()
