"""What happened, counted: the numbers behind the metrics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class CacheStats:
    """Counters of one process since its start. Several threads add to them without a lock, for the hit path's sake."""

    hits: int = 0
    """Answered from memory."""
    misses: int = 0
    """Asked the verifier, and remembered its answer."""
    bypasses: int = 0
    """Asked the verifier because no lease held: each request is checked in the database."""
    cached_refusals: int = 0
    """Refused from memory: a key that was unknown, revoked or expired a moment ago."""
    stale_drops: int = 0
    """Answers not kept because an event that covers them came while they were fetched."""
    events: int = 0
    """Events heard and applied."""
    gaps: int = 0
    """How often the whole memory was emptied: an event was missed, a lease had lapsed, or Redis is another one."""
    renewals: int = 0
    """Leases confirmed."""
    disconnects: int = 0
    """How often the connection to Redis failed, or could not be made."""
    revocations: int = 0
    """Receipts given."""
    unreachable: int = 0
    """Receipts given without Redis."""
    split: int = 0
    """Receipts for which Redis was not enough: a worker renews at another one, or none had acknowledged."""
    intents_applied: int = 0
    """How often this worker forgot what a revocation covers that was begun and not completed."""
    intents_missed: int = 0
    """Revocations that could not be written down before their change was committed."""
    unconfirmed: int = 0
    """Revocations without a receipt: the notices could not be reached."""
