"""Revoked means revoked: after a receipt, no worker of any host accepts the revoked credential.

    lease     a worker uses its caches only while it holds a lease that Redis confirmed recently
    barrier   a revoker waits until each worker has evicted the credential, or its lease has expired
    epoch     a worker detects a missed event and clears its caches; a result read before an event is not cached after

`guard` implements the worker's side and `barrier` the revoker's. docs/revocation-protocol.md argues that they suffice.
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
