"""`wsgi:api` with one of its rules taken out. A proof that can't fail proves nothing: the worlds must notice.

gunicorn "bench.worlds.sabotage:api('/path/to/rule')": the file names the rule, and may be written anew at any time.
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
    take_out(Path(path), application.extensions[EXTENSION])
    return application


def take_out(path: Path, services: Services) -> None:
    """Prepare each of the rules to be taken out."""

    def without(rule: str, does: Callable[..., Any], instead: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given: (instead if path.read_text() == rule else does)(*given)

    guard: Any = services.revocation.guard
    # Events are heard and acknowledged, and nothing is forgotten.
    guard._memories[:] = [without("forgetting", forget, lambda scope: None) for forget in guard._memories]
    # A renewal confirms the lease also of a worker that has missed an event.
    guard.lease_confirmed = without("epoch", guard.lease_confirmed, lambda *renewal: _confirm(guard, *renewal))
    # Whatever the database said is kept, also if a revocation came meanwhile.
    guard.finish_fill = without("tickets", guard.finish_fill, _keep)
    # What is remembered is used whether or not the lease holds.
    verifier: Any = services.verifier
    verifier._guard = Trusting(guard, without("lease", guard.holds_at, lambda now: True))
    # A revocation that takes long is acted on by workers themselves, which would cover up for what is taken out.
    apply_intent = guard.apply_intent
    guard.apply_intent = lambda scope: None if path.read_text() else apply_intent(scope)
    # Notices are read, and nothing is forgotten.
    guard.apply_notice = without(
        "notices", guard.apply_notice, lambda asked_at, notice: guard.reading.confirm(asked_at)
    )
    # A publication counts at whichever Redis took it, wherever workers renew.
    barrier: Any = services.revocation._barrier
    barrier._may_be_elsewhere = without("elsewhere", barrier._may_be_elsewhere, lambda redis: False)


class Trusting:
    """A guard whose leases hold when `holds_at` says so."""

    def __init__(self, guard: Guard, holds_at: Callable[[float], bool]) -> None:
        self.start_fill = guard.start_fill
        self.finish_fill = guard.finish_fill
        self.holds_at = holds_at


def _confirm(guard: Guard, asked_at: float, epoch: Epoch) -> None:
    guard.epoch = epoch
    guard._renews_at = epoch.redis
    guard.lease.confirm(asked_at)


def _keep(_ticket: int, _scope: RevocationTarget, keep: Keep) -> bool:
    keep()
    return True
