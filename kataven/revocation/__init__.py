"""REVOKED MEANS REVOKED: when a receipt is out, no worker on any host accepts the credential.

    lease     a worker trusts its memory only for a moment at a time
    barrier   a revoker waits until each worker has forgotten, or its lease has lapsed
    epoch     what was missed is noticed, and nothing old is remembered anew

`guard` holds the worker's side of it and `barrier` the revoker's; docs/revocation-protocol.md argues that they suffice.
"""

from kataven.revocation.barrier import Barrier
from kataven.revocation.cache import CachingVerifier, GuardedCache
from kataven.revocation.cache_stats import CacheStats
from kataven.revocation.coordination import Member
from kataven.revocation.fallback.channel import FallbackChannel
from kataven.revocation.guard import Guard
from kataven.revocation.latency_log import Percentiles, RevocationLatencyLog, Summary
from kataven.revocation.receipt import Channel, Receipt, RevocationUnconfirmed
from kataven.revocation.revocation import Intent, Revocation, Status
from kataven.revocation.target import EVERYTHING, RevocationTarget

__all__ = [
    "Barrier",
    "CacheStats",
    "CachingVerifier",
    "Channel",
    "EVERYTHING",
    "FallbackChannel",
    "Guard",
    "GuardedCache",
    "Intent",
    "Member",
    "Receipt",
    "Revocation",
    "RevocationLatencyLog",
    "RevocationTarget",
    "RevocationUnconfirmed",
    "Percentiles",
    "Status",
    "Summary",
]
