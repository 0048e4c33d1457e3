"""Who came and who left, written down: a line in the log and a number for each, and an event in the account's trail.

Only who has a role in the account comes into its trail. A sign-in that fails is a line and a number and nothing more,
so strangers fill no database.
"""

from __future__ import annotations

import logging

from sqlalchemy.exc import SQLAlchemyError

from kataven.account import audit
from kataven.account.audit import Actor
from kataven.hub.page import Visit
from kataven.hub.provider import GrantGone
from kataven.hub.sessions import Person
from kataven.hub.sign_in_failure import Reason, SignInFailed
from kataven.identity.credential import OPERATORS_ACCOUNT
from kataven.system import operators
from kataven.system.errors import SystemDatabaseUnavailable
from kataven.tenancy.errors import TenancyError
from kataven.web.metrics import Metrics

SIGNED_IN, SIGNED_OUT, NOT_RENEWED = "signed_in", "signed_out", "not_renewed"

_log = logging.getLogger(__name__)


def install(metrics: Metrics) -> None:
    """Make every number at 0, so that the first of its kind is a rise that an alert sees."""
    for outcome in (SIGNED_IN, SIGNED_OUT, NOT_RENEWED, *Reason):
        metrics.sign_ins.labels(str(outcome))


def signed_in(visit: Visit, person: Person, account: str, *, belongs: bool) -> str | None:
    """Somebody is in. The account in whose trail it stands: none for who does not belong to it."""
    visit.services.metrics.sign_ins.labels(SIGNED_IN).inc()
    _log.info("signed in", extra={"account": account, "sub": person.subject})
    return account if belongs and _recorded(visit, person, account, SIGNED_IN) else None


def signed_out(visit: Visit, person: Person, recorded_in: str | None) -> None:
    """Somebody left, of their own will."""
    visit.services.metrics.sign_ins.labels(SIGNED_OUT).inc()
    _log.info("signed out", extra={"account": recorded_in, "sub": person.subject})
    if recorded_in is not None:
        _recorded(visit, person, recorded_in, SIGNED_OUT)


def refused(visit: Visit, failure: SignInFailed) -> None:
    """A sign-in failed."""
    visit.services.metrics.sign_ins.labels(failure.reason.value).inc()
    _log.warning("sign-in refused", extra=_known(failure))


def not_renewed(visit: Visit, person: Person, gone: GrantGone) -> None:
    """A session ends, since its token did and there is no other."""
    visit.services.metrics.sign_ins.labels(NOT_RENEWED).inc()
    known = {"reason": "no_refresh_token"} if gone.failure is None else _known(gone.failure)
    _log.warning("session ended: its token was not renewed", extra={**known, "sub": person.subject})


def _recorded(visit: Visit, person: Person, account: str, what: str) -> bool:
    """Whether the trail has it. A database that is away keeps nobody out or in; the log has the line in any case."""
    try:
        if account == OPERATORS_ACCOUNT:
            detail = {"address": visit.address, "request_id": visit.request_id}
            with visit.services.directory.database.writing() as session:
                operators.record(session, f"jwt:{person.subject}", f"operator.{what}", None, detail)
            return True
        record = visit.services.directory.find(account)
        if record is None:
            return False
        actor = Actor(f"jwt:{person.subject}", person.name, visit.request_id, visit.address)
        with visit.services.registry.writing(record.tenant) as session:
            audit.record(session, actor, f"person.{what}")
    except (TenancyError, SystemDatabaseUnavailable, SQLAlchemyError) as error:
        _log.warning(
            "the account's trail lacks this: %s", type(error).__name__, extra={"account": account, "what": what}
        )
        return False
    return True


def _known(failure: SignInFailed) -> dict[str, str]:
    return {name: said for name, said in failure.for_log().items() if said is not None}
