"""A bounded cache. Each entry has a time to live and a target, and is evicted by events that cover the target."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from threading import Lock
from typing import Generic, NamedTuple, TypeVar

from kataven.revocation.target import RevocationTarget

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class _Item(NamedTuple, Generic[Value]):
    value: Value
    target: RevocationTarget
    expires: float


class ScopedTtlCache(Generic[Key, Value]):
    """At most `capacity` values. If the cache is full, the oldest entry is evicted.

    All entries have the same time to live, so the oldest entry is also the next to expire. Reads therefore reorder
    nothing and take no lock. `put` and `get` must use the same clock.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: dict[Key, _Item[Value]] = {}
        self._by_account: defaultdict[str | None, set[Key]] = defaultdict(set)
        self._by_subject: defaultdict[str, set[Key]] = defaultdict(set)
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: Key, now: float) -> Value | None:
        item = self._items.get(key)
        return item.value if item is not None and now < item.expires else None

    def put(self, key: Key, value: Value, target: RevocationTarget, *, now: float, expires: float) -> None:
        with self._lock:
            self._drop(key)
            self._make_space(now)
            self._items[key] = _Item(value, target, expires)
            self._by_account[target.account].add(key)
            if target.subject is not None:
                self._by_subject[target.subject].add(key)

    def evict(self, target: RevocationTarget) -> None:
        """Remove every entry that `target` covers."""
        with self._lock:
            if target.account is None and target.subject is None:
                self._items.clear()
                self._by_account.clear()
                self._by_subject.clear()
                return
            # Entries without an account depend on all accounts.
            candidates = set(self._by_account.get(target.account, ()))
            if target.account is None and target.subject is not None:
                candidates |= self._by_subject.get(target.subject, set())
            for key in candidates:
                if target.covers(self._items[key].target):
                    self._drop(key)

    def _make_space(self, now: float) -> None:
        while self._items:
            oldest = next(iter(self._items))
            if len(self._items) < self._capacity and now < self._items[oldest].expires:
                return
            self._drop(oldest)

    def _drop(self, key: Key) -> None:
        item = self._items.pop(key, None)
        if item is None:
            return
        keys = self._by_account[item.target.account]
        keys.discard(key)
        if not keys:
            del self._by_account[item.target.account]
        if item.target.subject is not None:
            keys = self._by_subject[item.target.subject]
            keys.discard(key)
            if not keys:
                del self._by_subject[item.target.subject]
