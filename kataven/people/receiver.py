"""Applies the security events of a transmitter (Shared Signals Framework 1.0): CAEP and RISC events that end access."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from kataven.identity.errors import VerifierUnavailable
from kataven.people.access import Cause, PeopleAccess
from kataven.people.replays import EventInProgress, Replays
from kataven.people.signed_events import SIGNED_OUT, AccessEnded, EventRefused, SignedEvents
from kataven.revocation.receipt import RevocationUnconfirmed

REMEMBERED_SECONDS = 7 * 24 * 3600
"""How long a `jti` is remembered. A SET has no expiry, and a transmitter retries for days at most."""

NOT_APPLIED = (RevocationUnconfirmed, VerifierUnavailable, EventInProgress)
"""The exceptions after which the event must be received again."""

EVENT_OUTCOMES = (
    *((kind.rpartition("/")[2], outcome) for kind in SIGNED_OUT for outcome in ("applied", "unconfirmed")),
    ("any", "repeated"),
    ("other", "ignored"),
)
"""The events that `count` is called with, each with its outcomes."""

ACTOR = "issuer:security-events"

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

    def receive(self, token: str, jti: str | None = None) -> None:
        """Return when no worker accepts what the events end. A SET that was applied before has no effect.

        `jti` is the id under which the transmitter delivered the SET, if it named one. Raises EventRefused, or one of
        `NOT_APPLIED` if the SET must be received again.
        """
        found = self.events.security_events(token)
        if jti is not None and jti != found.jti:
            raise EventRefused("jti", "The SET's `jti` is not the one that it was delivered under.")
        with self.replays.claimed(self.issuer, found.jti):
            if self.replays.was_applied(self.issuer, found.jti):
                self.count("any", "repeated")  # RFC 8935, section 2: a transmitter may send a SET more than once
                return
            for ended in found.ended:
                if ended.person.issuer != self.people.issuer:
                    raise EventRefused("subject", "The subject's `iss` is not the issuer whose tokens are accepted.")
            for ended in found.ended:
                self._apply(ended)
            for kind in found.ignored:
                self.people.record_ignored_event(kind.rpartition("/")[2], ACTOR)
                self.count("other", "ignored")
                _log.info("security event ignored", extra={"security_event": kind})
            self.replays.remember(self.issuer, found.jti, REMEMBERED_SECONDS)

    def _apply(self, ended: AccessEnded) -> None:
        kind = ended.kind.rpartition("/")[2]
        try:
            receipt = self.people.apply_event(
                ended.person,
                kind,
                Cause(f"security event {kind}", ACTOR),
                signed_out=ended.signed_out,
                at=ended.at,
            )
        except BaseException:
            self.count(kind, "unconfirmed")
            raise
        self.count(kind, "applied")
        extra = {"security_event": kind, "person": ended.person.id, "receipt": receipt.as_json()}
        _log.info("sessions ended by a security event", extra=extra)
