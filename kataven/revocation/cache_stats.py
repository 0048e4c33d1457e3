"""Counters behind the revocation metrics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class CacheStats:
    """Counters of one process since its start. Threads increment them without a lock, which keeps cache hits fast."""

    hits: int = 0
    """Accepted from the cache."""
    misses: int = 0
    """Verified, and the result was cached."""
    bypasses: int = 0
    """Verified without the cache, because the worker held no valid lease: each request is checked in the database."""
    cached_refusals: int = 0
    """Rejected from the cache: a key that was unknown, revoked or expired a moment ago."""
    stale_drops: int = 0
    """Results not cached, because an event that covers them arrived while they were read."""
    events: int = 0
    """Events received and applied."""
    gaps: int = 0
    """How often the caches were cleared: an event was missed, a lease had expired, or Redis is another server."""
    renewals: int = 0
    """Leases confirmed."""
    disconnects: int = 0
    """How often the connection to Redis failed or could not be opened."""
    revocations: int = 0
    """Receipts returned."""
    unreachable: int = 0
    """Receipts returned while Redis was unreachable."""
    split: int = 0
    """Receipts for which the publication was not sufficient: a worker had another home Redis, or the homes could not be
    read."""
    intents_applied: int = 0
    """How often this worker evicted what an overdue revocation intent covers."""
    intents_missed: int = 0
    """Revocations whose intent could not be written before the commit."""
    journal_missed: int = 0
    """Revocations whose key could not be journalled before the receipt."""
    unconfirmed: int = 0
    """Revocations without a receipt, because the fallback channel was unreachable."""
