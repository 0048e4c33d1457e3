"""REVOKED MEANS REVOKED: when a receipt is out, no worker on any host accepts the credential.

    lease     a worker trusts its memory only for a moment at a time
    barrier   a revoker waits until each worker has forgotten, or its lease has lapsed
    epoch     what was missed is noticed, and nothing old is remembered anew

`guard` holds the worker's side of it and `barrier` the revoker's; docs/revocation-protocol.md argues that they suffice.
"""

from kataven.revocation.barrier import Barrier
from kataven.revocation.board import Member
from kataven.revocation.cache import CachingVerifier, GuardedCache
from kataven.revocation.canary import Canary, Spread, Summary
from kataven.revocation.guard import Guard
from kataven.revocation.ledger import Ledger
from kataven.revocation.notices import Notices
from kataven.revocation.receipt import NobodyTold, Receipt, Told
from kataven.revocation.revocation import Intent, Revocation, Status
from kataven.revocation.scope import EVERYTHING, Scope

__all__ = [
    "EVERYTHING",
    "Barrier",
    "CachingVerifier",
    "Canary",
    "Guard",
    "GuardedCache",
    "Intent",
    "Ledger",
    "Member",
    "NobodyTold",
    "Notices",
    "Receipt",
    "Revocation",
    "Scope",
    "Spread",
    "Status",
    "Summary",
    "Told",
]
