"""What finding out about a credential may cost: a Verifier around a Verifier, inside the cache.

    accepted here before?   yes → ask
    budget left?            yes → ask
    a place in the lane?    yes → ask, alone
    otherwise               429, and nothing is asked

Every refusal that had to be found out is counted, but for the first of a credential that was accepted here before: by
the client's address, and if the issuer had signed the token, by its subject. What the cache knows never comes here, so
a good key that is remembered is served whatever its address has spent; and one that was accepted here before is looked
up without a lane.
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
from kataven.identity.errors import AccountMismatch, AccountSuspended, ExpiredCredential, MalformedToken, Refused
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

SIGNED = (ExpiredCredential, AccountMismatch, AccountSuspended)
"""Refusals of a JWT that come after its signature was found good: only then is its `sub` to be believed."""
OUTCOMES = ("within_budget", "accepted_before", "lane", "refused")

Count = Callable[[str], None]


class MeteredVerifier:
    """Verifies through `inner`, as far as budgets go. Also raises LimitExceeded.

    `address` gives the client's address, None where there is no client, as in a command. `count` is told of each
    look-up by one of `OUTCOMES`. Everything that is remembered is bounded, and holds no credential.
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
        with self._admitted(address, credential, digest):
            try:
                principal = self._inner.verify(credential)
            except Refused as refusal:
                # What was good here until now was no guess: each acceptance pays for one refusal. So revoking many
                # keys, or measuring how fast that is, spends nothing.
                if not self._accepted.forget(digest):
                    self._spend(address, credential, refusal)
                raise
        self._accepted.note(digest)
        return principal

    @contextmanager
    def _admitted(self, address: str, credential: Credential, digest: bytes) -> Iterator[None]:
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
            raise LimitExceeded(_soon(next(iter(spent.values()))))
        self._count("lane")
        try:
            yield
        finally:
            self._lanes.leave(names)

    def _spent(self, address: str, credential: Credential) -> dict[str, Decision]:
        """The lanes to take, each with the decision that asks for it; empty while there is room in every budget."""
        spent: dict[str, Decision] = {}
        subject = _subject(credential)
        decision = None if subject is None else self._budget.exhausted(subject, AddressBudgetKind.SUBJECT)
        if decision is not None:
            spent[f"subject:{subject}"] = decision
        decision = self._budget.exhausted(address, AddressBudgetKind.FAILED)
        if decision is not None:
            # One lane for all of a /48, which may hold 65,536 networks that have budgets of their own.
            spent[f"address:{network(address) or bucket(address)}"] = decision
        return spent

    def _spend(self, address: str, credential: Credential, refusal: Refused) -> None:
        if isinstance(refusal, SIGNED):
            subject = _subject(credential)
            if subject is not None and not self._budget.spend(subject, AddressBudgetKind.SUBJECT).admitted:
                return  # its lane bounds it; one person with an old token does not spend what a whole office shares
        self._budget.spend(address, AddressBudgetKind.FAILED)

    def _digest(self, credential: Credential) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(f"{credential.account} {credential.token}".encode())
        return keyed.digest()


class _Recent:
    """The digests that were noted last."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._noted: OrderedDict[bytes, None] = OrderedDict()
        self._lock = Lock()

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._noted

    def note(self, digest: bytes) -> None:
        with self._lock:
            self._noted[digest] = None
            self._noted.move_to_end(digest)
            if len(self._noted) > self._capacity:
                self._noted.popitem(last=False)

    def forget(self, digest: bytes) -> bool:
        """Whether it was there."""
        with self._lock:
            return self._noted.pop(digest, self) is None


def _subject(credential: Credential) -> str | None:
    """Of whom a JWT claims to be, by issuer and `sub`. Not to be believed before its signature was found good."""
    if not isinstance(credential, JwtCredential):
        return None
    try:
        payload = jws.parse(credential.token).payload
    except MalformedToken:
        return None
    issuer, subject = payload.get("iss"), payload.get("sub")
    return f"{issuer} {subject}" if isinstance(issuer, str) and isinstance(subject, str) else None


def _soon(decision: Decision) -> Decision:
    """The same refusal, to be tried again in a second: that is what the lane promises, not a new budget."""
    quota_status = decision.refused_by
    if quota_status is None:
        return decision
    return Decision([QuotaSet(quota_status.quota)], False, [quota_status.used, RETRY_AFTER_MICROSECONDS])
