"""`wsgi:api` with one rule of the protocol disabled. Each scenario must detect that its rule is missing.

gunicorn "bench.scenarios.disabled_rules:api('/path/to/rule')": the file names the rule and may change at any time.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask

import wsgi
from kataven.revocation.epoch import Epoch
from kataven.revocation.guard import Guard
from kataven.revocation.target import RevocationTarget
from kataven.web.services import EXTENSION, Services

Store = Callable[[], None]


def api(path: str) -> Flask:
    """The API without the rule that the file `path` names; if the file is empty, the unmodified API."""
    application: Flask = wsgi.api
    disable_rules(Path(path), application.extensions[EXTENSION])
    return application


def disable_rules(path: Path, services: Services) -> None:
    """Patch each rule, so that it can be disabled."""

    def unless_disabled(rule: str, does: Callable[..., Any], instead: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given: (instead if path.read_text() == rule else does)(*given)

    guard: Any = services.revocation.guard
    # Events are acknowledged without evicting anything.
    guard._caches[:] = [unless_disabled("evict", evict, lambda target: None) for evict in guard._caches]
    # A renewal confirms the lease of a worker that has missed an event.
    guard.confirm_lease = unless_disabled("epoch", guard.confirm_lease, lambda *renewal: _confirm(guard, *renewal))
    # Every result is cached, even if a revocation arrived while it was read.
    guard.cache_result = unless_disabled("fill tokens", guard.cache_result, _cache_result)
    # The cache is used even if the lease is not valid.
    verifier: Any = services.verifier
    verifier._guard = GuardWithLeaseCheck(guard, unless_disabled("lease", guard.leases_valid_at, lambda now: True))
    # Overdue intents would evict the entry and hide the disabled rule.
    applied = guard.apply_intent
    guard.apply_intent = lambda target: None if path.read_text() else applied(target)
    # Fallback notices are acknowledged without clearing the caches.
    guard.apply_notice = unless_disabled(
        "notices", guard.apply_notice, lambda counted_from, notice: guard.reader_lease.confirm(counted_from)
    )
    # A publication counts at any Redis, regardless of the workers' home Redis.
    barrier: Any = services.revocation._barrier
    barrier._other_home_possible = unless_disabled("other home", barrier._other_home_possible, lambda redis: False)


class GuardWithLeaseCheck:
    """A guard with a replaced lease check."""

    def __init__(self, guard: Guard, leases_valid_at: Callable[[float], bool]) -> None:
        self.take_fill_token = guard.take_fill_token
        self.cache_result = guard.cache_result
        self.leases_valid_at = leases_valid_at


def _confirm(guard: Guard, counted_from: float, epoch: Epoch) -> None:
    guard.epoch = epoch
    guard._home_redis = epoch.redis
    guard.lease.confirm(counted_from)


def _cache_result(_fill_token: int, _target: RevocationTarget, store: Store) -> bool:
    store()
    return True
