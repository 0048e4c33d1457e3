"""Bounds the cost of credential lookups: a Verifier that wraps another Verifier, behind the cache.

    accepted by this worker before?   yes → look up
    budget left?                      yes → look up
    lane free?                        yes → look up, one at a time
    otherwise                         429, without a lookup

Each rejection after a lookup is counted against the budget of the client's address and, if the token's signature was
valid, also of its subject; once the subject's budget is exhausted, its rejections no longer count against the address.
The first rejection of a credential that this worker had accepted is not counted. Cached credentials never reach this
module, so a cached valid key works even if its address has exhausted its budget. A credential that this worker had
accepted before is looked up without a lane.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

from kataven.identity import jws
from kataven.identity.credential import Credential, JwtCredential
from kataven.identity.errors import (
    AccessBlocked,
    AccountMismatch,
    AccountSuspended,
    ExpiredCredential,
    MalformedToken,
    Refused,
    SessionEnded,
)
from kataven.identity.principal import Principal
from kataven.identity.verifier import Verifier
from kataven.ratelimit.address import bucket, network
from kataven.ratelimit.budget import AddressBudget, AddressBudgetKind
from kataven.ratelimit.decision import Decision
from kataven.ratelimit.lane import Lanes
from kataven.ratelimit.limiter import LimitExceeded
from kataven.ratelimit.policy import QuotaSet

MAX_ACCEPTED = 10_000
RETRY_AFTER_MICROSECONDS = 1_000_000

SIGNED = (ExpiredCredential, AccountMismatch, AccountSuspended, SessionEnded, AccessBlocked)
"""Rejections of a JWT after its signature was verified. Only then can its `sub` be trusted."""
OUTCOMES = ("within_budget", "accepted_before", "lane", "refused")

Count = Callable[[str], None]


class MeteredVerifier:
    """Verifies with `inner` within the lookup budgets. Also raises LimitExceeded.

    `address` returns the client's address, or None outside a request, such as in a command. `count` is called with one
    of `OUTCOMES` for each lookup. The state is bounded in size and contains no credentials.
    """

    def __init__(
        self,
        inner: Verifier,
        budget: AddressBudget,
        address: Callable[[], str | None],
        count: Count,
        *,
        lanes: Lanes | None = None,
        max_accepted: int = MAX_ACCEPTED,
    ) -> None:
        self._inner = inner
        self._budget = budget
        self._address = address
        self._count = count
        self._lanes = lanes or Lanes()
        self._accepted = _Recent(max_accepted)
        self._keyed = hashlib.blake2b(key=secrets.token_bytes(32), digest_size=16)

    def verify(self, credential: Credential) -> Principal:
        address = self._address()
        if address is None:
            return self._inner.verify(credential)
        digest = self._digest(credential)
        with self._permit(address, credential, digest):
            try:
                principal = self._inner.verify(credential)
            except Refused as refusal:
                # A credential that was accepted before is not a guess: each acceptance pays for one rejection. So
                # revoking many keys, or measuring revocation latency, spends no budget.
                if not self._accepted.discard(digest):
                    self._spend(address, credential, refusal)
                raise
        self._accepted.add(digest)
        return principal

    @contextmanager
    def _permit(self, address: str, credential: Credential, digest: bytes) -> Iterator[None]:
        if digest in self._accepted:
            self._count("accepted_before")
            yield
            return
        spent = self._spent(address, credential)
        if not spent:
            self._count("within_budget")
            yield
            return
        names = list(spent)
        if not self._lanes.enter(names, digest):
            self._count("refused")
            raise LimitExceeded(_retry_in_a_second(next(iter(spent.values()))))
        self._count("lane")
        try:
            yield
        finally:
            self._lanes.leave(names)

    def _spent(self, address: str, credential: Credential) -> dict[str, Decision]:
        """The lanes that the lookup needs, each with the decision of its exhausted budget; empty if no budget is
        exhausted."""
        spent: dict[str, Decision] = {}
        subject = _subject(credential)
        decision = None if subject is None else self._budget.exhausted(subject, AddressBudgetKind.SUBJECT)
        if decision is not None:
            spent[f"subject:{subject}"] = decision
        decision = self._budget.exhausted(address, AddressBudgetKind.FAILED)
        if decision is not None:
            # One lane for the whole /48, which has 65,536 networks with separate budgets.
            spent[f"address:{network(address) or bucket(address)}"] = decision
        return spent

    def _spend(self, address: str, credential: Credential, refusal: Refused) -> None:
        if isinstance(refusal, SIGNED):
            subject = _subject(credential)
            if subject is not None and not self._budget.spend(subject, AddressBudgetKind.SUBJECT).admitted:
                return  # its lane bounds it: one user's expired token must not spend the budget of a shared address
        self._budget.spend(address, AddressBudgetKind.FAILED)

    def _digest(self, credential: Credential) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(f"{credential.account} {credential.token}".encode())
        return keyed.digest()


class _Recent:
    """A bounded set of digests that evicts the least recently added."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._digests: OrderedDict[bytes, None] = OrderedDict()
        self._lock = Lock()

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._digests

    def add(self, digest: bytes) -> None:
        with self._lock:
            self._digests[digest] = None
            self._digests.move_to_end(digest)
            if len(self._digests) > self._capacity:
                self._digests.popitem(last=False)

    def discard(self, digest: bytes) -> bool:
        """Remove the digest. Returns whether it was present."""
        with self._lock:
            return self._digests.pop(digest, self) is None


def _subject(credential: Credential) -> str | None:
    """The issuer and `sub` that a JWT claims. Not trusted before its signature is verified."""
    if not isinstance(credential, JwtCredential):
        return None
    try:
        payload = jws.parse(credential.token).payload
    except MalformedToken:
        return None
    issuer, subject = payload.get("iss"), payload.get("sub")
    return f"{issuer} {subject}" if isinstance(issuer, str) and isinstance(subject, str) else None


def _retry_in_a_second(decision: Decision) -> Decision:
    """The same decision with `Retry-After` of one second: a lane may be free by then, before the budget is restored."""
    quota_status = decision.refused_by
    if quota_status is None:
        return decision
    return Decision([QuotaSet(quota_status.quota)], False, [quota_status.used, RETRY_AFTER_MICROSECONDS])
