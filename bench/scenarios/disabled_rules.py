"""`wsgi:api` with one of its rules taken out. A proof that can't fail proves nothing: the worlds must notice.

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

Keep = Callable[[], None]


def api(path: str) -> Flask:
    """The API without the rule that is named in the file `path`; if it is empty, the API as it is."""
    application: Flask = wsgi.api
    disable_rules(Path(path), application.extensions[EXTENSION])
    return application


def disable_rules(path: Path, services: Services) -> None:
    """Prepare each of the rules to be taken out."""

    def unless_disabled(rule: str, does: Callable[..., Any], instead: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given: (instead if path.read_text() == rule else does)(*given)

    guard: Any = services.revocation.guard
    # Events are heard and acknowledged, and nothing is forgotten.
    guard._caches[:] = [unless_disabled("forgetting", evict, lambda target: None) for evict in guard._caches]
    # A renewal confirms the lease also of a worker that has missed an event.
    guard.confirm_lease = unless_disabled("epoch", guard.confirm_lease, lambda *renewal: _confirm(guard, *renewal))
    # Whatever the database said is kept, also if a revocation came meanwhile.
    guard.cache_result = unless_disabled("tickets", guard.cache_result, _cache_principal)
    # What is remembered is used whether or not the lease holds.
    verifier: Any = services.verifier
    verifier._guard = GuardWithLeaseCheck(guard, unless_disabled("lease", guard.leases_valid_at, lambda now: True))
    # A revocation that takes long is acted on by workers themselves, which would cover up for what is taken out.
    applied = guard.apply_intent
    guard.apply_intent = lambda target: None if path.read_text() else applied(target)
    # Notices are read, and nothing is forgotten.
    guard.apply_notice = unless_disabled(
        "notices", guard.apply_notice, lambda counted_from, notice: guard.reader_lease.confirm(counted_from)
    )
    # A publication counts at whichever Redis took it, wherever workers renew.
    barrier: Any = services.revocation._barrier
    barrier._other_home_possible = unless_disabled("elsewhere", barrier._other_home_possible, lambda redis: False)


class GuardWithLeaseCheck:
    """A guard whose leases hold when `leases_valid_at` says so."""

    def __init__(self, guard: Guard, leases_valid_at: Callable[[float], bool]) -> None:
        self.take_fill_token = guard.take_fill_token
        self.cache_result = guard.cache_result
        self.leases_valid_at = leases_valid_at


def _confirm(guard: Guard, counted_from: float, epoch: Epoch) -> None:
    guard.epoch = epoch
    guard._home_redis = epoch.redis
    guard.lease.confirm(counted_from)


def _cache_principal(_ticket: int, _scope: RevocationTarget, keep: Keep) -> bool:
    keep()
    return True
