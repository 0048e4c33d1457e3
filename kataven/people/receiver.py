"""Applies the security events of a transmitter (Shared Signals Framework 1.0): CAEP and RISC events that end access."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from kataven.people.access import Cause, PeopleAccess
from kataven.people.replays import Replays
from kataven.people.signed_events import SIGNED_OUT, AccessEnded, EventRefused, SignedEvents

REMEMBERED_SECONDS = 7 * 24 * 3600
"""How long a `jti` is remembered. A SET has no expiry, and a transmitter retries for days at most."""

EVENT_OUTCOMES = (
    *((kind.rpartition("/")[2], outcome) for kind in SIGNED_OUT for outcome in ("applied", "unconfirmed")),
    ("any", "repeated"),
    ("other", "ignored"),
)
"""The events that `count` is called with, each with its outcomes."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SecurityEventReceiver:
    """Verifies and applies SETs. `count` is called with each event's type and what was done."""

    events: SignedEvents
    issuer: str
    """The transmitter."""
    people: PeopleAccess
    replays: Replays
    count: Callable[[str, str], None]

    def receive(self, token: str) -> None:
        """Return when no worker accepts what the events end. A SET that was applied before has no effect.

        Raises EventRefused; RevocationUnconfirmed or VerifierUnavailable if the transmitter must send the SET again.
        """
        found = self.events.security_events(token)
        if self.replays.was_applied(self.issuer, found.jti):
            self.count("any", "repeated")  # RFC 8935, section 2: a transmitter may send a SET more than once
            return
        for ended in found.ended:
            if ended.person.issuer != self.people.issuer:
                raise EventRefused("subject", "The subject's `iss` is not the issuer whose tokens are accepted.")
        for ended in found.ended:
            self._apply(ended)
        for kind in found.ignored:
            self.count("other", "ignored")
            _log.info("security event ignored", extra={"event": kind})
        self.replays.remember(self.issuer, found.jti, REMEMBERED_SECONDS)

    def _apply(self, ended: AccessEnded) -> None:
        kind = ended.kind.rpartition("/")[2]
        cause = Cause(f"security event {kind}", "issuer:security-events")
        try:
            receipt = self.people.end_sessions(ended.person, None, cause, signed_out=ended.signed_out, at=ended.at)
        except BaseException:
            self.count(kind, "unconfirmed")
            raise
        self.count(kind, "applied")
        extra = {"event": kind, "person": ended.person.id, "receipt": receipt.as_json()}
        _log.info("sessions ended by a security event", extra=extra)
