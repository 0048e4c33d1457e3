"""Ends the sessions of a user, and blocks a user in an account: the one sequence for the API, the Hub, the commands and
the events of the issuer.

    write the cutoff or the block · write the intent · commit · revoke

The intent is part of the transaction. If the process dies before the receipt, workers evict what it covers on their
own, and the same call completes it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from kataven.identity.people import Person
from kataven.revocation.receipt import Receipt
from kataven.revocation.revocation import Intent, Revocation
from kataven.revocation.target import RevocationTarget
from kataven.system import cutoffs, intents, operators
from kataven.system.cutoffs import Block
from kataven.system.database import SystemDatabase
from kataven.system.errors import SystemDatabaseUnavailable

EVENT_APPLIED = "security_event.applied"
EVENT_IGNORED = "security_event.ignored"
"""The actions of the issuer's events in the operator audit log. An applied event without a receipt was not confirmed,
and the issuer sends it again."""
MAX_KIND_LENGTH = 100

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cause:
    """Why access ends, and who decided it. For the audit logs; contains no secret."""

    reason: str
    actor: str


class PeopleAccess:
    """Every method raises SystemDatabaseUnavailable if nothing was changed, and RevocationUnconfirmed if the change is
    committed and no receipt could be obtained. All methods can be repeated."""

    def __init__(self, database: SystemDatabase, revocation: Revocation, issuer: str) -> None:
        self._database = database
        self._revocation = revocation
        self.issuer = issuer
        """The OIDC issuer whose tokens are accepted."""

    def person(self, sub: str) -> Person:
        """The issuer's user with this `sub`."""
        return Person(self.issuer, sub)

    def blocks(self, account: str) -> Sequence[Block]:
        """The users who are blocked in an account, the latest first."""
        with self._database.reading() as session:
            return cutoffs.blocks(session, account)

    def end_sessions(
        self,
        person: Person,
        account: str | None,
        cause: Cause,
        *,
        signed_out: bool = False,
        at: float | None = None,
    ) -> Receipt:
        """Refuse every token that was issued to the user until now, and every session of the Hub that started until
        now; in one account, or in all with None.

        `signed_out`: the sign-in at the issuer ended as well, so that tokens that state an earlier sign-in are refused
        even if they are issued later. `at` is when the issuer's event happened, in Unix seconds by the issuer's clock.
        """
        with self._database.writing() as session:
            cutoffs.add(
                session,
                person,
                account,
                reason=cause.reason,
                created_by=cause.actor,
                signed_out=signed_out,
                at=at,
            )
            intent = _intent(session, person.id, account)
        return self._revocation.revoke(intent)

    def apply_event(self, person: Person, kind: str, cause: Cause, *, signed_out: bool, at: float) -> Receipt:
        """`end_sessions` in all accounts for an event of the issuer, which is added to the operator audit log in the
        same transaction. `kind` is the name of the event."""
        with self._database.writing() as session:
            cutoffs.add(
                session, person, None, reason=cause.reason, created_by=cause.actor, signed_out=signed_out, at=at
            )
            intent = _intent(session, person.id, None)
            detail = {"event": kind, "person": person.id, "sub": person.sub}
            event = operators.record(session, cause.actor, EVENT_APPLIED, None, detail)
            session.flush()
            event_id = event.id
        receipt = self._revocation.revoke(intent)
        try:
            with self._database.writing() as session:
                operators.add_detail(session, event_id, {"receipt": receipt.as_json()})
        except SystemDatabaseUnavailable:  # the event is applied and confirmed; the log line has the receipt
            _log.warning("the receipt of an event could not be added to the operator audit log")
        return receipt

    def record_ignored_event(self, kind: str, actor: str) -> None:
        """Add a verified event that ends nothing to the operator audit log."""
        with self._database.writing() as session:
            operators.record(session, actor, EVENT_IGNORED, None, {"event": kind[:MAX_KIND_LENGTH]})

    def block(self, person: Person, name: str, account: str, cause: Cause) -> Receipt:
        """Refuse the user in one account until `lift`, whatever the issuer's tokens say."""
        with self._database.writing() as session:
            cutoffs.block(session, account, person, name, reason=cause.reason, created_by=cause.actor)
            intent = _intent(session, person.id, account)
        return self._revocation.revoke(intent)

    def lift(self, subject: str, account: str) -> bool:
        """Lift a block. Workers accept the user within moments. Returns whether the user was blocked."""
        with self._database.writing() as session:
            lifted = cutoffs.lift(session, account, subject)
        self._revocation.announce(RevocationTarget(account, subject=subject))
        return lifted


def _intent(session: Session, subject: str, account: str | None) -> Intent:
    target = RevocationTarget(account, subject=subject)
    return Intent(target, str(intents.add(session, target)))
